"""Memory against arithmetic: the needs of each way of computing a step on a target, and the way that is chosen."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from radvqa_jax.planning.choosing import Choice, choose
from radvqa_jax.planning.devices import TERA
from radvqa_jax.planning.fit import Fitted
from radvqa_jax.planning.fit_report import gib, table
from radvqa_jax.planning.ways import Candidate
from radvqa_jax.training.way import Way


class Frontier(NamedTuple):
    """The ways of one stage."""

    name: str  # of the stage
    choice: Choice
    compiled: dict[Way, Fitted]  # the least memory first; without ways that the compiler refused
    room: int  # bytes that a way may need

    def to_json(self) -> dict[str, Any]:
        """Plain values: the choice, every way with the reason why it was taken or not, and the compiled ways."""
        points = [asdict(way) | fitted.to_json() for way, fitted in self.compiled.items()]
        tried = [item.to_json() for item in self.choice.tried]
        return {
            "stage": self.name,
            "room": self.room,
            "chosen": asdict(self.choice.way),
            "tried": tried,
            "points": points,
        }


def on_the_frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The estimated frontier: the candidates that need less memory than every faster one, the least memory first."""
    found: list[Candidate] = []
    for candidate in candidates:  # the fastest first
        if not found or candidate.working < found[-1].working:
            found.append(candidate)
    return found[::-1]


def find_frontier(
    name: str,
    candidates: Sequence[Candidate],
    fitted_of: Callable[[Way], Fitted | None],
    *,
    arguments: int,
    room: int,
    whole: bool,
) -> Frontier:
    """Chooses a way for a stage on a target. No way is compiled twice.

    Args:
        name: of the stage.
        candidates: the fastest first.
        fitted_of: compiles a way; None if the compiler refuses it for its memory.
        arguments: bytes of a step's arguments, which are the same for every way.
        room: bytes that a way may need.
        whole: compile all ways on the estimated frontier, instead of only those that the choice needs.
    """
    compiled: dict[Way, Fitted | None] = {}

    def peak_of(way: Way) -> int | None:
        if way not in compiled:
            compiled[way] = fitted_of(way)
        fitted = compiled[way]
        return None if fitted is None else fitted.peak

    choice = choose(candidates, peak_of, arguments=arguments, room=room, budget=float("inf"))
    for candidate in on_the_frontier(candidates) if whole else ():
        peak_of(candidate.way)
    known = sorted(
        ((f.peak, str(way), way, f) for way, f in compiled.items() if f is not None), key=lambda row: row[:2]
    )
    return Frontier(name, choice, {way: fitted for _, _, way, fitted in known}, room)


def format_frontier(frontier: Frontier) -> list[str]:
    """The lines of the table, the least memory first; the chosen way is marked."""
    head = ("stored, and parts of the batch", "peak GiB", "TFLOP", "over minimum", "GB", "at best", "")
    rows: list[tuple[str, ...]] = [head]
    for way, fitted in frontier.compiled.items():
        ratio = f"{fitted.work.flops / fitted.minimum_flops:.3f}" if fitted.minimum_flops else ""
        best = f"{1e3 * fitted.roofline_seconds:.0f} ms" if fitted.roofline_seconds is not None else ""
        mark = "chosen" if way == frontier.choice.way else "too large" if fitted.peak > frontier.room else ""
        sizes = gib(fitted.peak), f"{fitted.work.flops / TERA:,.1f}", ratio, f"{fitted.work.bytes / 1e9:,.0f}"
        rows.append((str(way), *sizes, best, mark))
    return [f"{frontier.name}: memory against arithmetic, {gib(frontier.room)} GiB may be taken", *table(rows)]
