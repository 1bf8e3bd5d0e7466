"""The order of a mixture's rows: shares that are constant or change during training, and exact counts.

MedM (Shourya et al. 2025, 4.3) calls it annealing to enrich ROCO with common pathologies of MedPix. The paper gives no
ratio and no schedule, so both readings can be stated: a mixture with constant shares, or a share that rises towards the
end of training, as language models are annealed on their best data (Blakeney et al. 2024).
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int16, Int64

from radvqa_jax.config import SourceConfig

# Times are rounded to this many decimals of a row, so that ties are ties whatever the last bit of a sum or a cosine.
TIE_DECIMALS = 6
# Tolerance on the rates of sources with exact counts, for the rounding of sums.
RATE_TOLERANCE = 1e-9
PARTS = 10  # of training, for which realised shares are reported


class Mixture(NamedTuple):
    """The order of a whole stage: row n is the `position[n]`-th row that is drawn from source `source[n]`."""

    source: Int16[np.ndarray, " n"]
    position: Int64[np.ndarray, " n"]


def factor(source: SourceConfig, done: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The factor on a source's weight when a share `done` (0 to 1) of training is done.

    >>> late = SourceConfig(anneal="linear", points=((0.5, 0.0), (1.0, 1.0)))
    >>> factor(late, np.array([0.0, 0.5, 0.75, 1.0])).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if source.anneal == "constant":
        return np.ones_like(done)
    at, value = (np.array(column, np.float64) for column in zip(*source.points, strict=True))
    if source.anneal == "piecewise":
        return value[np.searchsorted(at, done, side="right").clip(1) - 1]
    if source.anneal == "linear" or len(at) == 1:
        return np.interp(done, at, value)
    left = (np.searchsorted(at, done, side="right") - 1).clip(0, len(at) - 2)
    within = ((done - at[left]) / (at[left + 1] - at[left])).clip(0, 1)
    return value[left] + (value[left + 1] - value[left]) * (1 - np.cos(np.pi * within)) / 2


def _name(number: int, source: SourceConfig) -> str:
    return f"sources[{number}] ({source.dataset}:{source.split})"


def _counted_rates(sources: Sequence[SourceConfig], done: np.ndarray) -> np.ndarray:
    """[sources, n]: rows of each source with an exact count that row n stands for; 0 for the others."""
    rates = np.zeros((len(sources), len(done)))
    for number, source in enumerate(sources):
        if not source.count:
            continue
        shape = factor(source, done)
        if not shape.sum():
            raise ValueError(
                f"{_name(number, source)}: its factor is 0 all along, so its count={source.count} rows never come. "
                "Give a point with a factor above 0."
            )
        rates[number] = source.count * shape / shape.sum()
    return rates


def _rates(
    sources: Sequence[SourceConfig], sizes: Sequence[int], total: int, *, weight_by: Literal["source", "row"]
) -> np.ndarray:
    """[sources, total]: the share of each source in each row."""
    done = (np.arange(total) + 0.5) / total
    counted = _counted_rates(sources, done)
    left = 1 - counted.sum(0)
    worst = int(left.argmin())
    if left[worst] < -RATE_TOLERANCE:
        raise ValueError(
            f"Exact counts ask for {counted[:, worst].sum():.2f} rows in every row when {done[worst]:.0%} of training "
            f"is done; the stage draws {total} rows in all, and the counts are {[s.count for s in sources]}. Lower a "
            "count, spread it over more of training (points), or train longer."
        )
    if all(source.count for source in sources):
        if left.max() > RATE_TOLERANCE:
            raise ValueError(
                f"Every source has an exact count, but at {done[int(left.argmax())]:.0%} of training they leave rows "
                f"over: counts {[s.count for s in sources]}, {total} rows in the stage. Give one source no count, so "
                "that it takes the rest."
            )
        return counted
    weights = np.zeros_like(counted)
    for number, (source, size) in enumerate(zip(sources, sizes, strict=True)):
        if not source.count:
            weights[number] = source.weight * factor(source, done) * (size if weight_by == "row" else 1)
    sums = weights.sum(0)
    if not (sums > 0).all():
        raise ValueError(
            f"When {done[int(sums.argmin())]:.0%} of training is done no source has a weight above 0. Give one of them "
            "a factor above 0 there."
        )
    return counted + weights / sums * left.clip(0)


def _totals(sources: Sequence[SourceConfig], rates: np.ndarray) -> list[int]:
    """The number of rows from each source: exact counts unchanged, the others rounded so that all add up."""
    exact = rates.sum(1)
    totals = [source.count or int(amount) for source, amount in zip(sources, exact, strict=True)]
    missing = rates.shape[1] - sum(totals)
    open_ = [number for number, source in enumerate(sources) if not source.count]
    by_remainder = sorted(open_, key=lambda number: (totals[number] - exact[number], number))
    for number in (by_remainder * 2)[: max(missing, 0)]:  # rounding down lost at most one row for each source
        totals[number] += 1
    if sum(totals) != rates.shape[1]:
        raise AssertionError(f"Totals {totals} do not add up to {rates.shape[1]}.")
    return totals


def plan_mixture(
    sources: Sequence[SourceConfig], *, sizes: Sequence[int], total: int, weight_by: Literal["source", "row"] = "source"
) -> Mixture:
    """The order of the `total` rows of a stage.

    The k-th row of a source comes where its share, added up from the beginning, passes k - 1/2, so that after any
    number of rows every source is within about one row of its share, and counts are exact at the end. Nothing is
    random here: the order within a source is shuffled elsewhere.

    Args:
        sources: the sources to mix.
        sizes: the number of rows of each of them.
        total: rows in the whole stage.
        weight_by: `row` multiplies a weight by its source's size, so that equal weights show all rows equally often.

    Raises:
        ValueError: if counts need more rows than the stage has, or no source has a weight at some time.
    """
    if len(sources) == 1 and not sources[0].count and sources[0].anneal == "constant":
        return Mixture(np.zeros(total, np.int16), np.arange(total))
    rates = _rates(sources, sizes, total, weight_by=weight_by)
    times, source_of, position = [], [], []
    for number, (rate, n) in enumerate(zip(rates, _totals(sources, rates), strict=True)):
        passed = np.concatenate([[0.0], np.cumsum(rate)])
        # Scaled so that the last row falls within the stage, although the total was rounded.
        passed *= n / passed[-1] if passed[-1] else 0
        times.append(np.interp(np.arange(n) + 0.5, passed, np.arange(total + 1)).round(TIE_DECIMALS))
        source_of.append(np.full(n, number, np.int16))
        position.append(np.arange(n))
    number = np.concatenate(source_of)
    order = np.lexsort((number, np.concatenate(times)))
    return Mixture(number[order], np.concatenate(position)[order])


def realised(mixture: Mixture, *, rows: int, sources: int) -> list[dict[str, Any]]:
    """For each source, its part of the first `rows` rows of the stage.

    A dict has `drawn`, `share` of those rows, and `share_by_tenth` of the stage so far.
    """
    edges = np.linspace(0, len(mixture.source), PARTS + 1).astype(int).clip(max=rows)
    counts = np.bincount(mixture.source[:rows], minlength=sources)
    tenths = [
        np.bincount(mixture.source[begin:end], minlength=sources) / (end - begin)
        for begin, end in itertools.pairwise(edges)
        if end > begin
    ]
    return [
        {
            "drawn": int(counts[number]),
            "share": round(float(counts[number] / max(rows, 1)), 6),
            "share_by_tenth": [round(float(tenth[number]), 6) for tenth in tenths],
        }
        for number in range(sources)
    ]
