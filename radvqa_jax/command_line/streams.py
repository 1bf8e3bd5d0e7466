"""What a run prints: a name from a stranger's file must not command the terminal."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from radvqa_jax.untrusted import visible

_UP = "\x1b[A"  # what tqdm moves up by, between bars


class Visible:
    """A stream that writes out control characters instead of sending them (`\\u001b` for the start of a command)."""

    def __init__(self, stream: Any, *, bars: bool = False) -> None:
        """Takes the stream that text goes to; with `bars`, what tqdm needs passes: carriage returns, moves up."""
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        """Writes a text; returns how many characters were given."""
        if self._bars and not text.replace(_UP, ""):
            self._stream.write(text)
        elif self._bars:
            self._stream.write("\r".join(map(visible, text.split("\r"))))
        else:
            self._stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Makes everything that is printed meanwhile visible."""
    out: Any = Visible(sys.stdout)
    err: Any = Visible(sys.stderr, bars=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
