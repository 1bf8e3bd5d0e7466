"""The time of a verdict, in a process of its own: in tests, the checks of types take longer than the verdict."""

import re
import time

from radvqa_jax.evaluation.rules import verdict
from radvqa_jax.evaluation.scan import forget_texts
from radvqa_jax.schema import Record

SOUND = 0.011  # seconds that the loop of `slowness` takes on an idle core of the kind that CI has


def slowness(records: list[Record]) -> float:
    """The factor by which this machine is now slower than the one that the limit is for; at least 1."""
    for asked in records:  # the first verdict of a kind loads its tables
        verdict(asked, "x")
    times = []
    for _ in range(5):
        start = time.thread_time()
        for _ in range(200):
            re.sub(r"\b(\w+)our\b", r"\1or", "the tumour of the lung " * 40)
        times.append(time.thread_time() - start)
    return max(1.0, min(times) / SOUND)


def seconds(asked: Record, text: str, limit: float) -> float:
    """The processor time of a verdict without caches: the first of eight that is under the limit, or the best.

    A machine that others use may be ten times slower for a moment, and processor time does not hide that.
    """
    times: list[float] = []
    while len(times) < 8 and (not times or times[-1] >= limit):
        forget_texts()
        start = time.thread_time()
        verdict(asked, text)
        times.append(time.thread_time() - start)
        time.sleep(0 if times[-1] < limit else 0.1)
    return min(times)
