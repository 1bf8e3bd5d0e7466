"""Closed or open: the data set's answer type, and the rule if it has none."""

from typing import NamedTuple

from radvqa_jax.schema import Record

_POLARITY = {"yes", "no", "\u662f", "\u5426", "\u662f\u7684", "\u4e0d\u662f", "\u6709", "\u6ca1\u6709", "\u65e0"}


class AnswerType(NamedTuple):
    """`closed` or `open`, and whether it was derived because the record does not say."""

    value: str
    derived: bool


def answer_type(record: Record) -> AnswerType:
    """The record's answer type in lower case; a missing one is derived.

    The rule: a question is closed if it has choices or its reference is a polarity word (yes, no, and the commonest
    Chinese ones); any other is open. SLAKE's own flag also calls a choice between two things closed ("CT or MRI?"),
    which no rule can infer from the reference alone.

    >>> answer_type(Record("q", "i", "Is it?", "Yes.", ["no"]))
    AnswerType(value='closed', derived=True)
    """
    if given := record.answer_type.strip().lower():
        return AnswerType(given, False)
    closed = bool(record.choices) or record.reference.strip().rstrip(".\u3002").lower() in _POLARITY
    return AnswerType("closed" if closed else "open", True)
