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
    """Repeats a KeyboardInterrupt that Python had to drop while this is entered.

    An exception within a callback of the garbage collector (jax has one) or within a finaliser cannot leave it: Python
    reports it and goes on, and the run would not stop.
    """
    usual = sys.unraisablehook

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            timer = threading.Timer(_SOON, _thread.interrupt_main)  # later: the callback must have ended
            timer.daemon = True
            timer.start()
        else:
            usual(unraisable)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = usual
