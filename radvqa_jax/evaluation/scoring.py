"""Verdicts by rule, and accuracy by cell. Scoring reads records only; no model is needed."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from radvqa_jax.evaluation import choices, intervals, normalize
from radvqa_jax.schema import Record

Outcome = Literal["correct", "incorrect", "unparsed"]
GROUPS = ("answer_type", "question_type", "organ", "modality", "plane")


class Verdict(NamedTuple):
    """What a rule says about one prediction."""

    outcome: Outcome
    rule: str  # "yes/no", "choice" or "whole answer"
    read: str  # what the rule read in the prediction; empty if unparsed


class Cell(NamedTuple):
    """Accuracy over some questions. A cell without questions does not exist; it is never 0."""

    n: int
    n_images: int
    correct: int
    unparsed: int  # counted as not correct
    value: float  # correct / n
    interval: tuple[float, float] | None  # 95 %, over images; None: fewer than two images


class Scores(NamedTuple):
    """The cells of one run."""

    overall: Cell | None  # None: no record
    by: dict[str, dict[str, Cell]]  # field of Record -> its value -> cell; a missing value ("") makes no cell

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of plain values; a cell that does not exist is left out."""
        overall = {} if self.overall is None else {"overall": cell_to_json(self.overall)}
        by = {field: {value: cell_to_json(cell) for value, cell in cells.items()} for field, cells in self.by.items()}
        return overall | {"by": {field: cells for field, cells in by.items() if cells}}


def cell_to_json(cell: Cell | intervals.Estimate) -> dict[str, Any]:
    """Returns a dict of plain values, the same before writing and after reading it."""
    return cell._asdict() | {"interval": None if cell.interval is None else list(cell.interval)}


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


def verdict(record: Record, prediction: str) -> Verdict:
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


def first_verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Returns the verdict on the first prediction of each record.

    Raises:
        ValueError: if a question occurs twice, or has no prediction.
    """
    seen: set[tuple[str, str]] = set()
    for record in records:
        if not record.predictions:
            raise ValueError(
                f"Question {record.question_id!r} has no prediction. Run mode=predict again to complete it."
            )
        if (key := (record.source, record.question_id)) in seen:
            raise ValueError(
                f"Question {record.question_id!r} of {record.source or 'the data set'} occurs twice in one run. "
                "Score one run and one data set at a time, or remove the repeated line."
            )
        seen.add(key)
    return [verdict(record, record.predictions[0]) for record in records]


def _image_ids(records: Iterable[Record]) -> list[str]:
    return [f"{record.source}\t{record.image_id}" for record in records]


def _correct(verdicts: Iterable[Verdict]) -> np.ndarray:
    return np.array([v.outcome == "correct" for v in verdicts], dtype=np.float64)


def score(records: Sequence[Record], *, resamples: int = 2000, seed: int = 0) -> Scores:
    """Returns accuracy of the first predictions: overall, and for each value of each field in `GROUPS`.

    Args:
        records: of one run, each question once.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.
    """
    verdicts = first_verdicts(records)
    images, correct = _image_ids(records), _correct(verdicts)
    unparsed = np.array([v.outcome == "unparsed" for v in verdicts], dtype=bool)

    def cell(rows: Sequence[int]) -> Cell:
        index = np.asarray(rows)
        estimate = intervals.mean_interval(correct[index], [images[i] for i in rows], resamples=resamples, seed=seed)
        n_correct, n_unparsed = int(correct[index].sum()), int(unparsed[index].sum())
        return Cell(estimate.n, estimate.n_images, n_correct, n_unparsed, estimate.value, estimate.interval)

    by: dict[str, dict[str, Cell]] = {}
    for field in GROUPS:
        rows: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            if value := getattr(record, field):
                rows.setdefault(value, []).append(index)
        by[field] = {value: cell(rows[value]) for value in sorted(rows)}
    return Scores(cell(range(len(records))) if records else None, by)


def compare(a: Sequence[Record], b: Sequence[Record], *, resamples: int = 2000, seed: int = 0) -> intervals.Estimate:
    """Returns accuracy of a minus accuracy of b on the same questions, paired, with its 95 % interval over images.

    Raises:
        ValueError: if the two do not answer the same questions, or answer none.
    """
    other = dict(zip(((r.source, r.question_id) for r in b), _correct(first_verdicts(b)), strict=True))
    keys = [(r.source, r.question_id) for r in a]
    if unshared := sorted(set(keys) ^ set(other)):
        raise ValueError(
            f"A paired comparison needs the same questions in both; {len(unshared)} are in one only, "
            f"first {unshared[:3]}."
        )
    mine = _correct(first_verdicts(a))
    theirs = np.array([other[key] for key in keys], dtype=np.float64)
    return intervals.paired_difference(mine, theirs, _image_ids(a), resamples=resamples, seed=seed)
