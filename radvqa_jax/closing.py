"""Context managers that close themselves without hiding the error that ended them."""

from types import TracebackType
from typing import TypeVar

Opened = TypeVar("Opened", bound="Closing")  # beartype checks no Self in a method


class Closing:
    """A base of classes whose `close` may fail, as on a full disk: of two errors, the one that came first is raised."""

    def close(self) -> None:
        """Closes; raises OSError if something cannot be written."""
        raise NotImplementedError

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:
                raise
