"""The words of a text: those with content, those that are negated, and those that belong together.

A caption becomes a `Said`: its words in one spelling, each with its negation and its clause. A question with its answer
becomes claims about the image, each of which the evidence supports, contradicts or leaves open (support.py). This
module does not know the truth; it compares words.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nltk.stem.snowball import SnowballStemmer

from radvqa_jax.evaluation.normalize import fold
from radvqa_jax.synthesis import vocabulary as v

_PHRASES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\bx[ -]?rays?\b|\bplain (?:films?|radiographs?)\b|\broentgen\w*", "xray"),
        (r"\b(?:computed|computerized|computerised) tomograph\w*|\bcat scans?\b", "ct"),
        (r"\bmagnetic resonance angiogra\w*", "mra"),
        (r"\bmagnetic resonance(?: (?:imag\w*|scans?|tomograph\w*))?", "mri"),
        (r"\bpositron emission tomograph\w*", "pet"),
        (r"\bultra ?sound\b|\bultra ?sonogra\w*", "ultrasound"),
        (r"\bnon[- ](?=[a-z])", "non"),
        (r"\b(?:are|is|was|were|ca|do|does|did|has|have)n['\u2019]t\b", "not"),
        (r"\bon (?:both|either) sides?\b", "bilateral"),
        (
            r"\bboth (?=(?:sides|lungs?|kidneys|knees|hips|eyes|legs|arms|breasts|hemispheres|feet|hands"
            r"|shoulders|ovaries|ventricles|lobes|thalami|orbits|adrenals|ankles|elbows|wrists|maxillary|sinuses)\b)",
            "bilateral ",
        ),
        # Words of planes that also name a part of the body or a location.
        (
            r"\b(frontal|coronal|sagittal|axial|transverse|oblique) (?=(?:lobes?|bones?|sinus\w*|horns?|region|gyrus"
            r"|cortex|suture|skeleton|spine|load\w*|process\w*|colon|fractures?|ligaments?|foramen|muscles?|fissures?)\b)",
            r"\1part ",
        ),
        (r"\blateral(?= (?:view|projection|radiograph|xray|film|image|plane|chest)\b)", "lateralview"),
        (r"(?<=plane )lateral\b|(?<=plane is )lateral\b", "lateralview"),
        (r"\bruled? out\b", "excluded"),
        (r"(?<=[a-z])['\u2019]s\b", ""),
        (r"\bleft[- ](?=(?:un|in|out|over|alone|blank|behind|for)\b)", "remained "),  # the verb
    ]
]
_SENTENCES = re.compile(r"(?<=[.!?;:\n])\s+|\n+|(?<=[a-z])[.;:](?=[A-Z])")
_CLAUSES = re.compile(r",|\b(?:and|with|but|or|while|whereas|as well as|in the|of the)\b")
_YES_OR_NO = re.compile(r"^\W*(yes|no)\b(\W*$|\s*[,.;:!]|\s+(?:it|there|this|they|these|the)\b|)", re.IGNORECASE)
# The beginnings of questions that ask for a yes or no.
POLAR = re.compile(
    r"^\W*(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should|may|might|isn't|aren't|doesn't|don't)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
_stem = SnowballStemmer("english")


class Word(NamedTuple):
    """One word of a text."""

    text: str  # as it is written, in lower case
    root: str  # its stem, of one word for all synonyms
    negated: bool
    clause: int  # index of the clause in the text
    sentence: int


class Said(NamedTuple):
    """A text as words."""

    words: tuple[Word, ...]

    @property
    def content(self) -> list[Word]:
        """The words that describe what is seen."""
        return [word for word in self.words if not is_stop(word.text)]


@functools.lru_cache(maxsize=1 << 16)
def root(word: str) -> str:
    """The stem by which two words count as the same.

    >>> root("fractures") == root("fractured"), root("lungs") == root("pulmonary")
    (True, True)
    """
    known = v.SYNONYMS.get(word, word)
    return _stem.stem(v.SYNONYMS.get(known.removesuffix("s"), known))


@functools.lru_cache(maxsize=1 << 16)
def is_stop(word: str) -> bool:
    """Whether a word does not describe what is seen."""
    # Not by stem: "positive" and "position" have the same stem.
    plain = {word, *(word.removesuffix(ending) for ending in ("s", "es", "d", "ed", "ing"))}
    return not v.STOP.isdisjoint(plain | {f"{word.removesuffix('ing')}e"})


@functools.lru_cache(maxsize=1 << 17)
def is_finding(word: str) -> bool:
    """Whether a word names a particular finding or disease, not just the presence of one.

    >>> is_finding("nodules"), is_finding("meningioma"), is_finding("lesion"), is_finding("diagnosis")
    (True, True, False, False)
    """
    if word in v.NOT_FINDINGS or word in v.GENERIC:
        return False
    return word in v.FINDINGS or word.removesuffix("s") in v.FINDINGS or bool(v.FINDING_ENDINGS.search(word))


def _negated(words: list[str]) -> list[bool]:
    """Whether each word of a sentence is negated: words after a negation, or before "is not seen"."""
    found = [False] * len(words)
    forward = False
    begin = 0  # the part to which a negation at the end may reach back
    for index, word in enumerate(words):
        follows = words[index + 1] if index + 1 < len(words) else ""
        if word in v.SCOPE_ENDS:
            forward, begin = False, index + 1
        elif (word == "not" and follows in v.BACKWARD) or (word in v.BACKWARD_ALONE and index and not follows):
            found[begin:index] = [True] * (index - begin)
            forward, begin = False, index + 1
        elif word in v.FORWARD:
            forward = True
        else:
            found[index] = forward
    return found


@functools.lru_cache(maxsize=1 << 15)
def read(text: str) -> Said:
    """A text as words, in their order.

    >>> [word.text for word in read("No fracture is seen, but a small cyst.").words if word.negated]
    ['fracture', 'is', 'seen']
    """
    text = fold(text)
    found: list[Word] = []
    clause = 0
    for sentence, part in enumerate(_SENTENCES.split(text)):
        part = part.casefold()
        for pattern, replacement in _PHRASES:
            part = pattern.sub(replacement, part)
        pieces = [_WORD.findall(piece) for piece in _split_clauses(part)]
        flat = [word for piece in pieces for word in piece]
        negated = iter(_negated(flat))
        for piece in pieces:
            found += [Word(word, root(word), next(negated), clause, sentence) for word in piece]
            clause += 1
    return Said(tuple(found))


@functools.lru_cache(maxsize=1 << 15)
def plain_words(text: str) -> tuple[str, ...]:
    """The words of a text as they are written, in lower case.

    >>> plain_words("X-ray of the patient's LEFT knee")
    ('x', 'ray', 'of', 'the', 'patient', 's', 'left', 'knee')
    """
    return tuple(_WORD.findall(fold(text).casefold()))


def _split_clauses(sentence: str) -> list[str]:
    """The clauses of a sentence; the word that begins a clause belongs to it."""
    edges = [0, *(match.start() for match in _CLAUSES.finditer(sentence)), len(sentence)]
    return [sentence[a:b] for a, b in itertools.pairwise(edges) if a < b]


def values(words: Iterable[Word], group: Mapping[str, frozenset[str]], *, negated: bool = False) -> set[str]:
    """The values of a group that words mean; with `negated`, the denied ones."""
    return {value for word in words if word.negated == negated for value in group.get(word.text, ())}


def near(said: Said, about: set[str], group: Mapping[str, frozenset[str]]) -> set[str]:
    """The values of a group that a text assigns to the subject `about`, given as stems of words.

    A text may assign left to one thing and right to another. The values are those of the clauses that share most words
    with `about`, then of their sentences, then of the whole text.
    """
    whole = values(said.words, group)
    if len(whole) < 2 or not about:
        return whole
    shared: dict[int, set[str]] = {}
    for word in said.words:
        if word.root in about:
            shared.setdefault(word.clause, set()).add(word.root)
    if not shared:
        return whole
    most = max(map(len, shared.values()))
    clauses = {clause for clause, roots in shared.items() if len(roots) == most}
    if found := values((word for word in said.words if word.clause in clauses), group):
        return found
    # "A nodule in the left lung": the clause after the one that names the subject gives its location.
    beside = clauses | {clause + 1 for clause in clauses}
    sentences = {word.sentence for word in said.words if word.clause in clauses}
    if found := values((w for w in said.words if w.clause in beside and w.sentence in sentences), group):
        return found
    return values((word for word in said.words if word.sentence in sentences), group) or whole


def yes_or_no(answer: str, *, polar: bool = False) -> str:
    """The yes or no that an answer equals or begins with, or an empty text.

    Args:
        answer: of a pair.
        polar: whether the question asks for a yes or no. "No fracture" then is a no; otherwise it is a finding.

    >>> yes_or_no("Yes, on the left."), yes_or_no("No."), yes_or_no("No fracture"), yes_or_no("No fracture", polar=True)
    ('yes', 'no', '', 'no')
    """
    found = _YES_OR_NO.match(fold(answer))
    if not found:
        return ""
    word, follows = found[1].casefold(), found[2]
    return word if word == "yes" or polar or follows else ""
