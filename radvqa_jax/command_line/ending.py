"""Ends all processes of a run if one of them fails: with one message, and without waiting for the failed one."""

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
POLL = 1.0  # seconds between two checks whether another process failed
SILENCE = 60.0  # seconds without a sign of life after which a process counts as killed; jax itself takes 100
PATIENCE = 10.0  # seconds that an ending process waits for the others to learn the reason


@contextlib.contextmanager
def ends_together(group: Group, explain: Callable[[BaseException], tuple[str, int]]) -> Iterator[None]:
    """Ends all processes of the run on an error within the block, whatever they do or wait for.

    The first process prints the message, also for the error of another process; the others print nothing. A killed
    process is noticed by its silence.

    Args:
        group: the processes. With a single process, nothing is done.
        explain: gives the message of an error, and the exit status.
    """
    if group.store is None:
        yield
        return
    watch = _Watch(group, group.store)
    watch.start()
    try:
        yield
    except SystemExit:  # a signal stopped training: all processes agreed on the step, and end by themselves
        raise
    except BaseException as error:
        watch.fail(*explain(error))
    finally:
        watch.stop()


class _Watch:
    """Checks whether another process has failed, and tells the others if this one has."""

    def __init__(self, group: Group, store: Store) -> None:
        self._group, self._store = group, store
        self._stopped, self._ending = threading.Event(), threading.Lock()
        self._heard: dict[str, tuple[str, float]] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def fail(self, message: str, status: int) -> NoReturn:
        """Ends every process with this message, or with that of a process that failed before."""
        with contextlib.suppress(RuntimeError):  # another process failed first, or the service ended with process 0
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
                    self._end(f"{self._group.name(0)} has ended without a reason. See its output.", 1)
                return
            if why:
                self._end("", 1)
            for index in self._silent(beats):
                self.fail(
                    f"{self._group.name(index)} has given no sign of life for {SILENCE:.0f} s. It was killed, perhaps "
                    "because memory ran out, or its machine is gone. Finished work is kept, and the same command "
                    "continues from there.",
                    1,
                )

    def _silent(self, beats: list[tuple[str, str]]) -> list[int]:
        """The numbers of the processes whose last sign of life is more than SILENCE ago."""
        now = time.monotonic()
        for key, beat in beats:
            if self._heard.get(key, ("", 0.0))[0] != beat:
                self._heard[key] = beat, now
        return [int(key.rpartition("/")[2]) for key, (_, last) in self._heard.items() if now - last > SILENCE]

    def _end(self, message: str, status: int) -> NoReturn:
        """Ends this process, after process 0 has printed the reason."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # the other thread ends the process
        self._stopped.set()
        with contextlib.suppress(RuntimeError):  # the service ended with process 0
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
        if self._group.index <= 1:  # process 0 is gone: process 1 prints it for those that are left
            self._print(message)
        _exit(status)

    def _reason(self, message: str, status: int) -> tuple[int, str, int]:
        """(number of the process that failed first, its message, its exit status)"""
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
    """Ends this process and its children at once. An orderly exit could hang, as the main thread may be waiting."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.terminate()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
