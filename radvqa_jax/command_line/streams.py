"""Escapes the output of a run, so that a name in an untrusted file cannot send commands to the terminal."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from radvqa_jax.untrusted import visible

_UP = "\x1b[A"  # tqdm's "cursor up", between bars


class Visible:
    """A stream that escapes control characters (the start of a terminal command becomes `\\u001b`)."""

    def __init__(self, stream: Any, *, bars: bool = False) -> None:
        """Wraps a stream. With `bars`, what tqdm needs passes unchanged: carriage returns and moves up."""
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        """Writes a text. Returns the number of its characters before escaping."""
        if not self._bars:
            self._stream.write(visible(text))
            return len(text)
        bar = text if not text.replace(_UP, "") else "\r".join(map(visible, text.split("\r")))
        with contextlib.suppress(OSError):  # such as a full disk under the log: a bar must not end the run
            self._stream.write(bar)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream; with `bars`, ignores that it cannot be written to."""
        with contextlib.suppress(OSError) if self._bars else contextlib.nullcontext():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Escapes everything that is printed within the block. Drops the output if a standard stream is missing."""
    with contextlib.ExitStack() as opened:
        out, err = (
            opened.enter_context(open(os.devnull, "w", encoding="utf-8")) if stream is None else stream
            for stream in (sys.stdout, sys.stderr)
        )
        visible_out: Any = Visible(out)
        visible_err: Any = Visible(err, bars=True)
        opened.enter_context(contextlib.redirect_stdout(visible_out))
        opened.enter_context(contextlib.redirect_stderr(visible_err))
        yield


def no_reader(status: int = 128 + signal.SIGPIPE) -> NoReturn:
    """Ends the process quietly when nothing reads its output any more (`… | head`)."""
    with contextlib.suppress(OSError, AttributeError, ValueError):  # a stream without a file, or a closed one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python reports the pipe at exit
    sys.exit(status)


def print_anything() -> None:
    """Makes the console accept every character: those that its encoding lacks are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
