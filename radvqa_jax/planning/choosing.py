"""Chooses how to compute a step: the fastest way that fits, found with few compilations."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from radvqa_jax.planning.devices import GIB
from radvqa_jax.planning.ways import Candidate
from radvqa_jax.training.way import Way

BUDGET = 60.0  # seconds of compiling, after which a way that fits is taken even if a faster one might fit


class Tried(NamedTuple):
    """One way that was considered."""

    candidate: Candidate
    estimate: int  # bytes that it needs in all, by estimate
    peak: int | None  # bytes that it needs, as compiled; None = it was not compiled
    why: str  # the reason why it was taken or not

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        way, work = self.candidate.way, self.candidate.work
        sizes = {"estimated_peak": self.estimate, "peak": self.peak, "estimated_flops": work.flops}
        return way.__dict__ | sizes | {"why": self.why}


class Choice(NamedTuple):
    """The choice, and every candidate, the fastest first."""

    way: Way
    tried: list[Tried]

    def describe(self, name: str, room: int, reserve: float) -> str:
        """One line: the way that was taken, and the other compiled ones with the reason why they were not."""
        taken = next(item for item in self.tried if item.candidate.way == self.way)
        others = [f"{item.candidate.way}: {item.why}" for item in self.tried if item is not taken and item.peak]
        skipped = sum(item.peak is None for item in self.tried)
        peak = "" if taken.peak is None else f", {taken.peak / GIB:.2f} GiB"
        left = f"; not taken: {'; '.join(others)}" if others else ""
        return (
            f"{name}: model.remat=auto takes {self.way}{peak} of {room / GIB:.2f} GiB ({reserve:.0%} is kept free): "
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
    """The fastest candidate that fits, as far as a few compilations show.

    Compiles the fastest candidate that fits by estimate. The error of that estimate corrects the estimates of similar
    candidates; then the fastest one that now fits by estimate is compiled, and so on. The search ends when a compiled
    way fits and no faster one does by estimate, or when a way fits and the budget is spent. If nothing fits, the way
    that needs the least memory is taken: it may still run in the reserve.

    Args:
        candidates: the fastest first.
        peak_of: compiles a way and returns the bytes that it needs on one device; None if the compiler refuses it.
        arguments: bytes of a step's arguments, which are the same for every way.
        room: bytes that a way may need.
        budget: seconds of compiling in all, after which the search ends as soon as a way fits.
        clock: the time in seconds.
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
        compiled = peak_of(untried[0].way)
        peak = max(estimate(untried[0]), room + 1) if compiled is None else compiled
        peaks[untried[0].way] = peak
        spent += clock() - began
        if peak <= room:
            fits = untried[0]
        elif untried[0].working == min(c.working for c in candidates):
            break  # no candidate needs less
    taken = fits or min((c for c in candidates if c.way in peaks), key=lambda c: peaks[c.way])
    return Choice(taken.way, [_explain(c, taken, peaks, estimate(c), room) for c in candidates])


def _explain(candidate: Candidate, taken: Candidate, peaks: dict[Way, int], estimate: int, room: int) -> Tried:
    peak = peaks.get(candidate.way)
    over = (peak or estimate) > room
    needs = f"needs {(peak or estimate) / GIB:.2f} GiB{'' if peak else ' by estimate'}"
    if candidate is taken:
        why = f"nothing fits, and it needs the least: {needs}" if over else "the fastest that fits"
    elif over:
        why = needs
    else:
        why = "slower, or as fast in smaller parts" if candidate.seconds >= taken.seconds else "not compiled in time"
    return Tried(candidate, estimate, peak, why)
