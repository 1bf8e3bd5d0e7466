"""Words of which at most one holds (terms/exclusive.tsv): sides, levels and sizes."""

import functools
from typing import NamedTuple

from radvqa_jax.evaluation import terms


class _Table(NamedTuple):
    groups: list[frozenset[str]]
    places: frozenset[str]
    sizes: frozenset[str]


@functools.cache
def _table() -> _Table:
    rows = [(row["kind"], frozenset(terms.split(row["words"]))) for row in terms.rows("exclusive")]
    places, sizes = (
        frozenset().union(*(words for kind, words in rows if kind in kinds)) for kinds in (("side", "level"), ("size",))
    )
    return _Table([words for _, words in rows], places, sizes)


def sizes() -> frozenset[str]:
    """The words of size and degree."""
    return _table().sizes


def required() -> frozenset[str]:
    """The words that a statement must share with its question: sides, levels and sizes."""
    return _table().places | _table().sizes


def contradicts(words: list[str], asked: list[str]) -> bool:
    """Whether a clause is about another side, level or size than its question.

    >>> contradicts("small effusion".split(), "large effusion".split()), contradicts(["effusion"], ["effusion", "left"])
    (True, False)
    """
    for group in _table().groups:
        mine, theirs = ([word for word in text if word in group] for text in (words, asked))
        other = set(mine) - set(theirs)
        if "bilateral" in other and set(theirs) & {"left", "right"}:  # what both lungs have, the left one has
            other.remove("bilateral")
        swapped = len(set(theirs)) > 1 and set(mine) == set(theirs) and mine != theirs
        if theirs and (other or swapped):
            return True
    return False
