"""Calibration: is a more confident model right more often? Probabilities of answers against the rules' verdicts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from radvqa_jax.evaluation import intervals, scoring
from radvqa_jax.schema import Record

BINS = 10


def calibrate(records: Sequence[Record], *, resamples: int, seed: int) -> dict[str, Any] | None:
    """The agreement of confidence and accuracy; None if an answer has no log-probability.

    Confidence is the probability of the whole first answer, exp of its log-probability: of all texts, not of the
    possible answers, so wording takes its share. Keys: `n`, `ece` (expected calibration error over ten bins of equal
    width, Guo et al. 2017; it is above 0 by chance alone when n is small), `brier` (mean squared distance to right or
    wrong, with its interval; Brier 1950), `bins` (`confidence` and `accuracy` of each bin that has answers).
    """
    if not records or not all(record.logprobs for record in records):
        return None
    confidence = np.array([min(1.0, math.exp(record.logprobs[0])) for record in records])
    correct = np.array([v.outcome == "correct" for v in scoring.first_verdicts(records)], np.float64)
    images = [record.cluster for record in records]
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bootstrap: dict[str, Any] = {"resamples": resamples, "seed": seed}
    bins, error = [], 0.0
    for number in np.unique(which):
        inside = np.flatnonzero(which == number)
        cell = intervals.mean_interval(correct[inside], [images[i] for i in inside], **bootstrap)
        mean = float(confidence[inside].mean())
        bins.append({"confidence": mean, "accuracy": scoring.cell_to_json(cell)})
        error += len(inside) / len(records) * abs(cell.value - mean)
    brier = intervals.mean_interval((confidence - correct) ** 2, images, **bootstrap)
    return {"n": len(records), "ece": error, "brier": scoring.cell_to_json(brier), "bins": bins}
