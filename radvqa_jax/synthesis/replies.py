"""Reads a language model's reply to a writer's prompt: pairs, or the reason why it is unusable."""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

import pydantic

from radvqa_jax.chat_reply import Reply
from radvqa_jax.synthesis.candidates import Kind
from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.prompts import Pair, Pairs, Question
from radvqa_jax.untrusted import NoJson, read_reply

_REFUSES = re.compile(
    r"\s*(?:i['\N{RIGHT SINGLE QUOTATION MARK}]?m (?:sorry|unable|not able)|i (?:am (?:sorry|unable|not able)|can ?not|"
    r"can['\N{RIGHT SINGLE QUOTATION MARK}]?t|won['\N{RIGHT SINGLE QUOTATION MARK}]?t|will not)|sorry\b|as an? (?:ai|"
    r"language model)|unfortunately,? i)",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"(yes|no)\s*[.!]?", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Z])[).:]?", re.IGNORECASE)
_LETTERED = re.compile(r"\(?([A-Z])[).:]\s+")
MAX_OPTIONS = 6
_LETTERS = "ABCDEF"


class Unusable(ValueError):
    """A reply that cannot be used: `malformed`, `refused`, `truncated`, `empty` or `off schema: …`; quotes nothing."""


class Draft(NamedTuple):
    """A pair as a writer gives it."""

    question: str
    answer: str
    kind: Kind
    question_type: str = ""
    choices: tuple[str, ...] = ()
    support: str = ""


def one_line(text: str) -> str:
    """Text with its white space collapsed."""
    return " ".join(text.split())


def read_drafts(writer: str, reply: Reply, *, mark: str, kinds: Sequence[str], image: Image) -> list[Draft]:
    """The pairs in a reply.

    Raises:
        Unusable: naming the reason.
    """
    found = _read_json(reply)
    model = Question if writer == "caption" else Pairs
    try:
        said = model.model_validate(found)
    except pydantic.ValidationError as error:
        fields = sorted({".".join(str(part) for part in item["loc"]) or "the whole" for item in error.errors()})
        raise Unusable(f"off schema: {', '.join(fields[:4])}") from None
    if said.mark != mark:
        raise Unusable("off schema: another mark")
    if isinstance(said, Question):
        # The caption is the answer, unchanged except for white space; it supports itself.
        caption = one_line(image.row["caption"])
        return [Draft(one_line(said.question), caption, "open", "caption", support=image.row["caption"])]
    if len(said.pairs) > len(kinds):
        raise Unusable(f"off schema: {len(said.pairs)} pairs instead of {len(kinds)}")
    return [_draft(pair, image) for pair in said.pairs]


def _read_json(reply: Reply) -> object:
    if not reply.text.strip():
        raise Unusable("refused" if reply.finish == "content_filter" else "empty")
    try:
        return read_reply(reply.text)
    except NoJson:
        if _REFUSES.match(reply.text):
            raise Unusable("refused") from None
        raise Unusable("truncated" if reply.finish == "length" else "malformed") from None


def _draft(pair: Pair, image: Image) -> Draft:
    question, answer, about = one_line(pair.question), one_line(pair.answer), one_line(pair.about).lower()
    choices: tuple[str, ...] = ()
    if pair.kind == "closed":
        if not (matched := _YES_NO.fullmatch(answer)):
            raise Unusable("off schema: a closed answer that is neither yes nor no")
        answer = matched[1].lower()
    elif pair.kind == "multiple_choice":
        answer, choices = _options(answer, [one_line(option) for option in pair.options], image)
    return Draft(question, answer, pair.kind, about, choices, pair.support)


def _options(answer: str, options: list[str], image: Image) -> tuple[str, tuple[str, ...]]:
    """(answer, options): the right option, and all options without letters, in random order.

    Models tend to put the right option first.
    """
    letters = [found[1] for option in options if (found := _LETTERED.match(option))]
    if options and len(letters) == len(options):
        if letters == list(_LETTERS[: len(letters)]):
            options = [_LETTERED.sub("", option, count=1) for option in options]
            answer = _LETTERED.sub("", answer, count=1)
        elif set(letters) <= set(_LETTERS):  # others begin a name, as in "L. lung" and "S. aureus"
            raise Unusable("off schema: options whose letters are not A, B, C in order")
    folded = [option.casefold() for option in options]
    if not 2 <= len(options) <= MAX_OPTIONS or len(set(folded)) < len(options) or not all(folded):
        raise Unusable("off schema: options that are too few, too many, empty or equal")
    if answer.casefold() in folded:
        right = folded.index(answer.casefold())
    elif (letter := _LETTER.fullmatch(answer)) and ord(letter[1].upper()) - ord("A") < len(options):
        right = ord(letter[1].upper()) - ord("A")
    else:
        raise Unusable("off schema: a multiple-choice answer that is none of its options")
    drawn = options.copy()
    random.Random(f"{image.dataset}\n{image.image_id}\n{sorted(options)}").shuffle(drawn)
    return options[right], tuple(drawn)
