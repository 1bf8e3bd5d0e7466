"""The TensorBoard event file of a stage."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

# Made when the module is imported, so that a type checker does not see them.
Event, SessionLog = event_pb2.Event, event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]

FLUSH_EVERY = 1.0  # seconds; a flush waits for the disk


class EventFile:
    """Scalars in a TensorBoard event file, written by the thread that calls.

    tensorboardX's SummaryWriter has a thread for this, which ends at the first error of the disk; its caller then waits
    for ever.

    Raises:
        OSError: in every method, naming the file.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Begins a file in which the steps from `purge_step` on replace those of earlier files of the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._flushed = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}", 0.0
        with self._naming():
            self._file = RecordWriter(str(self._path))
            self._put(file_version="brain.Event:2")
            self._put(step=purge_step, file_version="brain.Event:2")
            self._put(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of one step, by their tags."""
        with self._naming():
            for tag, value in scalars.items():
                self._put(step=step, summary=scalar(tag, value))
            if time.monotonic() - self._flushed >= FLUSH_EVERY:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes the rest, and closes the file even if that fails."""
        with self._naming():
            self._file.close()

    def _put(self, **fields: Any) -> None:
        self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
