"""All processes of a run end where one of them fails, with one message."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.command_line import ending
from radvqa_jax.command_line.ending import BEAT, LEFT, SAID, WHY, ends_together
from radvqa_jax.processes import ALONE, Group
from tests.several import MemoryStore


class Ended(BaseException):
    """Raised in these tests where a process would end."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Shortens all times; returns the exit statuses of processes that ended, in the order in which they did."""
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise Ended

    monkeypatch.setattr(ending, "_exit", end)
    monkeypatch.setattr(ending, "POLL", 0.02)
    monkeypatch.setattr(ending, "SILENCE", 0.3)
    monkeypatch.setattr(ending, "PATIENCE", 0.3)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # Ended, in a thread that watches
    return statuses


def explain(error: BaseException) -> tuple[str, int]:
    return f"it was {error}", 3


def fail(group: Group) -> None:
    with pytest.raises(Ended), ends_together(group, explain):
        raise ValueError("this")


def wait_until(holds: Any) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_one_process_alone_raises_its_own_error(quick: list[int]) -> None:
    with pytest.raises(ValueError, match="this"), ends_together(ALONE, explain):
        raise ValueError("this")
    assert quick == []


def test_the_first_process_says_its_own_error_and_waits_until_the_others_have_left(
    quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    began = time.monotonic()
    fail(Group(0, 2, store))
    assert time.monotonic() - began >= 0.3 and quick == [3]  # nobody left: its service ends after PATIENCE
    assert capsys.readouterr().err == "error: it was this\n"
    assert json.loads(store.kept[f"{WHY}/first"]) == [0, "it was this", 3]


def test_an_error_of_another_process_is_printed_by_the_first_and_only_there(
    quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    with ends_together(Group(0, 2, store), explain):  # it waits for something that never happens
        fail(Group(1, 2, store))
        wait_until(lambda: len(quick) == 2)
    assert quick == [3, 3] and f"{LEFT}/1" in store.kept and f"{SAID}/0" in store.kept
    assert capsys.readouterr().err == "error: process 1 of 2: it was this\n"


def test_a_process_whose_error_nobody_reads_prints_it_itself(
    quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(Group(1, 2, MemoryStore()))
    assert quick == [3] and capsys.readouterr().err == "error: process 1 of 2: it was this\n"


def test_a_process_that_was_killed_is_noticed_by_its_silence(
    quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    store.key_value_set(f"{BEAT}/1", "7")  # its last sign of life
    with ends_together(Group(0, 2, store), explain):
        wait_until(lambda: quick)
    said = capsys.readouterr().err
    assert said.startswith("error: process 1 of 2 has given no sign of life for ") and said.count("error") == 1
    assert "the same command continues" in said


def test_a_process_that_lives_is_not_taken_for_a_killed_one(quick: list[int]) -> None:
    store = MemoryStore()
    with ends_together(Group(0, 2, store), explain), ends_together(Group(1, 2, store), explain):
        time.sleep(0.8)
    assert quick == []


def test_training_that_was_stopped_ends_as_it_would_alone(quick: list[int]) -> None:
    store = MemoryStore()
    with pytest.raises(SystemExit, match="143"), ends_together(Group(0, 2, store), explain):
        raise SystemExit(143)
    assert quick == [] and not [key for key in store.kept if key.startswith(WHY)]


SCRIPT = """
import sys, time
from radvqa_jax.command_line import ending
from radvqa_jax.processes import Group
from tests.several import MemoryStore
import multiprocessing
child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
if __name__ == "__main__":
    child.start()
    print(child.pid)
    ending.PATIENCE = 0.1
    with ending.ends_together(Group(0, 2, MemoryStore()), lambda error: (str(error), 7)):
        raise ValueError("no")
"""


def test_child_processes_end_with_their_process(tmp_path: Path, repo: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7 and done.stderr == "error: no\n", done.stderr
    wait_until(lambda: not Path(f"/proc/{done.stdout.strip()}").exists())
