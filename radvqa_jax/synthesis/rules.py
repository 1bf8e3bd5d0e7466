"""Rules on the words of a pair: each returns the reason why the pair fails, or nothing.

A pair about an image must not depend on facts that no image shows (history, age, dates, treatment), on a caption's
words about itself, or on a number that was measured elsewhere. It must not give its answer away, and its form must fit.
The rules are written for English.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from radvqa_jax.evaluation.normalize import fold, normalize
from radvqa_jax.synthesis import claims
from radvqa_jax.synthesis import rule_patterns as patterns


class Limits(NamedTuple):
    """Limits on the size of a pair."""

    question_words: int
    answer_words: int
    leak: float  # largest share of an answer's content words that its question may contain


class Wording(NamedTuple):
    """The parts of a pair that rules read."""

    question: str
    answer: str
    kind: str  # closed, open, multiple_choice
    choices: Sequence[str] = ()
    from_image: bool = True  # whether it must be answered from the image

    @property
    def both(self) -> str:
        """Question, answer and options as one text."""
        return "\n".join([self.question, self.answer, *self.choices])


def _find(pattern: re.Pattern[str], text: str, what: str) -> str:
    found = pattern.search(fold(text))
    return f"{what}: {found.group(0).strip()!r}" if found else ""


def history(pair: Wording) -> str:
    """A pair about what no image shows: history, symptoms, treatment, laboratory."""
    return (
        _find(patterns.HISTORY, pair.both, "history or treatment")
        if pair.from_image
        else _find(patterns.PATIENT, pair.both, "history")
    )


def age(pair: Wording) -> str:
    """A pair that names an age."""
    return _find(patterns.AGE, pair.both, "age")


def date(pair: Wording) -> str:
    """A pair that names a date."""
    return _find(patterns.DATE, pair.both, "date")


def measurement(pair: Wording) -> str:
    """A pair that rests on a measured number."""
    return _find(patterns.MEASUREMENT, pair.both, "measurement")


def code(pair: Wording) -> str:
    """A pair that holds a code, an identifier or an address."""
    return _find(patterns.CODE, pair.both, "code or identifier")


def name(pair: Wording) -> str:
    """A pair that holds the name of a person or a place of work."""
    found = patterns.NAME.search(pair.both)
    return f"name: {found.group(0).strip()!r}" if found else ""


def caption_wording(pair: Wording) -> str:
    """A pair that speaks of the caption, or of a part of a figure."""
    return _find(patterns.CAPTION, pair.both, "speaks of its caption")


def filler(pair: Wording) -> str:
    """A pair with what a chat model says around its answer, or a placeholder."""
    for text in (pair.question, pair.answer, *pair.choices):
        if why := _find(patterns.FILLER, text, "chat filler"):
            return why
    return ""


def unanswered(pair: Wording) -> str:
    """A pair whose answer is that there is none."""
    return _find(patterns.UNANSWERED, pair.answer, "no answer")


_LATERAL = claims.root("lateral")
_HOW = re.compile(r"\bhow (?:large|big|small|severe|many|much|wide|long|thick)\b", re.IGNORECASE)  # gives nothing away


@functools.lru_cache(maxsize=1 << 15)
def _contents(text: str) -> tuple[str, ...]:
    words = claims.read(_HOW.sub("how ", text))
    roots = tuple(word.root for word in words.content) or tuple(word.root for word in words.words)
    return tuple(_LATERAL if word == claims.root("lateralview") else word for word in roots)


def leak(pair: Wording, *, most: float) -> str:
    """A pair whose question holds its answer. A yes or no, or one of two offered with "or", gives nothing away."""
    if pair.kind == "closed" and claims.yes_or_no(pair.answer, polar=True):
        return ""
    # An offered alternative occurs once: "Is this axial view axial, or what is it?" gives the answer away.
    offers = re.search(r"\bor\b", pair.question, re.IGNORECASE)
    if offers and f" {normalize(pair.question)} ".count(f" {normalize(pair.answer)} ") == 1:
        return ""
    answer, question = _contents(pair.answer), set(_contents(pair.question))
    if not answer:
        return ""
    share = sum(word in question for word in answer) / len(answer)
    return f"the question holds {share:.0%} of the answer" if share > most else ""


def form(pair: Wording) -> str:
    """A pair whose answer does not fit the form of its question, or whose question is no question."""
    question = fold(pair.question).strip()
    if not normalize(question) or not normalize(pair.answer):
        return "empty question" if not normalize(question) else "empty answer"
    polar = bool(claims.POLAR.match(question))
    answer = claims.yes_or_no(pair.answer, polar=polar)
    offers = bool(re.search(r"\bor\b", question, re.IGNORECASE))
    if pair.kind == "closed" and not answer and not offers:
        return f"a closed question is answered with {pair.answer[:40]!r}"
    if pair.kind == "multiple_choice":
        return ""
    if polar and not answer and not offers:
        return f"a yes or no question is answered with {pair.answer[:40]!r}"
    if answer and not polar:
        return "yes or no is answered to a question that does not ask for it"
    if "?" not in question and not patterns.OPEN.match(question) and not polar:
        return "no question"
    return ""


def options(pair: Wording) -> str:
    """A multiple-choice pair with too few, too many, equal or missing options."""
    if pair.kind != "multiple_choice":
        return "options without a multiple-choice question" if pair.choices else ""
    plain = [normalize(choice) for choice in pair.choices]
    if not 2 <= len(plain) <= 6:
        return f"{len(plain)} options; 2 to 6 are asked for"
    if "" in plain or len(set(plain)) < len(plain):
        return "two options are the same, or one is empty"
    if plain.count(normalize(pair.answer)) != 1:
        return "the answer is none of the options"
    if any(patterns.OPTION_OF_OPTIONS.search(choice) for choice in plain):
        return "an option speaks of the others"
    return ""


def length(pair: Wording, limits: Limits) -> str:
    """A pair whose question or answer is too long."""
    for what, text, most in (
        ("question", pair.question, limits.question_words),
        ("answer", pair.answer, limits.answer_words),
    ):
        if (words := len(text.split())) > most:
            return f"{what} of {words} words; at most {most}"
    return ""


_ENGLISH = frozenset(
    "the of is in a an on what which and are this with there to shown image does where how at for no yes or be by that "
    "any it from was has have can not".split()
)
_OTHER = frozenset(
    "le la les des une est dans sur quel quelle avec der die das und ist ein eine welche wie auf el los las una es en "
    "que cual con del il lo gli che di per o os um uma qual como da do na no se".split()
)


def language(pair: Wording) -> str:
    """A pair that is not in English: letters of another script, or function words of another language."""
    text = fold(f"{pair.question} {pair.answer}")
    letters = [character for character in text if character.isalpha()]
    strange = [c for c in letters if not ("a" <= c.casefold() <= "z" or "\u03b1" <= c.casefold() <= "\u03c9")]
    if letters and len(strange) > 0.1 * len(letters):
        return "letters of another script"
    words = re.findall(r"[a-z]+", text.casefold())
    english, other = sum(word in _ENGLISH for word in words), sum(word in _OTHER for word in words)
    if len(words) >= 5 and (not english or other > english):
        return "words of another language"
    return ""


Rule = Callable[[Wording], str]


def text_rules(limits: Limits) -> dict[str, tuple[str, Rule]]:
    """{name: (version, rule)} in the order in which they are reported."""
    return {
        "history": ("2", history),
        "age": ("1", age),
        "date": ("1", date),
        "measurement": ("1", measurement),
        "code": ("1", code),
        "name": ("1", name),
        "caption_wording": ("2", caption_wording),
        "filler": ("1", filler),
        "unanswered": ("1", unanswered),
        "leak": ("2", functools.partial(leak, most=limits.leak)),
        "form": ("1", form),
        "options": ("1", options),
        "length": ("1", functools.partial(length, limits=limits)),
        "language": ("1", language),
    }
