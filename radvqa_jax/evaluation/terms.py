"""Radiology terms with the same meaning, from the tables in terms/: one canonical form for both sides."""

import csv
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from radvqa_jax.evaluation.normalize import comparable

_FOLDER = Path(__file__).parent / "terms"
# Prefixes that are not words: "hyper dense" and "post operative" are one word each.
_PREFIXES = set(
    "hyper hypo iso non peri intra infra supra retro para anti bi uni multi micro macro hemi semi trans endo epi inter "
    "post pre extra sub pneumo hydro cardio broncho hepato spleno radio".split()
)
_SIDES = {"l": "left", "r": "right"}
# Singular words before a 0 that names a level and counts nothing: "grade 0", "slice 0", "an SUV of 0".
_LABELS = set(
    "birad category class frame grade image level lirad m n number rad score sery slice stage suv t tirad type".split()
)
_KEEP_S = ("ss", "us", "is", "os")
_NO_PLURALS = {
    "pancreas",
    "atlas",
    "bias",
    "psoas",
    "whereas",
    "always",
    "perhaps",
    "afterwards",
    "towards",
    "biceps",
    "triceps",
}


def rows(name: str) -> list[dict[str, str]]:
    """The lines of a table as dicts; lines that begin with # explain it.

    Raises:
        ValueError: if a line has no source, or another number of fields than the header.
    """
    path = _FOLDER / f"{name}.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    found = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in found:
        if None in row or None in row.values() or not row["source"].strip():
            raise ValueError(f"{path}: the line {row} needs every field of the header, its source included.")
    return found


def split(variants: str) -> list[str]:
    """The variants of one field of a table."""
    return [variant.strip() for variant in variants.split("|") if variant.strip()]


class _Tables(NamedTuple):
    plural: dict[str, str]
    phrases: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]  # first word -> (words, canonical), longest first
    kinds: dict[str, set[str]]  # kind -> its canonical terms of one word
    generic: dict[str, set[str]]  # kind -> words that add nothing to such a term
    implied: dict[str, list[set[str]]]  # word -> sets of words, any of which implies it
    triggers: frozenset[str]  # all words of these sets


@functools.cache
def _tables() -> _Tables:
    terms = rows("english")
    plural = {many: row["term"] for row in terms if row["kind"] == "plural" for many in split(row["variants"])}
    phrases: defaultdict[str, dict[tuple[str, ...], tuple[str, ...]]] = defaultdict(dict)
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for row in terms:
        if row["kind"] == "plural":
            continue
        canonical = tuple(row["term"].split())
        kinds[row["kind"]].add(row["term"])
        for variant in split(row["variants"]):
            words = tuple(_singular(word, plural) for word in variant.split())
            phrases[words[0]][words] = canonical
    ordered = {first: sorted(found.items(), key=lambda item: -len(item[0])) for first, found in phrases.items()}
    generic = {row["kind"]: set(split(row["words"])) for row in rows("generic")}
    implied = {row["word"]: [set(words.split()) for words in split(row["implied by"])] for row in rows("implied")}
    causes = [cause for found in implied.values() for cause in found]
    causes += [set(term.split()) for kind in generic for term in kinds.get(kind, ())]
    return _Tables(plural, ordered, dict(kinds), generic, implied, frozenset(itertools.chain(*causes)))


def _singular(word: str, plural: dict[str, str]) -> str:
    if known := plural.get(word):
        return known
    if len(word) < 4 or not word.endswith("s") or word.endswith(_KEEP_S) or not word.isalpha() or word in _NO_PLURALS:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "uses")):
        return word[:-2]
    return word[:-1]


def _replace(words: list[str], tables: _Tables) -> list[str]:
    """The words with every known phrase in its canonical form, the longest first."""
    found: list[str] = []
    index = 0
    while index < len(words):
        for phrase, canonical in tables.phrases.get(words[index], ()):
            if len(phrase) == 1 or tuple(words[index : index + len(phrase)]) == phrase:
                found += canonical
                index += len(phrase)
                break
        else:
            found.append(words[index])
            index += 1
    return found


def _join_prefixes(words: list[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if found and found[-1] in _PREFIXES and word.isalpha() and len(word) > 2:
            found[-1] += word
        else:
            found.append(word)
    return found


def _spell_sides(words: list[str]) -> list[str]:
    """The words with l and r as left and right where another word follows ("R frontal lobe")."""
    return [
        _SIDES[word] if word in _SIDES and index + 1 < len(words) and words[index + 1].isalpha() else word
        for index, word in enumerate(words)
    ]


def _count_none(words: list[str]) -> list[str]:
    """The words with a 0 that counts things as `none`, unless what is before it makes it a label ("grade 0")."""
    return [
        "none" if word in ("0", "zero") and not _is_label(words[:index]) else word for index, word in enumerate(words)
    ]


def _is_label(before: list[str]) -> bool:
    """Whether a 0 after these words names a level: "grade 0", "an SUV of 0"."""
    named = before[:-1] if before[-1:] == ["of"] else before
    return bool(named) and named[-1] in _LABELS


def of_kind(kind: str) -> set[str]:
    """The canonical terms of a kind: modality, sequence, plane, projection, side, …"""
    return _tables().kinds.get(kind, set())


def _without_implied(words: list[str], tables: _Tables) -> list[str]:
    present = set(words)
    if present.isdisjoint(tables.triggers):
        return words
    idle = {word for word, causes in tables.implied.items() if any(cause <= present for cause in causes)}
    for kind, generic in tables.generic.items():
        if any(set(term.split()) <= present for term in tables.kinds.get(kind, ())):
            idle |= generic
    return [word for word in words if word not in idle]


@functools.lru_cache(maxsize=1 << 16)
def canonical(text: str) -> tuple[str, ...]:
    """The words of a text with plurals, prefixes and radiology terms in one form.

    >>> canonical("Magnetic resonance imaging, T2-weighted"), canonical("the left-sided nodules")
    (('t2',), ('left', 'nodule'))
    """
    tables = _tables()
    words = [_singular(word, tables.plural) for word in comparable(text).split()]
    words = _replace(_join_prefixes(_spell_sides(_count_none(words))), tables)
    words = _replace(words, tables)  # a phrase may contain a form that another line made canonical
    words = _without_implied(words, tables)
    return tuple(word for index, word in enumerate(words) if index == 0 or word != words[index - 1])


def canonical_set(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """The canonical forms of some texts."""
    return frozenset(canonical(text) for text in texts)
