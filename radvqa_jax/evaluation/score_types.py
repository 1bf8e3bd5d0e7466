"""The types of scores.json, which the report, its page and its figures read: plain JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

# Kinds of blind answers with which a run's own are compared, as keys of `RunScores.over`; those of UNSEEN saw an image.
UNSEEN = {"swapped": "another case's image", "swapped_any": "any other image", "blank": "a blank image"}
QUESTION_ONLY = "question_only"
BEFORE = "base"  # the run of a job before training


class Cell(TypedDict):
    """A figure with its interval. A cell without questions does not exist; it is never 0."""

    value: float
    interval: list[float] | None  # 95 %, over images; None: fewer than two images
    n: int
    n_images: int
    correct: NotRequired[int]
    unparsed: NotRequired[int]


class Cells(TypedDict):
    """A figure over all questions, and for each value of each field of a question."""

    overall: Cell
    by: dict[str, dict[str, Cell]]


class RunScores(Cells):
    """One run: its accuracy, the accuracy of its answers to other images, and further measurements."""

    unseen: NotRequired[dict[str, Cells]]  # kind of UNSEEN -> accuracy with that image
    over: NotRequired[dict[str, Cells]]  # kind of UNSEEN, question_only, base (in a job) -> accuracy less that, paired
    reliance: NotRequired[dict[str, dict[str, Cell]]]  # label of UNSEEN -> measure -> cell
    judged: NotRequired[dict[str, Any]]
    calibration: NotRequired[dict[str, Any]]
    nonsense: NotRequired[dict[str, Any]]
    cut: NotRequired[dict[str, int]]
    review: NotRequired[dict[str, Any]]
    published: NotRequired[dict[str, Any]]
    samples: NotRequired[dict[str, Any]]


class ExperimentScores(TypedDict):
    """All numbers of a report."""

    title: str
    synthetic: bool
    method: dict[str, Any]
    runs: Mapping[str, RunScores]  # in the order of the experiment
    baselines: dict[str, Cells]
    papers: list[dict[str, Any]]
    losses: dict[str, Sequence[Mapping[str, Any]]]
    provenance: dict[str, Any]
    leaks: NotRequired[list[str]]  # one sentence for each leak; empty: audited and clean; absent: not audited
    missing: NotRequired[list[str]]
    readings_of_others: NotRequired[dict[str, int]]  # filled rows of review sheets about runs that are not here, by run


def column(cells: Cells, name: str) -> Cell | None:
    """The cell of a column of the main table: overall, closed or open."""
    return cells["overall"] if name == "overall" else cells["by"].get("answer_type", {}).get(name)
