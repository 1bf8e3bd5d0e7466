"""Verdicts by rule, and accuracy by cell. Scoring reads records only; no model is needed."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.evaluation import intervals
from radvqa_jax.evaluation.rules import COLUMNS, Column, Verdict, Verdicts, column_verdict, verdict, verdicts
from radvqa_jax.schema import Record

__all__ = ["COLUMNS", "Column", "Verdict", "Verdicts", "verdict", "verdicts"]
GROUPS = ("answer_type", "question_type", "organ", "modality", "plane")


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
        """A dict of plain values; a cell that does not exist is left out."""
        overall = {} if self.overall is None else {"overall": cell_to_json(self.overall)}
        by = {field: {value: cell_to_json(cell) for value, cell in cells.items()} for field, cells in self.by.items()}
        return overall | {"by": {field: cells for field, cells in by.items() if cells}}


def cell_to_json(cell: Cell | intervals.Estimate) -> dict[str, Any]:
    """A dict of plain values, the same before writing and after reading it."""
    return cell._asdict() | {"interval": None if cell.interval is None else list(cell.interval)}


def check_once(records: Sequence[Record]) -> None:
    """Raises ValueError if a question occurs twice, or has no prediction."""
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


def first_verdicts(records: Sequence[Record], *, column: Column = "radvqa") -> list[Verdict]:
    """The verdict of a column on the first prediction of each record.

    Raises:
        ValueError: if a question occurs twice, or has no prediction.
    """
    check_once(records)
    return [column_verdict(record, record.predictions[0], column) for record in records]


def image_ids(records: Iterable[Record]) -> np.ndarray:
    """A number for each record's image; equal for the same image of the same data set.

    A question whose image is unknown counts as an image of its own.
    """
    ids = [record.cluster for record in records]
    return np.unique(ids, return_inverse=True)[1] if ids else np.zeros(0, np.int64)


def correct_answers(verdicts: Iterable[Verdict]) -> np.ndarray:
    """1.0 for each verdict that is correct, else 0.0; unparsed counts as not correct."""
    return np.array([v.outcome == "correct" for v in verdicts], dtype=np.float64)


def group(records: Sequence[Record], field: str) -> dict[str, list[int]]:
    """The numbers of the records that have each value of a field, sorted; a missing value makes no group."""
    rows: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if value := getattr(record, field):
            rows.setdefault(value, []).append(index)
    return dict(sorted(rows.items()))


def score(records: Sequence[Record], column: Column = "radvqa", /, *, resamples: int = 2000, seed: int = 0) -> Scores:
    """Accuracy of the first predictions: overall, and for each value of each field in `GROUPS`.

    Args:
        records: of one run, each question once.
        column: which of the two verdicts counts.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.
    """
    found = first_verdicts(records, column=column)
    images, correct = image_ids(records), correct_answers(found)
    unparsed = np.array([v.outcome == "unparsed" for v in found], dtype=bool)

    def cell(rows: Sequence[int]) -> Cell:
        index = np.asarray(rows)
        estimate = intervals.mean_interval(correct[index], images[index], resamples=resamples, seed=seed)
        n_correct, n_unparsed = int(correct[index].sum()), int(unparsed[index].sum())
        return Cell(estimate.n, estimate.n_images, n_correct, n_unparsed, estimate.value, estimate.interval)

    by = {field: {value: cell(rows) for value, rows in group(records, field).items()} for field in GROUPS}
    return Scores(cell(range(len(records))) if records else None, by)


def pair(a: Sequence[Record], b: Sequence[Record]) -> list[Record]:
    """The records of b in the order of a.

    Raises:
        ValueError: if the two do not answer the same questions with the same references.
    """
    check_once(b)
    other = {(r.source, r.question_id): r for r in b}
    keys = [(r.source, r.question_id) for r in a]
    if unshared := sorted(set(keys) ^ set(other)):
        sources = [sorted({source for source, _ in found})[:3] for found in (keys, other)]
        renamed = sorted(question for _, question in keys) == sorted(question for _, question in other)
        remedy = f" Only `source` differs, {sources[0]} and {sources[1]}: write the same one into both." * renamed
        raise ValueError(
            f"A paired comparison needs the same questions in both; {len(unshared)} are in one only, "
            f"first {unshared[:3]}, each as (source, question_id).{remedy}"
        )
    for record, key in zip(a, keys, strict=True):
        for field, mine, theirs, same in (
            (
                "reference",
                record.reference,
                other[key].reference,
                _plain(record.reference) == _plain(other[key].reference),
            ),
            ("text", record.question, other[key].question, same_question(record.question, other[key].question)),
            ("choices", record.choices, other[key].choices, _same_choices(record.choices, other[key].choices)),
        ):
            if not same:
                raise ValueError(
                    f"Question {record.question_id!r} has the {field} {mine!r} in one and {theirs!r} in the other: the "
                    "two were not asked the same. Use one release of the data."
                )
    return [other[key] for key in keys]


def paired_answers(a: Sequence[Record], b: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(1.0 for each correct first answer of a, the same of b, the number of each question's image), in the order of a.

    Options and images that one of the two leaves out are those of the other.

    Raises:
        ValueError: if the two do not answer the same questions with the same references.
    """
    other = pair(a, b)
    completed = [
        (
            x._replace(image_id=x.image_id or y.image_id, choices=x.choices or y.choices),
            y._replace(choices=y.choices or x.choices),
        )
        for x, y in zip(a, other, strict=True)
    ]
    first, second = [x for x, _ in completed], [y for _, y in completed]
    return correct_answers(first_verdicts(first)), correct_answers(first_verdicts(second)), image_ids(first)


def same_question(one: str, other: str) -> bool:
    """Whether two texts ask the same question: other tools add instructions to a question, or do not keep it."""
    first, second = _plain(one), _plain(other)
    return first in second or second in first


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _same_choices(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists of options are the same, letter by letter; a tool may also keep no options."""
    return not one or not other or list(one) == list(other)


def compare(a: Sequence[Record], b: Sequence[Record], *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Accuracy of a minus accuracy of b on the same questions, paired, with its 95 % interval over images.

    Keys: `overall`, and `by` ({field: {value: cell}}) for each value of each group of a, as plain values. A cell
    without questions is absent.

    Raises:
        ValueError: if the two do not answer the same questions, or there are none.
    """
    mine, theirs, images = paired_answers(a, b)

    def cell(rows: Sequence[int]) -> dict[str, Any]:
        bootstrap = {"resamples": resamples, "seed": seed}
        return cell_to_json(intervals.paired_difference(mine[rows], theirs[rows], images[rows], **bootstrap))

    by = {field: {value: cell(rows) for value, rows in group(a, field).items()} for field in GROUPS}
    return {"overall": cell(range(len(a))), "by": {field: cells for field, cells in by.items() if cells}}
