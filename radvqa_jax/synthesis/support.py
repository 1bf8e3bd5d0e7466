"""Decides whether the evidence (caption and case) supports a pair, word by word, without a model.

The rules read modality, plane, side, opposites such as small and large, findings, and the remaining content words. A
"no" needs evidence that denies the proposition, or evidence that names findings but not this one: a caption that names
findings counts as complete. A pair on which the words do not decide is not supported.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from radvqa_jax.synthesis import claims
from radvqa_jax.synthesis import vocabulary as v
from radvqa_jax.synthesis.claims import Said, Word

# Fields of a prepared row that describe the content of its image. ROCOv2 names modality and region among its concepts.
IMAGE_FIELDS = ("modality", "plane", "organ", "location", "finding", "side", "size", "modality_detail", "cui_names")
CASE_FIELDS = ("case_findings", "case_diagnosis", "case_differential_diagnosis", "case_title", "topic_title")
LITERATURE_FIELDS = ("topic_disease_discussion", "case_discussion", "topic_category", "topic_keywords")

_GROUPS: tuple[tuple[str, Mapping[str, frozenset[str]]], ...] = (
    ("modality", v.MODALITIES),
    ("side", v.SIDES),
    ("plane", v.PLANES),
)
_GROUP_WORDS = {word for _, group in _GROUPS for word in group} | {"lateral"}
_ASKS_PLANE = re.compile(r"\b(?:plane|view|projection|orientation)\b", re.IGNORECASE)
_REST = re.compile(r"^\W*(?:yes\b|no\b(?=\s*[,.;:!]))[\s,.;:!]*", re.IGNORECASE)
_LATERAL = re.compile(r"\blateral\b(?! view)", re.IGNORECASE)


class Evidence(NamedTuple):
    """The texts about an image: everything known of it except its pixels."""

    caption: str
    facts: tuple[tuple[str, str], ...]  # (field, text); missing fields are left out
    literature: str = ""  # of the disease, not of the image

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Evidence":
        """The evidence in a row of a prepared set."""

        def text(field: str) -> str:
            value = row.get(field) or ""
            return value if isinstance(value, str) else ". ".join(filter(None, value))

        facts = tuple((field, text(field)) for field in (*IMAGE_FIELDS, *CASE_FIELDS) if text(field).strip())
        return Evidence(str(row.get("caption") or ""), facts, "\n".join(filter(None, map(text, LITERATURE_FIELDS))))

    def text(self, *, literature: bool = False) -> str:
        """All texts, one on each line."""
        parts = [self.caption, *(f"{text} view" if field == "plane" else text for field, text in self.facts)]
        return "\n".join([*parts, self.literature] if literature else parts)


class Support(NamedTuple):
    """The verdict of the evidence on a claim, and the words that it is based on."""

    verdict: Literal["supported", "contradicted", "open"]
    reason: str = ""


SUPPORTED = Support("supported")
# A yes/no question states its whole claim, so more of it must be in the evidence; an answer may use other words.
POLAR_COVERAGE = 0.75


class _Known(NamedTuple):
    """The evidence, prepared for comparison."""

    said: Said
    positive: frozenset[str]  # roots of words that are not negated
    negated: frozenset[str]  # roots of words that are always negated
    findings: frozenset[str]  # roots of findings that are present
    normal: bool  # it states that nothing is abnormal, and names no finding

    @property
    def complete(self) -> bool:
        """Whether it names the findings, so that a finding that it does not name is absent."""
        return bool(self.findings) or self.normal


def _know(text: str) -> _Known:
    said = claims.read(text)
    positive = frozenset(word.root for word in said.words if not word.negated)
    negated = frozenset(word.root for word in said.words if word.negated) - positive
    findings = frozenset(word.root for word in said.words if not word.negated and claims.is_finding(word.text))
    normal = any(word.text in v.NORMAL and not word.negated for word in said.words) or any(
        word.text in v.GENERIC and word.negated for word in said.words
    )
    return _Known(said, positive, negated, findings, normal and not findings)


def _compare_groups(words: list[Word], about: set[str], known: _Known) -> Support:
    """Compares the evidence with the modality, side, plane and opposites that words name."""
    unsaid = ""
    for name, group in _GROUPS:
        claimed = claims.values(words, group)
        denied = claims.values(words, group, negated=True)
        if not claimed and not denied:
            continue
        there = claims.near(known.said, about, group) if name == "side" else claims.values(known.said.words, group)
        shown = ", ".join(sorted(there))
        if claimed and not there:
            unsaid = unsaid or f"the evidence names no {name}; the pair says {', '.join(sorted(claimed))}"
        elif not claimed <= there or (denied & there and not denied & claimed):
            wrong = sorted(claimed - there) or [f"not {value}" for value in sorted(denied & there)]
            return Support("contradicted", f"{name}: the pair says {', '.join(wrong)}, the evidence {shown}")
    for group in v.OPPOSITES:
        claimed = claims.values(words, group)
        there = claims.near(known.said, about, group) if claimed else set()
        if claimed and there and not claimed <= there:
            said, shown = ", ".join(sorted(claimed - there)), ", ".join(sorted(there))
            return Support("contradicted", f"the pair says {said}, the evidence {shown}")
    return Support("open", unsaid) if unsaid else SUPPORTED


def _compare_findings(words: list[Word], known: _Known) -> Support:
    """Compares the evidence with the findings that words name."""
    unsaid = ""
    for word in words:
        if not claims.is_finding(word.text):
            continue
        if word.negated:
            if word.root in known.positive:
                return Support("contradicted", f"the pair denies {word.text}, the evidence names it")
            if word.root not in known.negated and not known.complete:
                unsaid = unsaid or f"the evidence does not say whether there is {word.text}"
        elif word.root in known.negated:
            return Support("contradicted", f"the pair names {word.text}, the evidence denies it")
        elif word.root not in known.positive:
            unsaid = unsaid or f"the evidence does not name {word.text}"
    return Support("open", unsaid) if unsaid else SUPPORTED


def _compare_generic(words: list[Word], known: _Known) -> Support:
    """Compares the evidence with an unnamed abnormality or lesion, or with normality."""
    abnormal = {not word.negated for word in words if word.text in v.GENERIC}
    abnormal |= {word.negated for word in words if word.text in v.NORMAL}
    generic = known.findings or any(
        word.text in v.GENERIC and not word.negated and word.text.startswith(("abnormal", "lesion"))
        for word in known.said.words
    )
    if True in abnormal and known.normal:
        return Support("contradicted", "the pair says that something is wrong, the evidence that nothing is")
    if False in abnormal and generic and not known.normal:
        return Support("contradicted", "the pair says that nothing is wrong, the evidence names a finding")
    if abnormal and not generic and not known.normal:
        return Support("open", "the evidence does not say whether anything is wrong")
    return SUPPORTED


def _coverage(words: list[Word], known: _Known, *, least: float) -> Support:
    """Whether enough of the content words are in the evidence."""
    content = [
        word
        for word in words
        if not claims.is_stop(word.text)
        and word.text not in _GROUP_WORDS
        and word.text not in v.GENERIC
        and word.text not in v.NORMAL
        and not word.negated
    ]
    if not content:
        return SUPPORTED
    missing = [word.text for word in content if word.root not in known.positive]
    share = 1 - len(missing) / len(content)
    if share < least:
        return Support("open", f"the evidence lacks {', '.join(dict.fromkeys(missing))}")
    return SUPPORTED


def _compare(words: list[Word], about: set[str], known: _Known, *, least: float) -> Support:
    """Compares the evidence with all that words name: contradicted takes precedence over open, open over supported."""
    found = [
        _compare_groups(words, about, known),
        _compare_findings(words, known),
        _compare_generic(words, known),
        _coverage(words, known, least=least),
    ]
    for verdict in ("contradicted", "open"):
        for support in found:
            if support.verdict == verdict:
                return support
    return SUPPORTED


def _topic(*texts: Said) -> set[str]:
    """The roots of the topic of texts: content words except sides, planes, modalities and generic words."""
    return {
        word.root
        for said in texts
        for word in said.words
        if (word.text in v.COMPARED or not claims.is_stop(word.text))
        and word.text not in _GROUP_WORDS
        and word.text not in v.GENERIC
        and word.text not in v.NORMAL
    }


def _presupposed(question: Said, about: set[str], known: _Known) -> Support:
    """Whether the evidence supports the presupposition of an open question."""
    # "On the left or right?" and "How large?" presuppose neither.
    if any(word.text == "or" for word in question.words):
        return SUPPORTED
    before = ("", *(word.text for word in question.words))
    words = [word for word, lead in zip(question.words, before, strict=False) if not word.negated and lead != "how"]
    groups = _compare_groups(words, about, known)
    return groups if groups.verdict != "supported" else _compare_findings(words, known)


def support(question: str, answer: str, evidence: str, *, least: float) -> Support:
    """Whether the evidence supports a question and its answer.

    Args:
        question: of the pair.
        answer: of the pair; for multiple choice the text of the option.
        evidence: the caption and other texts, one on each line.
        least: the least share of an answer's content words that the evidence must contain.
    """
    known = _know(evidence)
    if _ASKS_PLANE.search(question):
        answer = _LATERAL.sub("lateral view", answer)
    asked, said = claims.read(question), claims.read(answer)
    about = _topic(asked, said)
    polar = claims.yes_or_no(answer, polar=True) if claims.POLAR.match(question) else ""
    if not polar:
        if (taken := _presupposed(asked, about, known)).verdict != "supported":
            return taken._replace(reason=f"question: {taken.reason}")
        return _compare(list(said.words), about, known, least=least)
    claim = _compare(list(asked.words), about, known, least=max(least, POLAR_COVERAGE))
    if polar == "yes":
        verdict = claim
    elif claim.verdict == "supported":
        verdict = Support("contradicted", "the answer is no, and the evidence says that it is so")
    elif claim.verdict == "contradicted" or known.complete:
        verdict = SUPPORTED
    else:
        verdict = claim
    rest = Said(tuple(word for word in said.words[1:]))
    if verdict.verdict != "supported" or not rest.content:
        return verdict
    # "No, it is on the right": the rest is a separate claim, outside the scope of that "no"; in "No mass" it is not.
    after = claims.read(_REST.sub("", answer))
    return _compare(list(after.words), about, known, least=least)


def find_span(span: str, text: str) -> bool:
    """Whether a text contains the words in this order, ignoring case and punctuation.

    >>> find_span("small cyst, on the LEFT", "CT with a small cyst on the left."), find_span("right", "on the left")
    (True, False)
    >>> find_span("Lateral", "Lateral view of the chest.")
    True
    """
    # Words as written: `claims.read` joins words into phrases by their context, which a span may cut.
    words, whole = claims.plain_words(span), claims.plain_words(text)
    return bool(words) and f" {' '.join(words)} " in f" {' '.join(whole)} "
