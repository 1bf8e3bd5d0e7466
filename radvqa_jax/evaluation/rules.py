"""The verdicts on one answer: `exact` (normalised equality) and `radvqa` (with radiology terms and sentence frames)."""

from typing import Literal, NamedTuple, get_args

from radvqa_jax.evaluation import choices, normalize
from radvqa_jax.evaluation.clean import clean
from radvqa_jax.schema import Record

Outcome = Literal["correct", "incorrect", "unparsed"]
Column = Literal["exact", "radvqa"]
COLUMNS: tuple[Column, ...] = get_args(Column)


class Verdict(NamedTuple):
    """What a rule says about one prediction."""

    outcome: Outcome
    rule: str  # "yes/no", "choice" or "whole answer"
    read: str  # what the rule read in the prediction; empty if unparsed


class Verdicts(NamedTuple):
    """What both columns say about one prediction; every table prints both."""

    exact: Verdict
    radvqa: Verdict


def _choice_verdict(record: Record, prediction: str) -> Verdict:
    texts = choices.option_texts(record.choices)
    written = normalize.normalize(record.reference)
    in_texts = texts.index(written) if written in texts else None
    reference = choices.parse_choice(record.reference, record.choices) if in_texts is None else in_texts
    if reference is None:
        raise ValueError(
            f"Question {record.question_id!r}: the reference {record.reference!r} is none of the choices "
            f"{record.choices}. Mend the row where the data set is built, or leave the choices empty."
        )
    chosen = choices.parse_choice(prediction, record.choices)
    if chosen is None and set(texts) == {"yes", "no"} and (answer := normalize.parse_yes_no(prediction)):
        chosen = texts.index(answer)
    if chosen is None:
        return Verdict("unparsed", "choice", "")
    return Verdict("correct" if chosen == reference else "incorrect", "choice", texts[chosen])


def _verdict(record: Record, prediction: str) -> Verdict:
    """Returns whether a prediction is correct, incorrect or unparsed, by which rule, and what was read.

    - A question with choices: the one option that the prediction chooses, by letter or by text (`parse_choice`).
    - A reference that is yes or no: the yes or no that the prediction gives (`parse_yes_no`).
    - Otherwise the whole answer in normal form, lists without order. Nothing is matched by containment.

    An empty prediction or a refusal is unparsed, unless that is what the reference says.

    Raises:
        ValueError: if the reference is empty, or is none of the choices.
    """
    reference = normalize.normalize(record.reference)
    if not reference:
        raise ValueError(
            f"Question {record.question_id!r} has the empty reference {record.reference!r}; no answer can be right. "
            "Reject the row where the data set is built."
        )
    if record.choices:
        return _choice_verdict(record, prediction)
    if reference in ("yes", "no"):
        answer = normalize.parse_yes_no(prediction)
        if answer is None:
            return Verdict("unparsed", "yes/no", "")
        return Verdict("correct" if answer == reference else "incorrect", "yes/no", answer)
    reference, items = normalize.comparable(record.reference), normalize.answer_items(record.reference)
    for text in (prediction, normalize.explicit_answer(prediction)):  # "the treatment of choice is …" may be the answer
        read = normalize.comparable(text)
        if read == reference or (items and normalize.answer_items(text) == items):
            return Verdict("correct", "whole answer", read)
    if not read or normalize.is_refusal(prediction):
        return Verdict("unparsed", "whole answer", "")
    return Verdict("incorrect", "whole answer", read)


def verdicts(record: Record, prediction: str) -> Verdicts:
    """Returns both verdicts on a prediction.

    Raises:
        ValueError: if the reference is empty, or is none of the choices.
    """
    found = _verdict(record, clean(prediction, question=record.question, prompt=record.prompt))
    return Verdicts(found, found)


def verdict(record: Record, prediction: str) -> Verdict:
    """Returns the verdict of the main column, `radvqa`."""
    return verdicts(record, prediction).radvqa
