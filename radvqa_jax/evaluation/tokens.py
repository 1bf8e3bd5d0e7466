"""The tokens of NLTK, sacreBLEU (13a) and rouge-score, equal to theirs for any text, in a tenth of their time.

Their tokenizers run twenty to forty expressions over each text, which takes longer than everything else that scoring
does. The tokens of a word depend, with few exceptions, on that word and on an adjacent space. So the library splits
each word once and the result is kept; a sentence with an exception goes to the library whole. The tests compare each
function with its library.
"""

import functools
import itertools
import re
from collections.abc import Iterator

from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

# nltk.word_tokenize needs the downloaded model punkt_tab. These are its two steps with a Punkt that knows no
# abbreviation: the tokens are the same unless a text has a sentence break that only the model denies ("vs. the").
_SENTENCES, _NLTK = PunktSentenceTokenizer(), NLTKWordTokenizer()
_KEPT, _LONGEST = 1 << 16, 40  # words that are kept; the letters of a word that may come again

# The effect of a word on its sentence, for any Punkt without abbreviations.
_PLAIN, _ENDS, _ASKS, _NUMBER, _STOPS, _EXCEPTION = range(6)
_ENDING = re.compile(r"[a-z]{2,}[.?!]")  # ends a sentence before a word that begins with a letter or digit
_NUMBERED = re.compile(r"\d{1,2}\.")  # "1. lung" goes on
# Characters that make the tokens of a sentence depend on more than one word: quotation marks, apostrophes at the edge
# of a word, letters whose case Punkt reads, a full stop before another mark.
_UNUSUAL = re.compile(r"[^a-z0-9!#$%&()*+,./:;<=>?@\[\\\]^_{|}~'-]|(?<![a-z0-9])'|'(?![a-z0-9])|\.(?=[^a-z0-9])")
_BEGINS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALPHANUMERIC, _WORD = re.compile("[a-z0-9]+"), re.compile(r"\S+")
_HAS_DIGIT = re.compile("[a-z]*[0-9][a-z0-9]*")
_ROUGE_STEMMED = 3  # rouge-score does not stem words of at most this many letters


def _nltk(text: str) -> list[str]:
    return [token for sentence in _SENTENCES.tokenize(text) for token in _NLTK.tokenize(sentence)]


@functools.lru_cache(_KEPT)
def _kind(word: str) -> int:
    """The effect of a word on its sentence."""
    if _UNUSUAL.search(word):
        return _EXCEPTION
    if _ENDING.fullmatch(word):
        return _ENDS if word[-1] == "." else _ASKS
    if word[-1] != ".":
        return _PLAIN
    return _NUMBER if _NUMBERED.fullmatch(word) else _STOPS


@functools.lru_cache(_KEPT)
def _inner(word: str) -> tuple[str, ...]:
    """The tokens of a word inside a sentence."""
    if _HAS_DIGIT.fullmatch(word):  # no contraction, and nothing to split at; files are full of numbers seen once
        return (word,)
    return tuple(_NLTK.tokenize(f"x {word} x")[1:-1])


@functools.lru_cache(_KEPT)
def _final(word: str) -> tuple[str, ...] | None:
    """The tokens of the last word of a sentence; None if they depend on the word before it."""
    return tuple(_NLTK.tokenize(f"x {word}")[1:]) if _ALPHANUMERIC.search(word) else None


def _sentences_of(words: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Yields the words at which each sentence begins and ends, and whether it has an exception."""
    start, exceptional = 0, False
    for index, kind in enumerate(map(_kind, words)):
        if kind == _PLAIN:
            continue
        following = words[index + 1][0] if index + 1 < len(words) else ""
        if kind in (_ENDS, _ASKS) and following in _BEGINS:
            yield start, index + 1, exceptional
            start, exceptional = index + 1, False
        elif kind == _EXCEPTION:
            exceptional = True
        elif following and kind != _ASKS:  # a full stop that may or may not end a sentence
            exceptional |= kind != _NUMBER or following not in _BEGINS or following.isdigit()
    if start < len(words):
        yield start, len(words), exceptional


def nltk_tokens(text: str) -> list[str]:
    """The words and marks of a lower-case text, as nltk.word_tokenize splits them.

    >>> nltk_tokens("no. it isn't")
    ['no', '.', 'it', 'is', "n't"]
    """
    words = text.split()
    if len(max(words, key=len, default="")) > _LONGEST:
        return _nltk(text)
    found = list(map(_inner, words))
    places: list[re.Match[str]] = []
    for start, end, exceptional in _sentences_of(words):
        last = None if exceptional else _final(words[end - 1])
        if last is None:
            places = places or list(_WORD.finditer(text))
            last = tuple(_nltk(text[places[start].start() : places[end - 1].end()]))
            found[start : end - 1] = [()] * (end - 1 - start)
        found[end - 1] = last
    return list(itertools.chain.from_iterable(found))


_13A, _13A_WORD = Tokenizer13a(), TokenizerRegexp()
_13A_EXCEPTIONS = ("&", "-\n", "<skipped>")  # 13a's replacements before it splits words


@functools.lru_cache(_KEPT)
def _13a(word: str) -> tuple[str, ...]:
    return tuple(_13A_WORD(f" {word} ").split())


def sacrebleu_tokens(text: str) -> list[str]:
    """The words and marks of a text, as sacreBLEU's tokenizer 13a splits them.

    >>> sacrebleu_tokens("5.5 cm, left-sided.")
    ['5.5', 'cm', ',', 'left-sided', '.']
    """
    text = text.rstrip()
    words = text.split()
    if any(part in text for part in _13A_EXCEPTIONS) or (words and len(max(words, key=len)) > _LONGEST):
        found = _13A(text).split()
        for cached in (Tokenizer13a, TokenizerRegexp):  # the library's own caches would keep 65,536 texts of any length
            cached.__call__.cache_clear()
        return found
    return list(itertools.chain.from_iterable(map(_13a, words)))


class _Stemmer(PorterStemmer):
    """Porter's stemmer, which keeps the stems of words that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = functools.lru_cache(_KEPT)(self._stem)

    def _stem(self, word: str) -> str:
        return self.stem(word) if len(word) > _ROUGE_STEMMED else word


_STEMMER = _Stemmer()


@functools.lru_cache(4)  # every system reads the words of the same answer
def _alphanumeric(text: str) -> list[str]:
    return _ALPHANUMERIC.findall(text)


def rouge_tokens(text: str, *, stem: bool = True) -> list[str]:
    """The tokens that rouge-score compares.

    >>> rouge_tokens("The left-sided masses."), rouge_tokens("masses", stem=False)
    (['the', 'left', 'side', 'mass'], ['masses'])
    """
    words = _alphanumeric(text.lower().strip(" .\n"))
    if not stem:
        return words.copy()
    if len(max(words, key=len, default="")) > _LONGEST:
        return [_STEMMER.kept(word) if len(word) <= _LONGEST else _STEMMER.stem(word) for word in words]
    return list(map(_STEMMER.kept, words))
