"""Chooses the way of computing a step: the fastest that fits, found with few compilations."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from radvqa_jax.planning.devices import GIB
from radvqa_jax.planning.ways import Candidate
from radvqa_jax.training.way import Way

BUDGET = 60.0  # seconds of compiling beyond one compilation; then what fits is taken


class Tried(NamedTuple):
    """One way that was looked at."""

    candidate: Candidate
    estimate: int  # bytes that it was thought to take in all
    peak: int | None  # bytes that it takes; None = it was not compiled
    why: str  # it was taken, or left

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        way, work = self.candidate.way, self.candidate.work
        sizes = {"estimated_peak": self.estimate, "peak": self.peak, "estimated_flops": work.flops}
        return way.__dict__ | sizes | {"why": self.why}


class Choice(NamedTuple):
    """The choice, and everything that was tried, in the order of time."""

    way: Way
    tried: list[Tried]

    def describe(self, name: str, room: int, reserve: float) -> str:
        """Says in one line what was taken, what else was tried, and why it was left."""
        taken = next(item for item in self.tried if item.candidate.way == self.way)
        others = [f"{item.candidate.way}: {item.why}" for item in self.tried if item is not taken and item.peak]
        skipped = sum(item.peak is None for item in self.tried)
        peak = "" if taken.peak is None else f", {taken.peak / GIB:.2f} GiB"
        left = f"; left: {'; '.join(others)}" if others else ""
        return (
            f"{name}: model.remat=auto takes {self.way}{peak} of {room / GIB:.2f} GiB ({reserve:.0%} are kept back): "
            f"{taken.why}{left}; {skipped} not compiled"
        )


def choose(
    candidates: Sequence[Candidate],
    peak_of: Callable[[Way], int | None],
    *,
    arguments: int,
    room: int,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The first candidate that fits, as far as few compilations tell.

    The first that should fit by estimate is compiled. What it takes more or less than estimated corrects the estimates
    of those near it; then the next that should fit is compiled, or, where room is left, one that is faster. It ends
    with a way that fits and no faster one that should, or when the budget is spent and one fits. Where nothing fits,
    that of the least memory is taken: it may still run, since a reserve is kept back.

    Args:
        candidates: the fastest first.
        peak_of: compiles a way and returns the bytes of one device that it takes; None where the compiler refuses it.
        arguments: bytes of what every way is called with.
        room: bytes that a way may take.
        budget: seconds of compiling beyond the first compilation that fits.
        clock: seconds.
    """
    peaks: dict[Way, int] = {}
    spent, fits = 0.0, None

    def estimate(candidate: Candidate) -> int:
        known = [c for c in candidates if c.way in peaks]
        plain = arguments + candidate.working
        if not known:
            return plain
        nearest = min(known, key=lambda c: abs(c.working - candidate.working))
        return plain + peaks[nearest.way] - arguments - nearest.working

    while True:
        untried = [c for c in candidates if c.way not in peaks and estimate(c) <= room]
        if fits is not None:
            untried = [c for c in untried if candidates.index(c) < candidates.index(fits)]
        if not untried and fits is None and len(peaks) < len(candidates):
            untried = [min((c for c in candidates if c.way not in peaks), key=lambda c: c.working)]
        if not untried or (fits is not None and spent > budget):
            break
        began = clock()
        told = peak_of(untried[0].way)
        peak = max(estimate(untried[0]), room + 1) if told is None else told
        peaks[untried[0].way] = peak
        spent += clock() - began
        if peak <= room:
            fits = untried[0]
        elif untried[0].working == min(c.working for c in candidates):
            break  # nothing takes less
    taken = fits or min((c for c in candidates if c.way in peaks), key=lambda c: peaks[c.way])
    return Choice(taken.way, [_explain(c, taken, peaks, estimate(c), room) for c in candidates])


def _explain(candidate: Candidate, taken: Candidate, peaks: dict[Way, int], estimate: int, room: int) -> Tried:
    peak = peaks.get(candidate.way)
    over = (peak or estimate) > room
    needs = f"needs {(peak or estimate) / GIB:.2f} GiB{'' if peak else ' by estimate'}"
    if candidate is taken:
        why = f"nothing fits, and it takes the least: {needs}" if over else "the fastest that fits"
    elif over:
        why = needs
    else:
        why = "slower, or as fast in smaller parts" if candidate.seconds >= taken.seconds else "not compiled in time"
    return Tried(candidate, estimate, peak, why)
