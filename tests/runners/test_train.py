"""What a stage is given: its data, and what the stage before or an adapter leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.checkpoints.adapter import save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.config import Config, LoraConfig
from radvqa_jax.runners import RUNNERS
from radvqa_jax.training.stage import Trained
from tests.runners.shared import MakeConfig, replace_in_runners


class Stages:
    """Stands in for run_stage: notes what each stage is given, and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, dict[str, Any]] = {}
        replace_in_runners(monkeypatch, "run_stage", self.run)

    def run(self, name: str, config: Config, *, batches: Any, folder: Path, **others: Any) -> Trained:
        self.given[name] = others | {"position": batches.get_state(), "batch": next(batches)}
        folder.mkdir()
        return Trained({f"made by {name}": np.zeros(1)}, LoraConfig())


def test_a_stage_is_given_its_data_from_the_beginning_and_the_stage_before(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    RUNNERS["train"](micro_config({"mode": "train", "data.overlong": "error"}), tmp_path)
    first, second = stages.given["stage1"], stages.given["stage2"]
    assert first["position"] == second["position"] == {"batches_drawn": 0}  # though a row of it was shown
    assert (len(first["batch"].tokens), len(second["batch"].tokens)) == (8, 4)  # batch_size x accumulate
    assert first["rows_per_epoch"] == 142
    assert (list(first["start"].leaves), list(second["start"].leaves)) == ([], ["made by stage1"])
    assert first["data"]["0"]["files"] and first["data"]["tokenizer"]
    assert not np.array_equal(first["batch"].tokens[:4], second["batch"].tokens)  # another order


def adapter_file(folder: Path, base: Path, *, sha256: str = "") -> Path:
    """Returns the path of an adapter that changes the projector's bias of the micro model."""
    meta = AdapterMeta("stage1", 1, LoraConfig(), base.name, sha256 or files.sha256(base), "c" * 64)
    return save_adapter(folder, {"img/head/bias": np.full(16, 0.5, np.float32)}, meta)


def test_init_from_goes_before_the_stage_before(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint)
    RUNNERS["train"](micro_config({"mode": "train", "stage2.init_from": str(path)}), tmp_path)
    assert list(stages.given["stage2"]["start"].leaves) == ["img/head/bias"]


def test_an_adapter_of_another_base_is_refused_before_any_stage_trains(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint, sha256="f" * 64)
    with pytest.raises(ValueError, match=r"stage1 was trained on micro.npz \(sha256 f{16}…\)"):
        RUNNERS["train"](micro_config({"mode": "train", "stage2.init_from": str(path)}), tmp_path)
    assert stages.given == {}
