"""Limits on the time and memory of a reader for any input, asserted around one call."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

SECONDS = 5.0  # of processor time
BYTES = 1 << 30  # allocated by Python and numpy; memory of decoders in C is not counted


def survives(read: Callable[[], Any], *, errors: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """Calls a reader; fails unless it gives a value, or our error with a message, within time and memory."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        read()
    except errors as error:
        assert str(error).strip(), "an error without a word"
    finally:
        taken = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert taken < SECONDS, f"{taken:.1f} s of processor time"
    assert peak < BYTES, f"{peak / 1e9:.1f} GB"
