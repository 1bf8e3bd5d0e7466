"""Makes Ctrl-C end a run at any moment."""

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

_SOON = 0.05  # seconds until the main thread is interrupted again


@contextlib.contextmanager
def interrupts_reach_us() -> Iterator[None]:
    """Repeats a KeyboardInterrupt that Python drops within the block.

    An exception in a callback of the garbage collector (jax has one) or in a finaliser does not propagate: Python
    reports it and goes on, so that the run would not stop.
    """
    usual, inside = sys.unraisablehook, True

    def again(unraisable: Any) -> None:
        if inside and issubclass(unraisable.exc_type, KeyboardInterrupt):
            timer = threading.Timer(_SOON, _thread.interrupt_main)  # after the callback has ended
            timer.daemon = True
            timer.start()
        else:
            usual(unraisable)

    sys.unraisablehook = again
    try:
        yield
    finally:
        inside = False
        if sys.unraisablehook is again:  # else another one was put before it, which stays
            sys.unraisablehook = usual
