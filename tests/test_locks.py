"""One process at a time in a folder; the lock and the files of a killed one are taken over and cleaned up."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from radvqa_jax import files, folder_in_use, locks

SPAWN = multiprocessing.get_context("spawn")


def _hold(folder: Path, seconds: float, held: Any) -> None:
    with locks.hold(folder, doing="mode=train"):
        files.write_text(folder / "half.txt", "whole")
        (folder / ".half.txt.01ab2c3d.part").write_text("ha")
        held.set()
        time.sleep(seconds)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """Another process that holds the folder."""
    held = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(tmp_path, 60.0, held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_removed_while_it_is_used_is_not_made_anew(tmp_path: Path, *, again: bool) -> None:
    """Or made again by somebody else: then it would miss what the run had written before."""
    folder, aside = tmp_path / "run", tmp_path / "aside"
    folder.mkdir()
    with locks.hold(folder, doing="mode=predict"):
        files.write_text(folder / "first.txt", "whole")
        folder.rename(aside)  # still there, so that no new folder gets its inode
        if again:
            folder.mkdir()
        with pytest.raises(folder_in_use.FolderGone, match=r"run was moved, removed or .*; second.txt was not written"):
            files.write_text(folder / "sub" / "second.txt", "")
        with pytest.raises(folder_in_use.FolderGone, match=r"lines.jsonl was not written"):
            files.append_jsonl(folder / "lines.jsonl", [{"a": 1}])
        files.write_text(tmp_path / "elsewhere.txt", "")
        assert list(folder.glob("*")) == []
    folder.mkdir(exist_ok=True)
    files.write_text(folder / "first.txt", "of the next run")


def _write_holder(folder: Path, **changes: Any) -> None:
    row = {"pid": os.getpid(), "host": "elsewhere", "started": 0.0, "since": "2026-01-02T03:04:05+00:00", "doing": "x"}
    files.write_json(folder / locks.HOLDER, row | changes)


def test_a_second_process_is_refused_by_name_and_a_killed_one_is_taken_over(tmp_path: Path, other: Any) -> None:
    named = rf"is in use by process {other.pid} on \S+, since 20\d\d-.*\(mode=train\)\. Give another --workdir\.$"
    with pytest.raises(locks.InUse, match=named), locks.hold(tmp_path, doing="y", remedy="Give another --workdir."):
        pass
    assert (tmp_path / ".half.txt.01ab2c3d.part").exists()  # another's work is not touched
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with locks.hold(tmp_path, doing="y") as left:
        assert left is not None and left.pid == other.pid and left.runs() is False
        assert json.loads((tmp_path / locks.HOLDER).read_text())["doing"] == "y"
        assert not (tmp_path / ".half.txt.01ab2c3d.part").exists()
        assert (tmp_path / "half.txt").read_text() == "whole"
    assert not (tmp_path / locks.HOLDER).exists()


def test_a_waiting_process_continues_when_the_other_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(tmp_path, 1.0, held))
    process.start()
    assert held.wait(60)
    with locks.hold(tmp_path, doing="y", wait=True) as left:
        assert left is None  # it ended as it should
    process.join()
    assert f"in use by process {process.pid}" in capfd.readouterr().err


def test_a_reused_process_id_is_not_the_holder(tmp_path: Path) -> None:
    me = psutil.Process()
    _write_holder(tmp_path, host=locks.socket.gethostname(), started=me.create_time())
    holder = locks.read_holder(tmp_path)
    assert holder is not None and holder.runs() is True
    assert holder._replace(started=holder.started - 100).runs() is False
    assert holder._replace(host="elsewhere").runs() is None


@pytest.mark.parametrize("alive", [False, True])
def test_a_holder_on_another_machine_counts_while_it_touches_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(locks, "SILENCE", 1.0)
    monkeypatch.setattr(locks, "POLL", 0.05)
    _write_holder(tmp_path)
    if not alive:
        with locks.hold(tmp_path, doing="y") as left:
            assert left is not None and left.host == "elsewhere"
        return
    done = locks.threading.Event()
    monkeypatch.setattr(locks, "BEAT", 0.1)
    beat = locks.threading.Thread(target=locks._beat, args=(tmp_path / locks.HOLDER, done))
    beat.start()
    try:
        with pytest.raises(locks.InUse, match="on elsewhere"), locks.hold(tmp_path, doing="y"):
            pass
    finally:
        done.set()
        beat.join()


def test_a_holder_that_was_silent_for_long_is_not_waited_for(tmp_path: Path) -> None:
    _write_holder(tmp_path)
    os.utime(tmp_path / locks.HOLDER, (0, 0))
    began = time.monotonic()
    with locks.hold(tmp_path, doing="y"):
        pass
    assert time.monotonic() - began < locks.SILENCE / 4


def test_a_holder_whose_clock_runs_ahead_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE", 0.5)
    monkeypatch.setattr(locks, "POLL", 0.05)
    _write_holder(tmp_path)
    tomorrow = time.time() + 86_400
    os.utime(tmp_path / locks.HOLDER, (tomorrow, tomorrow))
    began = time.monotonic()
    with locks.hold(tmp_path, doing="y"):
        pass
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("pid", [-1, 0, 2**70])
def test_a_number_that_cannot_be_a_process_is_not_a_holder(tmp_path: Path, pid: int) -> None:
    _write_holder(tmp_path, host=locks.socket.gethostname(), pid=pid)
    with locks.hold(tmp_path, doing="y") as left:
        assert left is None or left.pid == pid


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_an_incomplete_holder_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / locks.HOLDER).write_text(text)
    with locks.hold(tmp_path, doing="y") as left:
        assert left is None


def test_half_written_files_of_another_locked_folder_stay(tmp_path: Path) -> None:
    for folder in ("mine", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".x.json.0123abcd.part").touch()
    (tmp_path / "other" / files.LOCK).touch()
    (tmp_path / "my.part").touch()  # not ours: we make no such name
    with locks.hold(tmp_path, doing="y"):
        assert sorted(p.name for p in tmp_path.rglob("*.part")) == [".x.json.0123abcd.part", "my.part"]
    assert (tmp_path / "other" / ".x.json.0123abcd.part").exists()


def test_a_link_in_place_of_the_lock_is_named(tmp_path: Path) -> None:
    """Otherwise the lock of a folder could be a file elsewhere, or be missing."""
    for target in ("nowhere", "there"):
        (tmp_path / "there").touch()
        (tmp_path / files.LOCK).symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=r"\.lock is a link, .* Remove the link"), locks.hold(tmp_path, doing="y"):
            pass
        (tmp_path / files.LOCK).unlink()
    with locks.hold(tmp_path, doing="y"):
        pass
