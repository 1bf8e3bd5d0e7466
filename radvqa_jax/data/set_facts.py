"""Facts about one data set: counts by field, answers, lengths, and rows that teach or test nothing."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from radvqa_jax.data.rows import RowSource

FIELDS = ("answer_type", "modality", "organ", "plane", "language", "question_type")
LISTED = 30  # values of a field, answers and openings that are listed; the others are summed up
# Texts that may replace a missing one; a person decides (`none` can be an answer). 21 captions of MedPix 2.0 have the
# first.
PLACEHOLDERS = re.compile(
    r"replace this\b.*|description of the image or findings\.?|lorem ipsum.*"
    r"|n/?a\.?|null|none|nan|todo|tbd|unknown|[-.?]+",
    re.IGNORECASE,
)
OPENING_WORDS = 4  # generated answers begin alike: "The findings suggest that …"
OPENING_SHARE = 0.01  # share of all rows at which an opening counts as a template
OPENING_ROWS = 20


class Texts(NamedTuple):
    """Texts of the rows of a set; `answer` is the target of training, which is the caption for the task `caption`."""

    question: list[str]
    answer: list[str]
    image_id: list[str]
    case_id: list[str]
    yes_no: list[bool]
    choices: list[list[str]]
    fields: dict[str, list[str]]


def normal(text: str) -> str:
    """A text without case and runs of white space.

    >>> normal(" Is  there a Mass? ")
    'is there a mass?'
    """
    return " ".join(text.casefold().split())


def read_texts(rows: RowSource) -> Texts:
    """The texts of a set; images are not read."""
    caption = rows.source.task == "caption"
    return Texts(
        [""] * len(rows) if caption else rows.column("question"),
        rows.column("caption" if caption else "answer"),
        rows.column("image_id"),
        rows.column("case_id"),
        rows.column("yes_no"),
        rows.column("choices"),
        {field: rows.column(field) for field in FIELDS},
    )


def _most(counted: Counter[str]) -> dict[str, int]:
    """The most common values, ties in alphabetical order; the rest counts as `(others)`, and "" as `(none)`."""
    order = sorted(counted, key=lambda value: (-counted[value], value))
    listed = {value or "(none)": counted[value] for value in order[:LISTED]}
    if rest := sum(counted[value] for value in order[LISTED:]):
        listed["(others)"] = rest
    return listed


def _lengths(texts: Sequence[str]) -> dict[str, int]:
    """{number of words: rows}, shortest first."""
    counted = Counter(len(text.split()) for text in texts)
    return {str(length): counted[length] for length in sorted(counted)}


def _openings(answers: Sequence[str]) -> dict[str, int]:
    """Beginnings that many longer answers share: texts from a template."""
    longer = [words for answer in answers if len(words := normal(answer).split()) > OPENING_WORDS]
    counted = Counter(" ".join(words[:OPENING_WORDS]) for words in longer)
    least = max(OPENING_ROWS, OPENING_SHARE * len(answers))
    return _most(Counter({opening: n for opening, n in counted.items() if n >= least}))


def _closed(texts: Texts) -> dict[str, int]:
    closed = [number for number, kind in enumerate(texts.fields["answer_type"]) if kind == "closed"]
    return {"rows": len(closed), "not_yes_no": sum(not texts.yes_no[number] for number in closed)}


def _contradictions(texts: Texts, images: Sequence[str]) -> int:
    """The number of questions about one image that have more than one answer."""
    answers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for image, question, answer in zip(images, texts.question, texts.answer, strict=True):
        if image and question:
            answers[image, normal(question)].add(normal(answer))
    return sum(len(different) > 1 for different in answers.values())


def set_facts(texts: Texts, *, images: Sequence[str]) -> dict[str, Any]:
    """Counts the facts of one set.

    The result has `rows`, `fields` {field: {value: rows}}, `answers` (most common), `distinct_answers`,
    `distinct_questions`, `question_words` and `answer_words` {length: rows}, `closed` {rows, not_yes_no},
    `multiple_choice`, `empty_answers`, `placeholder_answers` {text: rows}, `template_openings` {opening: rows} and
    `contradictions`. `images` gives the image of each row.
    """
    placeholders = Counter(normal(answer) for answer in texts.answer if PLACEHOLDERS.fullmatch(normal(answer)))
    return {
        "rows": len(texts.answer),
        "fields": {field: _most(Counter(values)) for field, values in texts.fields.items() if any(values)},
        "answers": _most(Counter(map(normal, texts.answer))),
        "distinct_answers": len(set(map(normal, texts.answer))),
        "distinct_questions": len(set(map(normal, texts.question)) - {""}),
        "question_words": _lengths(texts.question),
        "answer_words": _lengths(texts.answer),
        "closed": _closed(texts),
        "multiple_choice": sum(bool(choices) for choices in texts.choices),
        "empty_answers": sum(not answer.strip() for answer in texts.answer),
        "placeholder_answers": _most(placeholders),
        "template_openings": _openings(texts.answer),
        "contradictions": _contradictions(texts, images),
    }
