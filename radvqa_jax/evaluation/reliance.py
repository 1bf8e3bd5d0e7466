"""Measures whether answers need the image: a run's own answers against those to another or a blank image.

Answers are paired by question. R is the share that is right with the question's own image, R' with the other:

- `survival`: of the answers that are right with the own image, the share that stays right. 1 = no image was needed.
- `retained`: R' / R. Zafar, Murali and Vashist 2026 (arXiv 2603.03437) print it for blank images ("retains 81 %").
  Unlike `survival`, it also counts answers that become right only with the other image.
- `drop`: R - R'. For another image they call it the Visual Reliance Score; negative = better with the wrong image.
- `changed`: the share of answers that change with the other image. They call it Image Sensitivity. Two answers are the
  same if the `radvqa` rule reads the same in both; all unparsed answers are the same.

The names follow that paper's abstract; its formulas and those of arXiv 2606.02809 were not available. A question that
can be answered without the image survives for a good reason: compare with the question-only baseline.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from radvqa_jax.evaluation import intervals, line_scores
from radvqa_jax.evaluation.line_scores import OTHER_IMAGES
from radvqa_jax.evaluation.scan import Columns, Scan
from radvqa_jax.evaluation.scoring import cell_to_json, first_verdicts, image_ids, pair
from radvqa_jax.evaluation.tables import format_cell
from radvqa_jax.schema import Record

MEASURES = ("survival", "retained", "drop", "changed")
NOTES = (
    "Of the answers that are right with the own image, `survival` stay right with the other. `retained` is the "
    "accuracy with the other image over that with the own, `drop` their difference, and `changed` the share of "
    "answers that say something else."
)


def _ratio(sums: Float[np.ndarray, " 2"]) -> float:
    return float(sums[0] / sums[1]) if sums[1] else np.nan


def measure(
    own: Bool[np.ndarray, " n"],
    other: Bool[np.ndarray, " n"],
    changed: Bool[np.ndarray, " n"],
    images: np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """A cell for each of `MEASURES`; `survival` and `retained` are absent if no own answer is right.

    Args:
        own: whether each answer to the question's own image is right.
        other: the same for the other image.
        changed: whether each answer changes with the other image.
        images: each question's own image.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.
    """
    bootstrap: dict[str, Any] = {"resamples": resamples, "seed": seed}
    mine, theirs = own.astype(np.float64), other.astype(np.float64)
    found = {
        "drop": cell_to_json(intervals.paired_difference(mine, theirs, images, **bootstrap)),
        "changed": cell_to_json(intervals.mean_interval(changed.astype(np.float64), images, **bootstrap)),
    }
    if own.any():
        found["survival"] = cell_to_json(intervals.mean_interval(theirs[own], images[own], **bootstrap))
        sums = np.stack([theirs, mine], axis=1)
        interval = intervals.statistic_interval(sums, images, _ratio, **bootstrap)
        found["retained"] = {
            "value": _ratio(sums.sum(axis=0)),
            "interval": None if interval is None else list(interval),
            "n": len(own),
            "n_images": len(np.unique(images)),
        }
    return {name: found[name] for name in MEASURES if name in found}


def of_records(own: Sequence[Record], other: Sequence[Record], **bootstrap: int) -> dict[str, Any]:
    """The measures of a run's records and its records with other images.

    Raises:
        ValueError: if the two do not answer the same questions.
    """
    mine, theirs = first_verdicts(own), first_verdicts(pair(own, other))
    right = [np.array([v.outcome == "correct" for v in found], bool) for found in (mine, theirs)]
    said = [[line_scores.said(verdict) for verdict in found] for found in (mine, theirs)]
    changed = np.array([a != b for a, b in zip(*said, strict=True)], bool)
    return measure(right[0], right[1], changed, image_ids(own), **bootstrap)


def _of_columns(own: Columns, other: Columns, **bootstrap: int) -> dict[str, Any]:
    """The measures over the questions that both answer, with `n_unpaired`, the lines without a partner.

    Two lines with one question_id are not a pair if their questions or references differ: files without ids of their
    own, in which the place is the id, may have another order.
    """
    _, mine, theirs = np.intersect1d(np.asarray(own.key), np.asarray(other.key), return_indices=True)
    questions = np.asarray(own.question)[mine], np.asarray(other.question)[theirs]
    same = (questions[0] == questions[1]) | (questions[0] == 0) | (questions[1] == 0)
    same &= np.asarray(own.reference)[mine] == np.asarray(other.reference)[theirs]
    mine, theirs = mine[same], theirs[same]
    unpaired = len(own) + len(other) - 2 * len(mine)
    if not len(mine):
        return {"n_unpaired": unpaired}
    correct = line_scores.OUTCOMES.index("correct")
    right, wrong_image = (
        np.asarray(found.outcomes["radvqa"])[rows] == correct for found, rows in ((own, mine), (other, theirs))
    )
    changed = np.asarray(own.answer)[mine] != np.asarray(other.answer)[theirs]
    images = np.asarray(own.image)[mine]
    return measure(right, wrong_image, changed, images, **bootstrap) | {"n_unpaired": unpaired}


def of_scan(scan: Scan, **bootstrap: int) -> dict[str, dict[str, Any]]:
    """{run: {other image: measures}} of the runs that were also asked with other images."""
    found: dict[str, dict[str, Any]] = {}
    for run, columns in scan.runs.items():
        for ending in OTHER_IMAGES:
            if other := scan.runs.get(run + ending):
                found.setdefault(run, {})[ending.removeprefix(", ")] = _of_columns(columns, other, **bootstrap)
    return found


def reliance_rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table as text, the header first; only the header if nothing was measured."""
    rows = [["run", "with", *MEASURES]]
    for run, by_image in found.items():
        for image, cells in by_image.items():
            shown = [format_cell(cells.get(name), signed=name == "drop") for name in MEASURES]
            lone = cells.get("n_unpaired", 0)
            rows.append([run or "answers", f"{image}; {lone} answers without a partner" if lone else image, *shown])
    return rows
