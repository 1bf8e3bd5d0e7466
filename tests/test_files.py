"""Files are whole or absent, and an interrupted one is read up to the interruption."""

import errno
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from radvqa_jax import files
from radvqa_jax.command_line import run
from radvqa_jax.command_line.modes import MODES, SHORT

ROWS = [{"answer": "rechts — ja", "n": 1}, {"answer": "links", "n": 2}]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    files.write_text(path, "old\n")

    def fail() -> None:
        with files.atomic_write(path) as file:
            file.write("half of ")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old\n"
    assert os.listdir(path.parent) == ["file.txt"]
    with files.atomic_write(path, "wb") as file:
        file.write(b"\x00new")
        assert path.read_text() == "old\n"
    assert path.read_bytes() == b"\x00new"


def _write_slowly(path: Path, opened: Any) -> None:
    with files.atomic_write(path) as file:
        file.write("half of ")
        opened.set()
        time.sleep(60)


def test_remains_of_a_killed_writer_are_removed_by_the_next_write_of_the_same_file(tmp_path: Path) -> None:
    """The parts of a writer that still runs and of another file stay."""
    spawn = multiprocessing.get_context("spawn")
    path, other = tmp_path / "x.jsonl", tmp_path / "x"
    writers = []
    for target in (path, path, other):
        opened = spawn.Event()
        writers.append(spawn.Process(target=_write_slowly, args=(target, opened)))
        writers[-1].start()
        assert opened.wait(60)
    assert len(os.listdir(tmp_path)) == 3
    for number in (0, 2):
        writers[number].kill()
        writers[number].join()
    files.write_text(path, "new\n")
    assert len(list(tmp_path.glob(".x.jsonl.*"))) == 1  # of the writer that runs
    assert len(list(tmp_path.glob(".x.????????.part"))) == 1  # of another file
    assert len(files.remove_parts(tmp_path)) == 1  # a run's cleaning leaves the writer that runs alone, too
    writers[1].kill()
    writers[1].join()
    files.write_text(path, "newer\n")
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_json_is_read_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"é": [1, 2.5, None]})
    assert files.read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}
    assert "é" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_outside_json_are_refused_and_leave_no_file(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "x.json", {"a": value})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_jsonl(tmp_path / "x.jsonl", [{"a": 1}, {"a": value}])
    with pytest.raises(ValueError, match="Out of range float"):
        files.append_jsonl(tmp_path / "x.jsonl", [{"a": 1}, {"a": value}])
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    for content in (b"{", b'{"a": "\xff"}'):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
            files.read_json(tmp_path / "x.json")


def test_jsonl_is_written_appended_and_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.jsonl"
    files.append_jsonl(path, ROWS[:1])
    files.append_jsonl(path, ROWS[1:])
    assert files.read_jsonl(path) == ROWS
    assert path.read_text(encoding="utf-8").count("\n") == 2
    assert files.write_jsonl(path, iter(ROWS * 2)) == 4
    assert files.read_jsonl(path) == ROWS * 2


def test_a_cut_line_is_left_out_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    files.write_jsonl(path, ROWS[::-1])
    whole = path.read_bytes()
    first = len(whole.split(b"\n")[0]) + 1
    inside_a_character = whole.index("—".encode()) + 1
    for size in (first + 1, inside_a_character, len(whole) - 2):
        path.write_bytes(whole[:size])
        assert files.read_jsonl(path, allow_cut=True) == ROWS[1:]
        with pytest.raises(ValueError, match=r"x\.jsonl, line 2: not valid JSON"):
            files.read_jsonl(path)


def test_a_new_line_is_not_appended_to_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    files.write_jsonl(path, ROWS)
    whole = path.read_bytes()
    for size in range(len(whole.split(b"\n")[0]) + 1, len(whole) - 1):
        path.write_bytes(whole[:size])
        files.append_jsonl(path, [{"n": 3}])
        assert files.read_jsonl(path) == [ROWS[0], {"n": 3}]
    path.write_bytes(whole[:-1])  # only the newline is lost
    files.append_jsonl(path, [{"n": 3}])
    assert files.read_jsonl(path) == [*ROWS, {"n": 3}]


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(ValueError, match=r"x\.jsonl, line 3: expected a JSON object, got list"):
        files.read_jsonl(path)
    path.write_text('{"a": 1}\n{"a"\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2: not valid JSON"):
        files.read_jsonl(path, allow_cut=True)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert files.sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_the_workdir_is_made(tmp_path: Path) -> None:
    assert files.make_workdir(str(tmp_path / "a" / ".." / "b")) == tmp_path / "b"
    assert (tmp_path / "b").is_dir()
    assert files.make_workdir(str(tmp_path / "b")) == tmp_path / "b"


def test_an_invalid_workdir_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--workdir is empty\. Give the folder"):
        files.make_workdir("")
    for inside in ("file", "file/below"):
        with pytest.raises(ValueError, match=f"--workdir={tmp_path / inside} is a file or is below one"):
            files.make_workdir(str(tmp_path / inside))
    with pytest.raises(ValueError, match=r"--workdir=.* cannot be made: File name too long"):
        files.make_workdir(str(tmp_path / ("x" * 300)))
    (tmp_path / "run" / "stage2").mkdir(parents=True)
    os.mkfifo(tmp_path / "run" / "stage2" / "checkpoints")
    with pytest.raises(ValueError, match="stage2/checkpoints is neither a file nor a folder: a run could wait for"):
        files.make_workdir(str(tmp_path / "run"))
    (tmp_path / "deep" / "a" / "b").mkdir(parents=True)
    os.mkfifo(tmp_path / "deep" / "a" / "b" / "pipe")
    with pytest.raises(ValueError, match="a/b/pipe is neither a file nor a folder"):
        files.make_workdir(str(tmp_path / "deep"))
    with pytest.raises(ValueError, match="contains the character 0"):
        files.make_workdir(str(tmp_path / "a\0b"))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match=r"--workdir=run: the current folder was removed\."):
        files.make_workdir("run")
    monkeypatch.undo()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"cannot be written to\. Give a folder you may write to"):
        files.make_workdir(str(tmp_path / "c"))


@pytest.mark.parametrize(("umask", "shared"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640), (0o000, 0o666)])
def test_every_file_follows_the_umask_and_private_ones_are_the_owners_alone(
    tmp_path: Path, umask: int, shared: int
) -> None:
    writers: dict[str, Callable[..., Any]] = {
        "text": lambda path, **how: files.write_text(path, "x", **how),
        "json": lambda path, **how: files.write_json(path, 1, **how),
        "jsonl": lambda path, **how: files.write_jsonl(path, ROWS, **how),
        "appended": lambda path, **how: files.append_jsonl(path, ROWS, **how),
    }

    def rights() -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    before = os.umask(umask)
    try:
        for name, write in writers.items():
            write(tmp_path / f"{name}.private")
            write(tmp_path / f"{name}.open", private=False)
        assert rights() == {f"{n}.private": 0o600 for n in writers} | {f"{n}.open": shared for n in writers}
        files.share(True)
        for name, write in writers.items():
            (tmp_path / f"{name}.private").unlink()
            write(tmp_path / f"{name}.private")
        assert set(rights().values()) == {shared}
    finally:
        files.share(False)
        os.umask(before)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a": NaN', "\x00", '{"a": {"b": 1, "b": 2}}'])
def test_json_that_python_cannot_read_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        files.read_json(path)
    with pytest.raises(ValueError, match=r"bad\.json, line 1: not valid JSON"):
        files.read_jsonl(path)


@pytest.mark.parametrize(("shared", "rights"), [(False, 0o600), (True, 0o644)])
def test_files_that_a_library_writes_are_private_too(
    shared: bool, rights: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_shared", shared)
    before = os.umask(0o022)
    try:
        with files.private_files():
            (tmp_path / "inside").write_text("x")
        (tmp_path / "after").write_text("x")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("inside", "after")] == [rights, 0o644]


def test_a_folder_that_cannot_be_written_to_is_named_by_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(name: str, inside: str = "") -> None:
        files.check_writable(tmp_path / name, field="data.data_dir", inside=inside)

    check("not/there", "written/mine")
    (tmp_path / "file").touch()
    for name, inside in (("file", ""), (".", "file/mine")):
        with pytest.raises(ValueError, match=rf"data\.data_dir=.*: {tmp_path / 'file'} is a file, so that"):
            check(name, inside)
    (tmp_path / "data" / "written").mkdir(parents=True)
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "written")
    check("data")
    with pytest.raises(ValueError, match=rf"data\.data_dir=.*/data: {tmp_path}/data/written cannot be written to"):
        check("data", "written/mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"data\.data_dir=[^:]*there: .* cannot be written to"):
        check("not/there")


def test_a_named_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        for read in (files.read_json, files.read_jsonl, files.sha256):
            with pytest.raises(ValueError, match="is not a regular file"):
                read(path)


@pytest.mark.parametrize("write", ["write_text", "append_jsonl"])
def test_a_full_disk_names_the_file_that_was_written(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "scores.json"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        files.write_text(path, "x") if write == "write_text" else files.append_jsonl(path, [{"a": 1}])
    outer = tmp_path / "outer.json"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), files.atomic_write(outer):
        files.write_text(path, "x")  # nested writes: the file that the disk had no room for is named
    assert not list(tmp_path.glob("outer*"))


def test_a_workdir_that_leads_nowhere_or_is_not_utf_8_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"--workdir=.*leads nowhere"):
        files.make_workdir(str(tmp_path / "loop"))
    with pytest.raises(ValueError, match="not UTF-8 text"):
        files.make_workdir(str(tmp_path / "a\udcff"))
    assert not (tmp_path / "a\udcff").exists()


@pytest.mark.parametrize(("mode", "says"), [("train", "Finished work is in runs/a,"), ("export", "Start it again")])
def test_a_run_that_ends_early_promises_only_what_its_mode_keeps(
    mode: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mode in MODES and set(MODES) >= SHORT
    monkeypatch.setattr(run, "_CONFIG", SimpleNamespace(value=SimpleNamespace(mode=mode)))
    monkeypatch.setattr(run, "_WORKDIR", SimpleNamespace(value="runs/a"))
    assert run._kept().startswith(says)


def test_a_run_on_a_full_disk_says_where_room_is_needed_and_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_kept", lambda: "What was finished is in runs/a.")
    said = run._say(OSError(errno.ENOSPC, "No space left on device", "runs/a/scores.json"))
    assert said == (
        "there is no room for runs/a/scores.json (No space left on device). Make room there. "
        "What was finished is in runs/a."
    )
