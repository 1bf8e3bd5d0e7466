"""One process at a time in a folder: a lock that names its holder, and that outlives no process.

The lock itself is the operating system's (`filelock`): it ends with the process, also when that is killed. A small JSON
second file names the holder, for the message that the next process gets. The holder touches this file every few
seconds. This distinguishes the file of a dead process on another machine from that of one that still runs: some
shared file systems do not pass locks on from machine to machine.
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

from radvqa_jax import files

LOCK, HOLDER = files.LOCK, ".lock.json"
BEAT = 15.0  # seconds between two touches of the holder's file
SILENCE = 60.0  # seconds without a touch after which a holder on another machine has ended
POLL = 0.5  # seconds between two attempts of a process that waits
CLOCK = 2.0  # seconds that two readings of one process's start time may differ by


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
        """Whether the process runs, None if it is another machine's."""
        if self.host != socket.gethostname():
            return None
        try:
            # A process id is given again; the time that the process started at is not.
            return abs(psutil.Process(self.pid).create_time() - self.started) < CLOCK
        except (psutil.NoSuchProcess, ValueError, OverflowError):  # the latter two: no process has such a number
            return False
        except psutil.AccessDenied:
            return True


@contextlib.contextmanager
def hold(folder: Path, *, doing: str, wait: bool = False, remedy: str = "") -> Iterator[Holder | None]:
    """Holds the lock of a folder while the block runs; gives the process that ended without releasing it, or None.

    A lock that a killed process left is taken over. Half-written files that such a process left under the folder are
    removed (see `files.remove_parts`).

    Args:
        folder: an existing folder.
        doing: what this process does there, for the message that another one gets.
        wait: wait until the other process is done, and say so on stderr, instead of raising.
        remedy: a sentence that ends the error.

    Raises:
        InUse: naming the process that holds the lock, its machine and since when.
        ValueError: if a link is in the place of the lock's file.
    """
    if (folder / LOCK).is_symlink():  # the lock would be another folder's, or nobody's
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
            yield left
        finally:
            done.set()
            (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


@contextlib.contextmanager
def hold_file(path: Path, *, remedy: str) -> Iterator[None]:
    """Holds a lock for one file while the block runs, where runs of several workdirs may write the same file.

    The lock is an empty hidden file in the same folder, and stays there.

    Args:
        path: of the file, which need not exist.
        remedy: a sentence that ends the error.

    Raises:
        InUse: naming the file, if another process holds its lock.
        ValueError: if a link is in the place of the lock.
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
    """The process that the folder names as its holder, None without one or if the file is not whole."""
    try:
        row = files.read_json(folder / HOLDER)
        return Holder(int(row["pid"]), str(row["host"]), float(row["started"]), str(row["since"]), str(row["doing"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None  # the lock is what counts; its file only names the process


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
    """The holder that is named though this process has the lock, after making sure that it has ended."""
    left = read_holder(folder)
    if left is None or left.runs() is not None:
        return left  # on one machine the lock itself is proof
    touched = _touched(folder / HOLDER)
    (folder / LOCK).touch()
    # Both by the clock of the file system; where that one went back, or another one runs ahead, it was silent for 0 s.
    silent = max(0.0, _touched(folder / LOCK) - touched)
    if silent < SILENCE:
        print(
            f"{folder} was left by {left.text()}; looking for {SILENCE:.0f} s whether it still runs ...",
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
        with contextlib.suppress(OSError):  # a folder that was removed meanwhile concerns the run itself
            os.utime(path)
