"""Measures how often answers about one image contradict each other.

Rule 1, for English answers. An answer makes at most one claim, and only if it is certain:

- A yes or no to a yes/no question claims or denies its proposition: the words of the question, in one form
  (evaluation/terms), without the words that only frame it. Questions with a negation or an alternative claim nothing.
- Modality, plane, projection and body region: an answer that names one value of the kind to a question about the kind
  claims it, and so does a yes to a question about the kind that names it. A no denies it if the question is about
  nothing else ("Is this a CT scan?"; a no to "Is this a CT angiogram?" does not deny CT). The data set's question_type
  gives the kind; without one the question must name it ("Which plane …?"). A question about a region must always name
  it, because an image of the abdomen may show the base of the lungs.
- A finding: a yes or no to "Is there a FINDING?" for findings that no normal image has, or, if the question_type is
  `finding`, an answer that is just a finding.
- Whole images that are normal or abnormal: a yes or no to a question with no other content.

Two claims about one image exclude each other if

- `same words` and `same question`: one claims what the other denies, asked in the same words or in different ones;
- `one value`: they claim two values of modality, plane, projection or region, of which an image has only one;
- `normal and a finding`: one says that nothing is abnormal, the other that a finding is there.

A pair is comparable if other values of the two claims would exclude each other. Answers without a claim are in no pair,
so the number of pairs differs from run to run. Two answers that were given to two images are in no pair either, even if
their questions belong to one image (`image_used`). The error of the rule is the share of contradictions that it finds
among the references, which should have none.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.data.history import same_question
from radvqa_jax.evaluation import intervals, polarity, scoring, terms
from radvqa_jax.evaluation.clean import clean
from radvqa_jax.schema import Record

RULE = "contradictions 1"
WORDS, SAME, VALUES, NORMAL = "same words", "same question", "one value", "normal and a finding"
KINDS = (WORDS, SAME, VALUES, NORMAL)

_POLAR = re.compile(r"(?:is|are|was|were|does|do|did|can|could|has|have)\b", re.IGNORECASE)
_UNCERTAIN = re.compile(
    r"\b(?:or|no|not|without|than|which|what|where|who|how|why|when|any other|also)\b", re.IGNORECASE
)
_FRAME = set(
    """is are was were be been being doe does do did has have had can could there this that these those it the a an any
    evidence sign of in on at by with to you we i see seen show shown showing visible present noted identified
    demonstrate demonstrated taken using image picture scan photo film view patient here appear look contain""".split()
)
_NEGATED = re.compile(r"\b(?:or|no|not|without|versus|vs)\b", re.IGNORECASE)
_NAMES_KIND = {"imaging", "modality", "plane", "technique", "projection", "region", "body"}
_IS_OF = re.compile(r"(?:is|was)\b", re.IGNORECASE)
_WHOLE = {"normal": False, "abnormal": True, "abnormality": True, "healthy": False}  # word -> abnormal
# Findings that no normal image has.
FINDINGS = frozenset(
    """nodule mass cyst effusion fracture tumor lesion pneumonia pneumothorax consolidation edema hemorrhage infarct
    atelectasis hematoma abscess metastasis aneurysm cardiomegaly""".split()
) | {"pleura effusion"}  # in the canonical form of evaluation/terms
FINDINGS_BY_TYPE = FINDINGS | {"calcification"}  # may be physiological: counts if the data set calls it a finding
_REGIONS = {
    **dict.fromkeys(("head", "brain", "skull"), "head"),
    **dict.fromkeys(("chest", "thorax", "lung"), "chest"),
    **dict.fromkeys(("abdomen", "abdominal"), "abdomen"),
    **dict.fromkeys(("pelvis", "pelvic cavity"), "pelvis"),
    "neck": "neck",
    "knee": "knee",
}
_ABOUT = {
    "modality": re.compile(r"\b(?:modality|modalities)\b", re.IGNORECASE),
    "plane": re.compile(r"\bplane\b", re.IGNORECASE),
    "region": re.compile(r"\b(?:(?:part|region) of the body|body (?:part|region))\b", re.IGNORECASE),
}
_TYPES = ("modality", "plane", "finding")
_SINGLE = ("modality", "plane", "projection", "region")  # an image has one


class Claim(NamedTuple):
    """A claim of an answer about its image."""

    kind: str  # proposition, modality, plane, projection, region, finding or abnormal
    value: str
    holds: bool


_KINDS_OF = {
    "chest x ray": "x ray",
    "cta": "ct",
    "mra": "mri",
    "echocardiogram": "ultrasound",
    "mammogram": "x ray",
}


@functools.cache
def _vocabulary() -> dict[str, tuple[str, str]]:
    """{canonical words: (kind, value)} of the kinds of which an image has one value."""
    found: dict[str, tuple[str, str]] = {}
    for kind in ("modality", "plane", "projection"):
        found |= {word: (kind, word) for word in terms.of_kind(kind)}
    found |= {"frontal": ("projection", "frontal")}
    found |= {word: ("projection", "frontal") for word in ("anteroposterior", "posteroanterior")}
    for word, value in _KINDS_OF.items():
        found[word] = ("modality", value)
    found |= {word: ("modality", "mri") for word in terms.of_kind("sequence")}
    for word in ("angiogram", "dsa", "fluoroscopy"):
        found.pop(word, None)
    return found | {word: ("region", region) for word, region in _REGIONS.items()}


def _named(words: Sequence[str]) -> set[tuple[str, str]]:
    """The values that the words name."""
    text, found = f" {' '.join(words)} ", set[tuple[str, str]]()
    for phrase, value in sorted(_vocabulary().items(), key=lambda item: -len(item[0])):
        if f" {phrase} " in text:
            found.add(value)
            text = text.replace(f" {phrase} ", "  ")
    return found


def _of_kind(named: set[tuple[str, str]], kind: str) -> set[tuple[str, str]]:
    """The values of the kind; a question about the plane of an X-ray asks for its projection."""
    kinds = ("plane", "projection") if kind == "plane" else (kind,)
    return {value for value in named if value[0] in kinds}


@functools.lru_cache(maxsize=1 << 14)
def _proposition(question: str) -> tuple[str, ...]:
    """The canonical words of a yes/no question's proposition; empty if it is not certain."""
    if not _POLAR.match(question.strip()) or _UNCERTAIN.search(question):
        return ()
    return tuple(word for word in terms.canonical(question) if word not in _FRAME)


def _about(record: Record) -> str:
    """The kind of value that a question is about; empty if it is not certain."""
    if (kind := record.question_type.casefold()) in _TYPES:
        return kind
    found = [kind for kind, pattern in _ABOUT.items() if pattern.search(record.question)]
    return found[0] if len(found) == 1 else ""


def _from_yes_no(record: Record, said: str) -> Claim | None:
    words = _proposition(record.question)
    answer = polarity.parse_yes_no(said, record.question) if words else None
    if answer is None:
        return None
    yes, text = answer == "yes", " ".join(words)
    if text in _WHOLE:
        return Claim("abnormal", "", yes == _WHOLE[text])
    kind = _about(record)
    if text in (FINDINGS_BY_TYPE if kind == "finding" else FINDINGS):
        return Claim("finding", text, yes)
    alone = " ".join(word for word in words if word not in _NAMES_KIND)
    whole = _vocabulary().get(alone)  # the question is about this value and nothing else
    if whole is not None and whole[0] == "region" and not _IS_OF.match(record.question.strip()):
        whole = None
    if whole is not None and (yes or whole[1] == alone):
        return Claim(*whole, yes)
    values = _of_kind(_named(words), kind)
    if yes and kind != "region" and len(values) == 1:
        return Claim(*values.pop(), True)
    return Claim("proposition", text, yes)


def _from_value(record: Record, said: str) -> Claim | None:
    kind, words = _about(record), terms.canonical(said)
    if kind == "finding":
        text = " ".join(words)
        return Claim("finding", text, True) if text in FINDINGS_BY_TYPE else None
    values = _of_kind(_named(words), kind)
    if _NEGATED.search(said) or len(values) != 1:
        return None
    return Claim(*values.pop(), True)


def read_claim(record: Record, answer: str) -> Claim | None:
    """The claim of an answer about its image, or None if it is not certain.

    >>> one = Record("1", "a", "Is this a CT scan?", "yes", [], question_type="modality")
    >>> read_claim(one, "yes"), read_claim(one._replace(question="Which modality is this?"), "MRI")
    (Claim(kind='modality', value='ct', holds=True), Claim(kind='modality', value='mri', holds=True))
    >>> read_claim(one._replace(question="Does the image look normal?", question_type=""), "No.")
    Claim(kind='abnormal', value='', holds=True)
    """
    if record.language not in ("", "en"):
        return None
    said = clean(answer, question=record.question, prompt=record.prompt)
    if _POLAR.match(record.question.strip()):
        return _from_yes_no(record, said)
    return _from_value(record, said)


def comparable(one: Claim, other: Claim) -> str:
    """The member of KINDS by which two claims would exclude each other with other values; empty if there is none."""
    kinds = {one.kind, other.kind}
    if len(kinds) == 1:
        if one.value == other.value:
            return SAME
        return VALUES if one.kind in _SINGLE else ""
    return NORMAL if kinds == {"abnormal", "finding"} else ""


def exclude(one: Claim, other: Claim) -> bool:
    """Whether two claims about one image cannot both be true."""
    kind = comparable(one, other)
    if kind == SAME:
        return one.holds != other.holds
    if kind == VALUES:
        return one.holds and other.holds
    if kind == NORMAL:
        whole, finding = (one, other) if one.kind == "abnormal" else (other, one)
        return finding.holds and not whole.holds
    return False


def _pairs(records: Sequence[Record], answers: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
    """Yields (kind, number of the first record, whether they exclude each other) for each comparable pair."""
    by_image: dict[tuple[str, str, str], list[tuple[int, Claim]]] = {}
    for number, (record, answer) in enumerate(zip(records, answers, strict=True)):
        claim = read_claim(record, answer) if record.image_id else None
        if claim is not None:
            shown = record.image_used or record.image_id
            by_image.setdefault((record.source, record.image_id, shown), []).append((number, claim))
    for claims in by_image.values():
        for (number, one), (later, other) in itertools.combinations(claims, 2):
            if kind := comparable(one, other):
                alike = kind == SAME and same_question(records[number].question, records[later].question)
                yield WORDS if alike else kind, number, exclude(one, other)


def _count(pairs: Iterable[tuple[str, int, bool]], images: np.ndarray, *, resamples: int, seed: int) -> dict[str, Any]:
    found = list(pairs)
    if not found:
        return {}
    excluded = np.array([broken for _, _, broken in found], dtype=np.float64)
    drawn = images[[number for _, number, _ in found]]
    estimate = intervals.mean_interval(excluded, drawn, resamples=resamples, seed=seed)
    return scoring.cell_to_json(estimate) | {"contradictory": int(excluded.sum())}


def score_contradictions(records: Sequence[Record], *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The share of comparable pairs of first answers about one image that exclude each other.

    Keys: `rule`, `overall` and `by` ({kind: cell}), cells with value, interval over images, n (pairs), n_images (with a
    pair) and `contradictory`, and `references`, the same cell over the references; cells without a pair are empty. The
    order of the records does not matter.
    """
    bootstrap = {"resamples": resamples, "seed": seed}
    ordered = sorted(records, key=lambda record: (record.source, record.image_id, record.question_id))
    images = scoring.image_ids(ordered)
    said = list(_pairs(ordered, [record.predictions[0] for record in ordered]))
    right = _pairs(ordered, [record.reference for record in ordered])
    by = {kind: _count((pair for pair in said if pair[0] == kind), images, **bootstrap) for kind in KINDS}
    return {
        "rule": RULE,
        "overall": _count(said, images, **bootstrap),
        "by": {kind: cell for kind, cell in by.items() if cell},
        "references": _count(right, images, **bootstrap),
    }
