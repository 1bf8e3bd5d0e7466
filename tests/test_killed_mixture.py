"""A run on a mixture that is killed without warning, and then started again by the same command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.config import SourceConfig
from radvqa_jax.data.mixture import plan_mixture
from radvqa_jax.files import read_json, read_jsonl

REPO = Path(__file__).resolve().parent.parent
STEPS, ROWS = 90, 4  # rows in a batch
# One source at a constant weight, one whose share rises late, and an exact number of rows of a third.
CONFIG = '''"""The micro model on three sources."""

import runpy

from radvqa_jax.config import source, where

PHANTOM = {{"dataset": "phantom_rad", "builder_config": "tiny"}}


def get_config():
    config = runpy.run_path({micro!r})["get_config"]()
    config.mode = "train"
    config.run_stages = ("stage2",)
    config.stages.stage2.sources = (
        source(where=(where("modality", values=("CT", "MRI")),), **PHANTOM),
        source(task="caption", anneal="linear", points=((0.5, 0.0), (1.0, 3.0)), **PHANTOM),
        source(where=(where("modality", values=("X-ray",)),), count=50, **PHANTOM),
    )
    config.stages.stage2.total_steps, config.stages.stage2.batch_size = {steps}, {rows}
    config.stages.stage2.save_every = 20
    config.data.augment.brightness = 0.3  # random changes must come again, too
    return config
'''


def command(config: Path, workdir: Path) -> list[str]:
    return [sys.executable, "-m", "radvqa_jax.main", "--config", str(config), "--workdir", str(workdir)]


def run_and_kill(argv: list[str], stage: Path) -> None:
    """Starts a run and kills it (SIGKILL: nothing more can be saved) some steps after its first checkpoint."""
    with subprocess.Popen(argv, cwd=REPO, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (stage / "checkpoints" / "20").is_dir():
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        saved = len((stage / "losses.jsonl").read_bytes().splitlines())
        while time.monotonic() < deadline and len((stage / "losses.jsonl").read_bytes().splitlines()) < saved + 5:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def run_to_the_end(argv: list[str]) -> str:
    done = subprocess.run(argv, cwd=REPO, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(stage: Path) -> list[dict[str, Any]]:
    names = ("step", "loss", "grad_norm", "update_norm", "learning_rate")
    return [{name: row[name] for name in names} for row in read_jsonl(stage / "losses.jsonl")]


ENV = os.environ | {"PYTHONPATH": str(REPO), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.mark.slow
def test_a_killed_run_sees_the_same_batches_and_ends_with_the_same_weights(micro_file: Path, tmp_path: Path) -> None:
    ENV["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "compiled")  # three processes compile the same
    config = tmp_path / "mixture.py"
    config.write_text(CONFIG.format(micro=str(micro_file), steps=STEPS, rows=ROWS))
    whole, cut = tmp_path / "whole" / "stage2", tmp_path / "cut" / "stage2"
    said = run_to_the_end(command(config, whole.parent))
    run_and_kill(command(config, cut.parent), cut)
    assert not (cut / "adapter.npz").exists()
    again = run_to_the_end(command(config, cut.parent))
    assert any(f"stage2: continues after step {step} of {STEPS}" in again for step in range(20, STEPS, 20))

    # With equal weights the loss of a step is that of its batch: rows, their order, augmentation and dropout.
    assert losses(cut) == losses(whole) and len(losses(cut)) == STEPS
    assert (cut / "adapter.npz").read_bytes() == (whole / "adapter.npz").read_bytes()

    report = read_json(whole / "data.json")
    assert read_json(cut / "data.json") == report
    sources = [
        SourceConfig("phantom_rad"),
        SourceConfig("phantom_rad", anneal="linear", points=((0.5, 0.0), (1.0, 3.0))),
        SourceConfig("phantom_rad", count=50),
    ]
    mixture = plan_mixture(sources, sizes=[entry["kept"] for entry in report], total=STEPS * ROWS)
    assert [entry["drawn"] for entry in report] == np.bincount(mixture.source).tolist()
    assert report[2]["drawn"] == 50 and sum(entry["drawn"] for entry in report) == STEPS * ROWS
    assert report[1]["share_by_tenth"][:5] == [0.0] * 5 and report[1]["share_by_tenth"][9] > 0.5
    for text in (said, again):
        assert [line.split("; ")[0] for line in text.splitlines() if " gave " in line] == [
            f"stage2: phantom_rad:train gave {entry['drawn']} rows, {entry['share']:.1%}" for entry in report
        ]
