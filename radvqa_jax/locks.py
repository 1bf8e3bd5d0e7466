"""Locks that let one process at a time use a folder. A lock names its holder, and ends with the holder's process.

The lock itself is the operating system's (`filelock`): it ends with the process, even if that is killed. A second,
small JSON file names the holder, for the message to the next process. The holder touches this file every few seconds,
because some shared file systems do not pass locks from machine to machine: a file that is no longer touched belongs to
a dead process.
"""

import contextlib
import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import psutil

from radvqa_jax import files, folder_in_use

LOCK, HOLDER = files.LOCK, ".lock.json"
BEAT = 15.0  # seconds between two touches of the holder's file
SILENCE = 60.0  # seconds without a touch after which a holder on another machine counts as ended
POLL = 0.5  # seconds between two attempts of a waiting process
CLOCK = 2.0  # seconds by which two readings of one process's start time may differ


class InUse(ValueError):
    """Another process holds the lock of a folder."""


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int
    host: str
    started: float  # of the process, in seconds since 1970
    since: str  # when it took the lock, UTC, ISO 8601
    doing: str

    def text(self) -> str:
        """The holder in words, for a message."""
        return f"process {self.pid} on {self.host}, since {self.since} ({self.doing})"

    def runs(self) -> bool | None:
        """Whether the process still runs; None if it is on another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            # A process id may be reused, but with another start time.
            return abs(psutil.Process(self.pid).create_time() - self.started) < CLOCK
        except (psutil.NoSuchProcess, ValueError, OverflowError):  # the latter two: no process has such a number
            return False
        except psutil.AccessDenied:
            return True


@contextlib.contextmanager
def hold(folder: Path, *, doing: str, wait: bool = False, remedy: str = "") -> Iterator[Holder | None]:
    """Holds the lock of a folder while the block runs. Yields a holder that ended without releasing it, or None.

    The lock of a killed process is taken over, and its half-written files under the folder are removed (see
    `files.remove_parts`).

    Args:
        folder: an existing folder.
        doing: what this process does there, for the message to other processes.
        wait: wait until the other process is done, with a message on stderr, instead of raising.
        remedy: a sentence that ends the error.

    Raises:
        InUse: naming the process that holds the lock, its machine and the time since when.
        ValueError: if the lock's file is a link.
    """
    if (folder / LOCK).is_symlink():  # another folder's lock, or none
        raise ValueError(f"{folder / LOCK} is a link, and the lock of a folder must be a file in it. Remove the link.")
    lock = filelock.FileLock(folder / LOCK, poll_interval=POLL)
    _take(lock, folder, wait=wait, remedy=remedy)
    done = threading.Event()
    try:
        left = _wait_for_silence(folder, wait=wait, remedy=remedy)
        _write_holder(folder, doing)
        files.remove_parts(folder)
        threading.Thread(target=_beat, args=(folder / HOLDER, done), daemon=True).start()
        try:
            with folder_in_use.using(folder):
                yield left
        finally:
            done.set()
            (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


@contextlib.contextmanager
def hold_file(path: Path, *, remedy: str) -> Iterator[None]:
    """Holds the lock of one file while the block runs, for files that runs with other workdirs may also write.

    The lock is an empty hidden file in the same folder, and stays there.

    Args:
        path: the file, which need not exist.
        remedy: a sentence that ends the error.

    Raises:
        InUse: naming the file, if another process holds its lock.
        ValueError: if the lock's file is a link.
    """
    place = path.with_name(f".{path.name}{LOCK}")
    if place.is_symlink():
        raise ValueError(f"{place} is a link, and the lock of a file must be a file. Remove the link.")
    lock = filelock.FileLock(place)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InUse(f"Another process writes {path}. {remedy}") from error
    try:
        yield
    finally:
        lock.release()


def read_holder(folder: Path) -> Holder | None:
    """The process that the folder names as its holder; None if it names none, or the file is not whole."""
    try:
        row = files.read_json(folder / HOLDER)
        return Holder(int(row["pid"]), str(row["host"]), float(row["started"]), str(row["since"]), str(row["doing"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None  # the lock decides; this file only names the process


def _take(lock: Any, folder: Path, *, wait: bool, remedy: str) -> None:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        if not wait:
            raise _in_use(folder, remedy) from error
    else:
        return
    print(f"{folder} is in use by {_name(folder)}; waiting until it is done ...", file=sys.stderr, flush=True)
    lock.acquire()


def _name(folder: Path) -> str:
    holder = read_holder(folder)
    if holder is None or holder.runs() is False:
        return "another process, which has not left its name"
    return holder.text()


def _in_use(folder: Path, remedy: str) -> InUse:
    return InUse(f"{folder} is in use by {_name(folder)}. {remedy or 'Wait until it is done.'}")


def _wait_for_silence(folder: Path, *, wait: bool, remedy: str) -> Holder | None:
    """The holder that is still named although this process has the lock, after making sure that it has ended."""
    left = read_holder(folder)
    if left is None or left.runs() is not None:
        return left  # on one machine the lock itself is proof
    touched = _touched(folder / HOLDER)
    (folder / LOCK).touch()
    # Both times are of the file system's clock. A negative difference, if clocks disagree, counts as 0 s.
    silent = max(0.0, _touched(folder / LOCK) - touched)
    if silent < SILENCE:
        print(
            f"{folder} names {left.text()} as its user; checking for {SILENCE:.0f} s whether that still runs ...",
            file=sys.stderr,
            flush=True,
        )
    until = time.monotonic() + SILENCE - silent
    while time.monotonic() < until:
        time.sleep(min(POLL, SILENCE))
        if _touched(folder / HOLDER) != touched:
            if not wait:
                raise _in_use(folder, remedy)
            touched, until = _touched(folder / HOLDER), time.monotonic() + SILENCE
    return left


def _touched(path: Path) -> float:
    """The time at which a file was touched; it is opened, because a network file system may cache older times."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _write_holder(folder: Path, doing: str) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    holder = Holder(os.getpid(), socket.gethostname(), psutil.Process().create_time(), now, doing)
    files.write_json(folder / HOLDER, holder._asdict(), private=False)


def _beat(path: Path, done: threading.Event) -> None:
    """Touches the holder's file until the lock is released."""
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):  # if the folder was removed, the run itself fails
            os.utime(path)
