"""Pairs that repeat another one: about the same image, in another split, or in an evaluation set.

The same short question about many images is not a repetition. Within an image a pair repeats another one if question
and answer are the same, or nearly the same with the same sides, modalities, findings and numbers. Between sets two
pairs are the same if their word 3-grams have a Jaccard similarity above a threshold: MinHash finds candidates, and the
similarity is then computed exactly. Only pairs with enough content words are compared, because shorter ones recur by
chance.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from datasketch import MinHash, MinHashLSH
from rapidfuzz import fuzz

from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.synthesis import claims
from radvqa_jax.synthesis import vocabulary as v
from radvqa_jax.synthesis.checks import PASSED, Item, Result

PERMUTATIONS = 64
GRAM = 3  # words
# Later splits are kept: a training pair that repeats a test pair is dropped.
SPLIT_ORDER = {"train": 0, "validation": 1, "test": 2}
_OPPOSED = frozenset(word for group in v.OPPOSITES for word in group)
_KEYS = frozenset({*v.MODALITIES, *v.SIDES, *v.PLANES, *_OPPOSED, "lateral"})


class Known(NamedTuple):
    """A question of a set that is evaluated."""

    set_name: str
    question_id: str
    question: str
    answer: str


@functools.lru_cache(maxsize=1 << 16)
def _key_words(text: str) -> frozenset[str]:
    """The words whose difference gives two nearly equal texts different meanings."""
    return frozenset(
        word.root
        for word in claims.read(text).words
        if word.text in _KEYS or any(map(str.isdigit, word.text)) or word.negated or claims.is_finding(word.text)
    )


def _same(first: Item, second: Item, *, near: float) -> str:
    """A description of how the second pair repeats the first, or an empty text; both are about one image."""
    a, b = first.candidate, second.candidate
    questions, answers = (normalize(a.question), normalize(b.question)), (normalize(a.answer), normalize(b.answer))
    if questions[0] == questions[1]:
        if answers[0] == answers[1]:
            return "the same pair"
        if a.kind != "open" or b.kind != "open" or _key_words(answers[0]) != _key_words(answers[1]):
            return f"the same question with another answer ({a.answer[:40]!r})"
    if _key_words(a.question) != _key_words(b.question) or _key_words(a.answer) != _key_words(b.answer):
        return ""
    likeness = fuzz.token_sort_ratio(*questions) / 100
    if likeness >= near and (answers[0] == answers[1] or fuzz.token_sort_ratio(*answers) / 100 >= near):
        return f"nearly the same pair ({likeness:.2f})"
    return ""


def within_images(items: Sequence[Item], *, near: float) -> list[Result]:
    """The pairs that repeat an earlier one about the same image."""
    kept: defaultdict[tuple[str, str, str], list[Item]] = defaultdict(list)
    results = []
    for item in items:
        pair = item.candidate
        before = kept[pair.dataset, pair.builder_config, pair.image_id]
        for other in before:
            if why := _same(other, item, near=near):
                results.append(Result("failed", why, other.candidate.candidate_id))
                break
        else:
            before.append(item)
            results.append(PASSED)
    return results


def _grams(text: str) -> frozenset[bytes]:
    words = normalize(text).split()
    return frozenset(" ".join(words[i : i + GRAM]).encode() for i in range(max(len(words) - GRAM + 1, 1)))


def _long_enough(question: str, answer: str, least: int) -> bool:
    return len(claims.read(question).content) + len(claims.read(answer).content) >= least


class _Index:
    """Texts by their 3-grams; each distinct text is held once."""

    def __init__(self, jaccard: float) -> None:
        self._jaccard = jaccard
        self._lsh = MinHashLSH(threshold=jaccard, num_perm=PERMUTATIONS)
        self._grams: dict[str, frozenset[bytes]] = {}
        self._first: dict[str, str] = {}  # text -> id of the first pair with it

    @staticmethod
    def _hash(grams: frozenset[bytes]) -> MinHash:
        hashed = MinHash(num_perm=PERMUTATIONS)
        hashed.update_batch(grams)
        return hashed

    def add(self, text: str, pair_id: str) -> None:
        if text not in self._grams:
            self._grams[text] = _grams(text)
            self._first[text] = pair_id
            self._lsh.insert(text, self._hash(self._grams[text]), check_duplication=False)

    def find(self, text: str) -> tuple[str, float] | None:
        """The id of the most similar text above the threshold, and the similarity."""
        if text in self._first:
            return self._first[text], 1.0
        if not self._grams:
            return None
        grams = _grams(text)
        best: tuple[str, float] | None = None
        for other in self._lsh.query(self._hash(grams)):
            held = self._grams[str(other)]
            likeness = len(grams & held) / len(grams | held)
            if likeness >= self._jaccard and (best is None or likeness > best[1]):
                best = self._first[str(other)], likeness
        return best


def _text(question: str, answer: str) -> str:
    return f"{normalize(question)} {normalize(answer)}"


def across_sets(items: Sequence[Item], known: Iterable[Known], *, jaccard: float, least: int) -> list[Result]:
    """The pairs that repeat one of a later split or of an evaluated set; test pairs stay.

    Args:
        items: written pairs of all splits.
        known: questions of sets that are evaluated.
        jaccard: the least similarity at which two pairs are the same.
        least: the least number of content words of a pair that is compared.
    """
    index = _Index(jaccard)
    for row in known:
        if row.question and _long_enough(row.question, row.answer, least):
            index.add(_text(row.question, row.answer), f"{row.set_name} {row.question_id}")
    results: list[Result] = [PASSED] * len(items)
    order = sorted(range(len(items)), key=lambda number: -SPLIT_ORDER.get(items[number].candidate.split, 0))
    current, waiting = "", []  # texts of the current split: they are compared only with later ones
    for number in order:
        pair = items[number].candidate
        if pair.split != current:
            for text, pair_id in waiting:
                index.add(text, pair_id)
            current, waiting = pair.split, []
        if not _long_enough(pair.question, pair.answer, least):
            results[number] = Result("not_applicable", f"fewer than {least} content words")
            continue
        text = _text(pair.question, pair.answer)
        if pair.split != "test" and (found := index.find(text)):
            results[number] = Result("failed", f"repeats a pair of another set ({found[1]:.2f})", found[0])
        else:
            waiting.append((text, f"{pair.split} {pair.candidate_id}"))
    return results
