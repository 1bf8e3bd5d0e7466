"""Preparing a data set: by one process at a time; remains of kills are removed, and damaged files are found."""

import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import locks
from radvqa_jax.config import DataConfig
from radvqa_jax.data import preparing, written
from radvqa_jax.data.preparing import prepare
from tests.data.preparing_case import answers, damage

SPAWN = multiprocessing.get_context("spawn")


def _prepare(data: DataConfig, said: Any) -> None:
    said.put(prepare("vqa_rad", data=data)["origin"])


def test_two_runs_that_prepare_one_data_set_wait_for_each_other(config: Callable[..., DataConfig]) -> None:
    said = SPAWN.Queue()
    runs = [SPAWN.Process(target=_prepare, args=(config(), said)) for _ in range(2)]
    for run in runs:
        run.start()
    first, second = sorted(said.get(timeout=300) for _ in runs)
    for run in runs:
        run.join()
    assert first.replace("already prepared", "prepared") == second and second.startswith("prepared from 6 files")


KILLED = """
import os, signal, sys
from radvqa_jax.config import DataConfig
from radvqa_jax.data.preparing import prepare
from tfds_builders.builder import OfficialFilesBuilder
OfficialFilesBuilder.finish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
prepare("vqa_rad", data=DataConfig(data_dir=sys.argv[1], manual_dir=sys.argv[2], allow_count_mismatch=True))
"""


def test_a_prepared_data_set_is_readable_only_by_its_owner(config: Callable[..., DataConfig]) -> None:
    folder = Path(prepare("vqa_rad", data=config())["path"])
    open_to_others = [path.name for path in folder.rglob("*") if path.stat().st_mode & 0o077]
    assert not open_to_others and list(folder.glob("*.array_record*")) and list(folder.glob("text_index-*"))


def test_remains_of_a_killed_rebuild_are_removed_by_the_next_use(config: Callable[..., DataConfig]) -> None:
    folder = Path(prepare("vqa_rad", data=config())["path"])
    beside = folder.with_name(f".rebuild-{folder.name}")
    beside.mkdir()
    with locks.hold(folder.parent, doing="another rebuild"):
        prepare("vqa_rad", data=config())
        assert beside.exists()  # another process works there
    prepare("vqa_rad", data=config())
    assert not beside.exists() and folder.is_dir()


def test_a_set_that_a_killed_rebuild_moved_aside_is_used_without_its_files(config: Callable[..., DataConfig]) -> None:
    folder = Path(prepare("vqa_rad", data=config())["path"])
    aside = folder.with_name(f".replaced-{folder.name}")
    folder.rename(aside)
    assert prepare("vqa_rad", data=config(manual_dir=""))["origin"].startswith("already prepared from 6 files")
    folder.rename(aside)
    assert answers(config()) and not aside.exists()  # by whoever opens it first
    folder.rename(aside)
    with ThreadPoolExecutor(1) as pool, locks.hold(folder.parent, doing="a rebuild, between its two renames"):
        opened = pool.submit(answers, config())
        with pytest.raises(FutureTimeout):
            opened.result(2)
        aside.rename(folder)
    assert opened.result()


def test_written_questions_that_a_stopped_run_moved_aside_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that run, if it was interrupted, or by the next use, if it was killed."""
    place = tmp_path / written.DATASET / "mine_questions" / str(written.Builder.VERSION)
    aside = place.with_name(f".replaced-{place.name}")

    def stop(*_: object, **__: object) -> None:
        place.rename(aside)
        raise KeyboardInterrupt

    place.mkdir(parents=True)
    monkeypatch.setattr(written, "written_builder", stop)
    with pytest.raises(KeyboardInterrupt):
        written.prepare_written("mine_questions", data_dir=str(tmp_path), rows={}, about={})
    assert place.exists() and not aside.exists()
    monkeypatch.undo()
    place.rename(aside)
    with pytest.raises(ValueError, match="mine_questions"):  # an empty folder is no data set
        prepare("written", builder_config="mine_questions", data=DataConfig(data_dir=str(tmp_path)))
    assert place.exists() and not aside.exists()


def test_remains_of_a_killed_run_are_removed_by_the_next(config: Callable[..., DataConfig], files: Path) -> None:
    data = config()
    done = subprocess.run([sys.executable, "-c", KILLED, data.data_dir, str(files)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    parent = Path(data.data_dir) / "vqa_rad" / "official"
    assert list(parent.glob(".rebuild-*"))
    built = prepare("vqa_rad", data=data)
    assert {path.name for path in parent.iterdir()} <= {built["version"], ".lock"}


def test_a_data_set_is_there_only_with_its_indices_and_its_record(
    config: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is killed while the indices are made leaves no data set without the check for damaged files."""
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(preparing, "_record_files", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare("vqa_rad", data=config())
    parent = Path(config().data_dir) / "vqa_rad" / "official"
    assert {path.name for path in parent.iterdir()} <= {".lock"}
    folder = Path(prepare("vqa_rad", data=config())["path"])
    assert {"prepared_files", "content"} <= json.loads((folder / "origin.json").read_text()).keys()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from radvqa_jax.config import DataConfig
from radvqa_jax.data.preparing import prepare
try:
    prepare("phantom_rad", builder_config="tiny", data=DataConfig(data_dir=sys.argv[1]))
except ValueError as error:
    print("one line:", error)
"""


def test_a_full_disk_ends_as_one_line(tmp_path: Path) -> None:
    """No file may grow beyond 20 kB, as on a disk that is full."""
    assert resource.RLIMIT_FSIZE
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert time.monotonic() - begin < 300
    assert "one line: phantom_rad cannot be prepared in" in done.stdout, done.stdout + done.stderr
    assert "Make room there, or give another place with --config.data.data_dir=FOLDER." in done.stdout
    assert not list(tmp_path.rglob("incomplete.*"))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("dataset_info.json", "cut"),
        ("dataset_info.json", "list"),
        ("dataset_info.json", "pipe"),
        ("features.json", "list"),
        ("*.array_record*", "cut"),
        ("*.array_record*", "absent"),
        ("*.array_record*", "zeros"),
    ],
)
def test_a_damaged_file_is_found_and_a_rebuild_replaces_it(
    config: Callable[..., DataConfig], name: str, how: str
) -> None:
    built = prepare("vqa_rad", data=config())
    before = answers(config())
    damage(next(Path(built["path"]).glob(name)), how)
    for use in (lambda: prepare("vqa_rad", data=config()), lambda: answers(config())):
        with pytest.raises(ValueError, match=name.strip("*")) as found:
            use()
        assert "data.rebuild=True" in str(found.value)
    prepare("vqa_rad", data=config(rebuild=True))
    assert answers(config()) == before


def test_a_cut_text_index_is_made_again(config: Callable[..., DataConfig]) -> None:
    built = prepare("vqa_rad", data=config())
    before = answers(config())
    damage(next(Path(built["path"]).glob("text_index-*")), "cut")
    assert answers(config()) == before
