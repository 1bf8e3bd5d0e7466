"""Escapes what a run prints, so that a name from a stranger's file cannot command the terminal."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from radvqa_jax.untrusted import visible

_UP = "\x1b[A"  # what tqdm moves up by, between bars


class Visible:
    """A stream that writes out control characters instead of sending them (`\\u001b` for the start of a command)."""

    def __init__(self, stream: Any, *, bars: bool = False) -> None:
        """Takes the stream that text goes to; with `bars`, what tqdm needs passes: carriage returns, moves up."""
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        """Writes a text; returns how many characters were given."""
        if not self._bars:
            self._stream.write(visible(text))
            return len(text)
        bar = text if not text.replace(_UP, "") else "\r".join(map(visible, text.split("\r")))
        with contextlib.suppress(OSError):  # a full disk under the log, say: the run is worth more than its bars
            self._stream.write(bar)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, as far as it can be written to."""
        with contextlib.suppress(OSError) if self._bars else contextlib.nullcontext():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Makes everything that is printed meanwhile visible. What a closed stream would get is dropped."""
    with contextlib.ExitStack() as opened:
        out, err = (
            opened.enter_context(open(os.devnull, "w", encoding="utf-8")) if stream is None else stream
            for stream in (sys.stdout, sys.stderr)
        )
        shown: Any = Visible(out)
        told: Any = Visible(err, bars=True)
        opened.enter_context(contextlib.redirect_stdout(shown))
        opened.enter_context(contextlib.redirect_stderr(told))
        yield


def no_reader(status: int = 128 + signal.SIGPIPE) -> NoReturn:
    """Ends the process quietly where nothing reads its output any more (`… | head`)."""
    with contextlib.suppress(OSError, AttributeError, ValueError):  # a stream without a file, or a closed one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
    sys.exit(status)


def print_anything() -> None:
    """Makes the console take every character: one that its encoding does not have is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
