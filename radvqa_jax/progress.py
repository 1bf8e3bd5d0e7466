"""The progress of long tasks: a bar on a terminal; elsewhere, a line about every 30 s with the time left."""

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
EVERY = 30.0  # seconds between two lines
SOON = 5.0  # seconds before a bar appears (`delay`), for tasks that are mostly short
_silent = False


def say_nothing() -> None:
    """Turns bars off in this process: of several processes, only one prints."""
    global _silent
    _silent = True


class _Lines:
    """A stream that prints tqdm's bars as lines; tqdm begins each bar with a carriage return and ends none."""

    def write(self, text: str) -> None:
        for line in text.replace("\r", "\n").split("\n"):
            if line.strip():
                sys.stderr.write(line.rstrip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(items: Iterable[T] | None = None, *, name: str, total: int | None = None, **options: Any) -> "tqdm[T]":
    """Makes a tqdm bar.

    Args:
        items: the items to iterate over; without them, call `update`.
        name: the task, which no other bar of the run has.
        total: number of items, if `items` has no length.
        options: of tqdm.
    """
    make: Any = tqdm  # tqdm's stubs do not allow a bar without items
    if _silent:
        options["disable"] = True
    if sys.stderr.isatty():
        return make(items, name, total, **options)
    lines: Any = _Lines()
    return make(items, name, total, file=lines, mininterval=EVERY, maxinterval=EVERY, ncols=100, ascii=True, **options)


def say(text: str) -> None:
    """Prints a line to stderr at once, above the bars of a terminal."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


class Eta:
    """The time left for a known number of steps, at the speed so far."""

    def __init__(self, done: int, total: int) -> None:
        self._first, self._total, self._since = done, total, time.monotonic()

    def left(self, done: int) -> str:
        """The time left, such as `03:10 left`; empty before the first step."""
        if done <= self._first:
            return ""
        seconds = (time.monotonic() - self._since) / (done - self._first) * (self._total - done)
        return f"{tqdm.format_interval(seconds)} left"


class Steps:
    """The steps of a job. Prints each as it begins: `step 3 of 9: train stage2`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._left = iter(enumerate(names, 1))

    def next(self, name: str) -> None:
        """Prints the next step, which must have this name."""
        number, expected = next(self._left)
        if name != expected:
            raise ValueError(f"step {number} of {len(self._names)} is {expected!r}; got {name!r}.")
        print(f"\nstep {number} of {len(self._names)}: {name}", flush=True)
