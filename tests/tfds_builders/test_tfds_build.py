"""TFDS's own command on a builder. It needs apache-beam, which does not install with the tested set (README, Data)."""

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, build, make
from .test_slake import release_folder

TFDS = os.environ.get("RADVQA_TFDS", "")  # the command `tfds` of an environment that has apache-beam


@pytest.mark.tf
@pytest.mark.skipif(not TFDS, reason="needs TFDS's command with apache-beam: set RADVQA_TFDS to it (README, Data)")
def test_the_command_builds_what_the_job_builds(tmp_path: Path) -> None:
    files = release_folder(tmp_path / "official")
    command = [TFDS, "build", str(ROOT / "slake"), "--config", "en", "--file_format", "array_record"]
    folders = ["--manual_dir", str(files), "--data_dir", str(tmp_path / "theirs")]
    env = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([*command, *folders], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert make("slake", "en", tmp_path / "theirs").is_prepared()
    theirs, ours = (build("slake", "en", files, tmp_path / name) for name in ("theirs", "ours"))
    assert {split: len(rows) for split, rows in theirs.rows.items()} == {
        "train": 4918,
        "validation": 1053,
        "test": 1061,
    }
    for split, rows in ours.rows.items():
        assert list(theirs.rows[split]) == list(rows)
        names = [name for name in next(iter(rows.values())) if name != "boxes"]  # an array, empty here
        assert all(theirs.rows[split][key][name] == row[name] for key, row in rows.items() for name in names)
    assert (theirs.rejects, theirs.counts) == (ours.rejects, ours.counts)
