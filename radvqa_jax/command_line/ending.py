"""Ends all processes of a run where one of them fails: with one message, and without waiting for it in vain."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

from radvqa_jax.processes import Group, Store

WHY, SAID, LEFT, BEAT = "radvqa/why", "radvqa/said", "radvqa/left", "radvqa/beat"  # folders of keys
POLL = 1.0  # seconds between two looks whether another process failed
SILENCE = 60.0  # seconds without a sign of life after which a process counts as killed; jax itself takes 100
PATIENCE = 10.0  # seconds that a process which ends waits for the others to know why


@contextlib.contextmanager
def ends_together(group: Group, explain: Callable[[BaseException], tuple[str, int]]) -> Iterator[None]:
    """An error within the block ends all processes of the run, whatever they do or wait for.

    The first process prints the message, also that of another one; the others say nothing. A process that was killed is
    noticed by its silence.

    Args:
        group: the processes; nothing is done for one alone.
        explain: gives what is said of an error, and the exit status.
    """
    if group.store is None:
        yield
        return
    watch = _Watch(group, group.store)
    watch.start()
    try:
        yield
    except SystemExit:  # training that was stopped by a signal: all of them agreed on the step
        raise
    except BaseException as error:
        watch.fail(*explain(error))
    finally:
        watch.stop()


class _Watch:
    """Looks whether another process has failed, and tells the others if this one has."""

    def __init__(self, group: Group, store: Store) -> None:
        self._group, self._store = group, store
        self._stopped, self._ending = threading.Event(), threading.Lock()
        self._heard: dict[str, tuple[str, float]] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def fail(self, message: str, status: int) -> NoReturn:
        """Ends every process with a message, unless another one failed before."""
        with contextlib.suppress(RuntimeError):  # another one was first, or the service is gone with process 0
            self._store.key_value_set(f"{WHY}/first", json.dumps([self._group.index, message, status]))
        self._end(message, status)

    def _run(self) -> None:
        beat = 0
        while not self._stopped.wait(POLL):
            beat += 1
            try:
                self._store.key_value_set(f"{BEAT}/{self._group.index}", str(beat), allow_overwrite=True)
                why = self._store.key_value_dir_get(WHY)
                beats = self._store.key_value_dir_get(BEAT) if self._group.first else []
            except RuntimeError:
                if not self._stopped.is_set():
                    self._end(f"{self._group.name(0)} has ended, and did not say why: see its output.", 1)
                return
            if why:
                self._end("", 1)
            for index in self._silent(beats):
                self.fail(
                    f"{self._group.name(index)} has given no sign of life for {SILENCE:.0f} s: it was killed, perhaps "
                    "for want of memory, or its machine is gone. What was finished is kept, and the same command "
                    "continues from there.",
                    1,
                )

    def _silent(self, beats: list[tuple[str, str]]) -> list[int]:
        """The processes that have not been heard of for too long."""
        now = time.monotonic()
        for key, beat in beats:
            if self._heard.get(key, ("", 0.0))[0] != beat:
                self._heard[key] = beat, now
        return [int(key.rpartition("/")[2]) for key, (_, last) in self._heard.items() if now - last > SILENCE]

    def _end(self, message: str, status: int) -> NoReturn:
        """Ends this process, after process 0 has said why."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # the other thread ends the process
        self._stopped.set()
        with contextlib.suppress(RuntimeError):  # the service is gone with process 0
            index, message, status = self._reason(message, status)
            if self._group.first:
                self._print(message if index == 0 else f"{self._group.name(index)}: {message}")
                self._store.key_value_set(f"{SAID}/0", "")
                self._wait(LEFT, self._group.count - 1)
            else:
                if index == self._group.index and not self._wait(SAID, 1):
                    self._print(f"{self._group.name(index)}: {message}")
                self._store.key_value_set(f"{LEFT}/{self._group.index}", "")
            _exit(status)
        if self._group.index <= 1:  # one of those that are left says it for all
            self._print(message)
        _exit(status)

    def _reason(self, message: str, status: int) -> tuple[int, str, int]:
        """(which process failed first, its message, its exit status)"""
        for _, why in self._store.key_value_dir_get(WHY):
            index, message, status = json.loads(why)
            return index, message, status
        return self._group.index, message, status

    def _wait(self, folder: str, count: int) -> bool:
        """Whether this many keys came within PATIENCE."""
        until = time.monotonic() + PATIENCE
        while len(self._store.key_value_dir_get(folder)) < count:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    @staticmethod
    def _print(message: str) -> None:
        with contextlib.suppress(OSError):
            print(f"error: {message}", file=sys.stderr, flush=True)


def _exit(status: int) -> NoReturn:
    """Ends this process at once, and what it started: its main thread may wait for another process."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.terminate()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
