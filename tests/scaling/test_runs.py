"""Losses of runs, for a scaling fit: each run counts once."""

import argparse
import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from radvqa_jax import locks
from radvqa_jax.config import ScalingConfig
from radvqa_jax.runners.fit_scaling import read_measurements

SWEEP = Path(__file__).parents[2] / "scripts" / "sweep.py"


def make_run(folder: Path, loss: float) -> None:
    folder.mkdir(parents=True)
    budget = {"trained_parameters": 8, "rows_per_step": 2, "image_tokens": 4, "rows_per_epoch": 100}
    budget |= {"text_tokens_per_epoch": 500, "text_tokens": {"1": 10, "2": 20}, "validation": "v"}
    (folder / "budget.json").write_text(json.dumps(budget))
    lines = [{"step": step, "eval/loss_per_token": loss / step} for step in (1, 2)]
    (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_that_several_patterns_name_counts_once(tmp_path: Path) -> None:
    for rank, loss in ((1, 3.0), (2, 2.0)):
        make_run(tmp_path / f"rank{rank}" / "stage2", loss)
    runs = ("*/stage2", "rank1*/stage2", "rank1/../rank1/stage2")
    rows, origin = read_measurements(ScalingConfig(runs=tuple(str(tmp_path / pattern) for pattern in runs)))
    assert len(rows) == 4 and len({row.run for row in rows}) == len(origin) == 2


def test_a_copy_of_a_run_is_refused(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        make_run(tmp_path / copy, 3.0)
    with pytest.raises(ValueError, match=r"scaling\.runs: .*a and .*b hold the same losses, and a run counts once"):
        read_measurements(ScalingConfig(runs=(str(tmp_path / "*"),)))


def test_two_sweeps_do_not_write_one_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(SWEEP))
    train_one = script["train_one"]
    trained: list[Path] = []
    monkeypatch.setitem(train_one.__globals__, "prepare", lambda *_, **__: None)
    monkeypatch.setitem(script["RUNNERS"], "train", lambda config, workdir: trained.append(workdir))
    args = argparse.Namespace(steps=8, eval_every=8, eval_rows=8, builder_config="tiny")
    train_one(tmp_path, rank=1, seed=0, args=args)
    with locks.hold(tmp_path, doing="sweep.py"), pytest.raises(locks.InUse):
        train_one(tmp_path, rank=1, seed=0, args=args)
    assert trained == [tmp_path]


def test_a_sweep_goes_on_with_its_own_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    checked: list[int] = []

    def sweep(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SWEEP), str(tmp_path / "sweep"), *options])
        main = runpy.run_path(str(SWEEP))["main"]
        monkeypatch.setitem(main.__globals__, "check_device", lambda: checked.append(len(trained)))
        monkeypatch.setitem(main.__globals__, "train_one", lambda workdir, *, rank, seed, args: trained.append(rank))
        main()

    sweep("--ranks", "1", "--steps", "8")
    sweep("--ranks", "1", "2", "--steps", "8")
    assert trained == [1, 1, 2] and checked == [0, 1]  # before anything is trained
    with pytest.raises(ValueError, match=r"holds a sweep with \{'steps': 8\}, and a fit would mix the two"):
        sweep("--ranks", "4", "--steps", "320")
    os.unlink(tmp_path / "sweep" / "sweep.json")
    make_run(tmp_path / "sweep" / "rank1_seed0" / "stage2", 3.0)
    with pytest.raises(ValueError, match=r"rank1_seed0 is of a sweep whose settings are not known"):
        sweep("--steps", "8")
    assert trained == [1, 1, 2]
