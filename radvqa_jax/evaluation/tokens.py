"""The tokens of NLTK, sacreBLEU (13a) and rouge-score, equal to theirs for any text, in a tenth of their time.

Their tokenizers run twenty to forty expressions over each text, which takes longer than everything else that scoring
does. What they make of a word depends, with few exceptions, on that word and on a space beside it. So each word is
split by the library once and kept; a sentence with an exception goes to the library whole. The tests hold each function
to its library.
"""

import functools
import itertools
import re

from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

# nltk.word_tokenize needs the downloaded model punkt_tab. These are its two steps with a Punkt that knows no
# abbreviation: the tokens are the same unless a text has a sentence break that only the model denies ("vs. the").
_SENTENCES, _NLTK = PunktSentenceTokenizer(), NLTKWordTokenizer()
_KEPT, _LONGEST = 1 << 16, 40  # words that are kept; the letters of a word that may come again

# Where a sentence ends for any Punkt without abbreviations: behind a word of two letters or more.
_BREAK = r"(?<!\S)[a-z]{2,}[.?!](?P<gap>\s+)(?=[a-z0-9])"
# What makes the tokens of a sentence depend on more than one word: quotation marks, apostrophes at the edge of a word,
# a full stop that may end a sentence or not ("1. lung" does not), and letters whose case Punkt reads.
_EXCEPTION = (
    r"[^a-z0-9\s!#$%&()*+,./:;<=>?@\[\\\]^_{|}~'-]|(?<![a-z0-9])'|'(?![a-z0-9])"
    r"|\.(?=[^a-z0-9\s])|\.(?<!\s\d\.)(?<!\s\d\d\.)\s|\.\s+(?![a-z])"
)
_BREAK_OR_EXCEPTION = re.compile(f"{_BREAK}|{_EXCEPTION}")
_ALPHANUMERIC = re.compile("[a-z0-9]+")
_ROUGE_STEMMED = 3  # rouge-score leaves words of so many letters as they are


def _nltk(text: str) -> list[str]:
    return [token for sentence in _SENTENCES.tokenize(text) for token in _NLTK.tokenize(sentence)]


@functools.lru_cache(_KEPT)
def _inner(word: str) -> tuple[str, ...]:
    """The tokens of a word inside a sentence."""
    return tuple(_NLTK.tokenize(f"x {word} x")[1:-1])


@functools.lru_cache(_KEPT)
def _final(word: str) -> tuple[str, ...]:
    """The tokens of the last word of a sentence."""
    return tuple(_NLTK.tokenize(f"x {word}")[1:])


def nltk_tokens(text: str) -> list[str]:
    """The words and marks of a lower-case text, as nltk.word_tokenize splits them.

    >>> nltk_tokens("no. it isn't")
    ['no', '.', 'it', 'is', "n't"]
    """
    found: list[str] = []
    text = f" {text}"  # what looks back from the first word finds what it finds between words
    start, exceptional = 0, False
    for match in _BREAK_OR_EXCEPTION.finditer(text):
        if (end := match.start("gap")) < 0:
            exceptional = True
            continue
        found += _sentence(text[start:end], exceptional)
        start, exceptional = end, False
    return found + _sentence(text[start:], exceptional)


def _sentence(text: str, exceptional: bool) -> list[str]:
    words = text.split()
    if not words:
        return []
    if exceptional or not _ALPHANUMERIC.search(words[-1]) or len(max(words, key=len)) > _LONGEST:
        return _nltk(text.strip())
    last = words.pop()
    found = list(itertools.chain.from_iterable(map(_inner, words)))
    found += _final(last)
    return found


_13A, _13A_WORD = Tokenizer13a(), TokenizerRegexp()
_13A_EXCEPTIONS = ("&", "-\n", "<skipped>")  # what 13a replaces before it looks at words


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
        for cached in (Tokenizer13a, TokenizerRegexp):  # they would keep 65,536 texts of any length
            cached.__call__.cache_clear()
        return found
    return list(itertools.chain.from_iterable(map(_13a, words)))


class _Stemmer(PorterStemmer):
    """Porter's stemmer that keeps the stems of words that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = functools.lru_cache(_KEPT)(self._stem)

    def _stem(self, word: str) -> str:
        return self.stem(word) if len(word) > _ROUGE_STEMMED else word


_STEMMER = _Stemmer()


def rouge_tokens(text: str, *, stem: bool = True) -> list[str]:
    """The tokens that rouge-score compares.

    >>> rouge_tokens("The left-sided masses."), rouge_tokens("masses", stem=False)
    (['the', 'left', 'side', 'mass'], ['masses'])
    """
    words = _ALPHANUMERIC.findall(text.lower())
    if not stem:
        return words
    if len(max(words, key=len, default="")) > _LONGEST:
        return [_STEMMER.kept(word) if len(word) <= _LONGEST else _STEMMER.stem(word) for word in words]
    return list(map(_STEMMER.kept, words))
