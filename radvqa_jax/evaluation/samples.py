"""Several answers to one question: their agreement, MedM's penalty for disagreement, and MedM's frame.

MedM (§5.3) calls an item non-robust "if the model produces different answers in three or more out of five inferences"
and penalises "the accuracy by one point". No code exists, and both halves of the sentence have several readings: all
are here.
Letters: n questions, k answers of each.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from radvqa_jax.evaluation import intervals
from radvqa_jax.evaluation.scoring import cell_to_json, check_once, image_ids, verdict
from radvqa_jax.schema import Record

Instability = Literal["distinct", "no_majority", "differs_from_first", "mostly_wrong"]
Penalty = Literal["item_zero", "minus_item", "percentage_point"]

# The defaults: an item for which no three of five answers agree has no answer, and an item without an answer is not
# right. This is the only penalty that keeps accuracy in [0, 1] and does not depend on the number of questions. Unlike
# `distinct`, the reading does not punish 3-1-1, where a majority exists.
DEFAULT_INSTABILITY: Instability = "no_majority"
DEFAULT_PENALTY: Penalty = "item_zero"
POINT = 0.01


def is_unstable(labels: Sequence[str], correct: Sequence[bool], reading: Instability) -> bool:
    """Whether the answers to one question are non-robust.

    With m = k // 2 + 1, which is three of five:

    - `distinct`: m or more different labels.
    - `no_majority`: no label has m answers. (At least m answers differing from the commonest label is the same.)
    - `differs_from_first`: m or more answers differ from the first.
    - `mostly_wrong`: m or more answers are not correct.

    >>> [is_unstable(list("AAABC"), [True] * 3 + [False] * 2, r) for r in ("distinct", "no_majority")]
    [True, False]
    """
    most = len(labels) // 2 + 1
    match reading:
        case "distinct":
            return len(set(labels)) >= most
        case "no_majority":
            return max(Counter(labels).values()) < most
        case "differs_from_first":
            return sum(label != labels[0] for label in labels) >= most
        case "mostly_wrong":
            return sum(not right for right in correct) >= most


def penalised(
    correct: Float[np.ndarray, " n"], unstable: Bool[np.ndarray, " n"], penalty: Penalty
) -> tuple[Float[np.ndarray, " n"], tuple[float, float]]:
    """A value for each item, whose mean is the penalised accuracy; and the smallest and largest possible value.

    - `item_zero`: a non-robust item counts as not correct.
    - `minus_item`: each non-robust item takes one correct item away; a wrong one counts -1.
    - `percentage_point`: each takes 0.01 from the accuracy; the more questions, the larger the loss.
    """
    match penalty:
        case "item_zero":
            return correct * ~unstable, (0.0, 1.0)
        case "minus_item":
            return correct - unstable, (-1.0, 1.0)
        case "percentage_point":
            loss = POINT * len(correct)
            return correct - loss * unstable, (-loss, 1.0)


def _entropy(labels: Sequence[str]) -> float:
    """The entropy of the labels in bits: 0 if all agree, log2 k if all differ."""
    shares = np.array(list(Counter(labels).values())) / len(labels)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def _agreement(labels: Sequence[str]) -> float:
    """The share of pairs of answers that agree."""
    same = sum(count * (count - 1) for count in Counter(labels).values())
    return same / (len(labels) * (len(labels) - 1))


def _labels(records: Sequence[Record]) -> tuple[list[list[str]], Bool[np.ndarray, "n k"]]:
    """The reading of each answer by the radvqa rules (unparsed answers share a label), and whether it is correct."""
    check_once(records)
    counts = sorted({len(record.predictions) for record in records})
    if len(counts) > 1:
        raise ValueError(f"Every question needs the same number of answers; got {counts}. Predict them again.")
    found = [[verdict(record, answer) for answer in record.predictions] for record in records]
    correct = np.array([[v.outcome == "correct" for v in row] for row in found], dtype=bool)
    # All right answers share one label, however they are written: a list in another order would read differently.
    labels = [["correct" if v.outcome == "correct" else f"{v.outcome}: {v.read}" for v in row] for row in found]
    return labels, correct


def frame(
    correct: Bool[np.ndarray, "n k"], *, size: int = 200, runs: int = 5, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """MedM's mean and standard deviation over runs, on samples of `size` and on the full set.

    Run i scores answer i mod k of each question. Samples are drawn without replacement; with at most
    `size` questions the sample is the full set, as `size` in the result shows. The standard deviation (n - 1) is over
    runs, and absent if all runs would be the same by construction. Known flaw: it measures the spread of runs, not the
    uncertainty of the accuracy; samples of one test set overlap, so it is too small for that. Use the interval.
    """
    n, k = correct.shape
    rng = np.random.default_rng(seed)
    part = min(size, n)
    sampled = [correct[rng.choice(n, part, replace=False), run % k].mean() for run in range(runs)]
    full = correct.mean(axis=0)[: min(runs, k)]

    def summary(values: Any, *, size: int, vary: bool) -> dict[str, Any]:
        sd = float(np.std(values, ddof=1)) if vary and len(values) > 1 else None
        return {"mean": float(np.mean(values)), "sd": sd, "runs": len(values), "size": size}

    return {
        "sampled": summary(sampled, size=part, vary=part < n or k > 1) | {"seed": seed},
        "full": summary(full, size=n, vary=k > 1),
    }


def score_samples(
    records: Sequence[Record],
    *,
    instability: Instability = DEFAULT_INSTABILITY,
    penalty: Penalty = DEFAULT_PENALTY,
    sample_size: int = 200,
    runs: int = 5,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """MedM's frame, and with several answers a question their agreement and every penalised accuracy.

    The accuracy that is penalised is that of the first answer, as in every other table. `penalised` is
    {reading: {penalty: cell}}; `chosen` is the one that the arguments name. With one answer for each question, only
    `frame` and `answers` exist.

    Raises:
        ValueError: if questions have different numbers of answers.
    """
    if not records:
        return {}
    labels, correct = _labels(records)
    k = correct.shape[1]
    found: dict[str, Any] = {"answers": k, "frame": frame(correct, size=sample_size, runs=runs, seed=seed)}
    if k == 1:
        return found
    images, first = image_ids(records), correct[:, 0].astype(np.float64)

    def cell(values: Any, bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
        values = np.asarray(values, np.float64)
        return cell_to_json(intervals.mean_interval(values, images, resamples=resamples, seed=seed, bounds=bounds))

    by_reading: dict[str, dict[str, Any]] = {}
    for reading in get_args(Instability):
        unstable = np.array(
            [is_unstable(row, right, reading) for row, right in zip(labels, correct.tolist(), strict=True)]
        )
        by_reading[reading] = {"unstable": cell(unstable)}
        for name in get_args(Penalty):
            values, bounds = penalised(first, unstable, name)
            by_reading[reading][name] = cell(values, bounds)
    return found | {
        "agreement": cell([_agreement(row) for row in labels]),
        "entropy_bits": cell([_entropy(row) for row in labels], (0.0, float(np.log2(k)))),
        "distinct": dict(sorted(Counter(str(len(set(row))) for row in labels).items())),
        "accuracy_of_the_first": cell(first),
        "penalised": by_reading,
        "chosen": {"instability": instability, "penalty": penalty, **by_reading[instability][penalty]},
    }
