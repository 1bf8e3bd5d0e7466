"""The inputs of a stage: its data, and the result of the stage before or of an adapter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax import files, processes
from radvqa_jax.checkpoints.adapter import save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.config import EMBEDDED, EMBEDDED_SHA256, Config, LoraConfig, source
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.data.unchanged import check_unchanged
from radvqa_jax.loaded_base import LoadedBase, check_embedded
from radvqa_jax.processes import Group
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.saliency_quality import _make_control
from radvqa_jax.runners.train import make_loader
from radvqa_jax.training.stage import Base, Trained
from tests.runners.shared import MakeConfig, replace_in_runners

HELD_OUT = {
    "stages.stage1.eval_source.dataset": "phantom_rad",
    "stages.stage1.eval_source.builder_config": "tiny",
    "stages.stage1.eval_source.split": "validation",
}


class Stages:
    """Stands in for run_stage: notes what each stage is given, and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, dict[str, Any]] = {}
        replace_in_runners(monkeypatch, "run_stage", self.run)

    def run(self, name: str, config: Config, *, batches: Any, folder: Path, **others: Any) -> Trained:
        self.given[name] = others | {"position": batches.get_state(), "batch": next(batches)}
        folder.mkdir(exist_ok=True)
        return Trained({f"made by {name}": np.zeros(1)}, LoraConfig())


def test_a_stage_is_given_its_data_from_the_beginning_and_the_stage_before(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    RUNNERS["train"](micro_config({"mode": "train", "data.overlong": "error"}), tmp_path)
    first, second = stages.given["stage1"], stages.given["stage2"]
    assert first["position"] == second["position"] == {"batches_drawn": 0}  # although a row of it was shown
    assert (len(first["batch"].tokens), len(second["batch"].tokens)) == (8, 4)  # batch_size x accumulate
    assert first["rows_per_epoch"] == 142
    assert (list(first["start"].leaves), list(second["start"].leaves)) == ([], ["made by stage1"])
    assert first["data"]["0"]["files"] and first["data"]["tokenizer"]
    assert not np.array_equal(first["batch"].tokens[:4], second["batch"].tokens)  # another order


def test_data_are_compared_with_what_was_opened_before_and_after_every_stage(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 2 reads its first row hours after its rows were chosen."""
    stages, checks = Stages(monkeypatch), []

    def check(opened: list[dict[str, Any]], data: Any) -> None:
        check_unchanged(opened, data)
        checks.append((list(stages.given), [entry["files"] for entry in opened]))
        if len(stages.given) == 1:
            check_unchanged([entry | {"files": "of other rows"} for entry in opened], data)

    monkeypatch.setattr("radvqa_jax.data.unchanged.check_unchanged", check)
    with pytest.raises(
        ValueError, match=r"phantom_rad.* was prepared anew or removed while this run had it open.* new --workdir"
    ):
        RUNNERS["train"](micro_config({"mode": "train", **HELD_OUT}), tmp_path)
    assert len(checks[0][1]) == 2  # the rows of the stage, and those that it holds out
    assert [trained for trained, _ in checks] == [[], ["stage1"]] and checks[0][1] == checks[1][1] != []
    assert not (tmp_path / "stage1" / "data.json").exists()


@pytest.mark.parametrize("mode", ["job", "predict"])
def test_the_evaluated_rows_are_compared_before_a_model_answers(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared_anew(opened: list[dict[str, Any]], data: Any) -> None:
        raise ValueError(f"{opened[0]['split']} was prepared anew")

    monkeypatch.setattr("radvqa_jax.data.unchanged.check_unchanged", prepared_anew)
    with pytest.raises(ValueError, match="test was prepared anew"):
        RUNNERS[mode](micro_config({"mode": mode}), tmp_path)
    assert not (tmp_path / "predictions").exists()


def test_rows_with_lent_images_are_compared_with_both_data_sets(micro_config: MakeConfig) -> None:
    config = micro_config({})
    rows = load_rows(config.eval.source, config.data)
    lender = load_rows(config.eval.train_source, config.data)
    lent = rows.with_images_of([0] * len(rows), lender=lender)
    check_unchanged([lent.fingerprint], config.data)
    lent.fingerprint["images_from"] = lender.fingerprint | {"files": "of other rows"}
    with pytest.raises(ValueError, match=r"was prepared anew or removed"):
        check_unchanged([lent.fingerprint], config.data)


class Two(Group):
    """Two processes, of which the second one has read another base and other rows of stage 2."""

    def gather(self, value: bytes = b"", *, what: str) -> list[bytes]:
        if what != "weights and rows":
            return super().gather(value, what=what)
        return [value, json.dumps(json.loads(value) | {"base": "x", "stages.stage2.sources": "x"}).encode()]


def test_a_process_that_read_other_files_is_noticed_before_the_first_stage(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    monkeypatch.setattr(processes, "group", Two)
    says = r"Process 1 has read other weights, .*these differ: base, stages\.stage2\.sources\..* the same files"
    with pytest.raises(ValueError, match=says):
        RUNNERS["train"](micro_config({"mode": "train"}), tmp_path)
    assert not stages.given


def adapter_file(folder: Path, base: Path, *, sha256: str = "") -> Path:
    """The path of an adapter that changes the projector's bias of the micro model."""
    meta = AdapterMeta("stage1", 1, LoraConfig(), base.name, sha256 or files.sha256(base), "c" * 64)
    return save_adapter(folder, {"img/head/bias": np.full(16, 0.5, np.float32)}, meta)


def test_init_from_goes_before_the_stage_before(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint)
    RUNNERS["train"](micro_config({"mode": "train", "stages.stage2.init_from": str(path)}), tmp_path)
    assert list(stages.given["stage2"]["start"].leaves) == ["img/head/bias"]


def test_an_adapter_of_another_base_is_refused_before_any_stage_trains(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint, sha256="f" * 64)
    with pytest.raises(ValueError, match=r"stage1 was trained on micro.npz \(sha256 f{16}…\)"):
        RUNNERS["train"](micro_config({"mode": "train", "stages.stage2.init_from": str(path)}), tmp_path)
    assert stages.given == {}


def test_a_warm_up_longer_than_the_epochs_of_a_later_stage_is_found_before_any_stage_trains(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    changes = {
        "mode": "train",
        "stages.stage2.total_steps": 0,
        "stages.stage2.epochs": 1.0,
        "stages.stage2.optim.warmup_steps": 900,
    }
    with pytest.raises(ValueError, match=r"stage2\.optim\.warmup_steps=900 must be below the \d+ steps of stage2"):
        RUNNERS["train"](micro_config(changes), tmp_path)
    assert stages.given == {}


def test_the_control_of_saliency_quality_trains_on_the_mixture_of_the_experiment(
    micro_config: MakeConfig, tmp_path: Path
) -> None:
    """The same rows in the same order: only their images are others."""
    tiny = {"dataset": "phantom_rad", "builder_config": "tiny"}
    sources = (source(**tiny), source(**tiny, split="test", weight=0.5))
    changes = {
        "mode": "train",
        "seed": 5,
        "stages.stage2.sources": sources,
        "stages.stage2.batch_size": 16,
        "stages.stage2.total_steps": 6,
    }

    def loaded(weight_by: str) -> LoadedBase:
        config = micro_config(changes | {"quality.shuffled_image_steps": 6, "stages.stage2.weight_by": weight_by})
        return LoadedBase(config, tmp_path, Tokenizer(config.model.tokenizer), Base({}, "", ""))

    loaders = [make_loader(loaded("row"), "stage2"), _make_control(loaded("row"))[1]]
    same = []
    for _ in range(6):
        own, control = (next(loader) for loader in loaders)
        np.testing.assert_array_equal(own.tokens, control.tokens)
        same.extend(np.array_equal(a, b) for a, b in zip(own.image, control.image, strict=True))
    assert np.mean(same) < 0.5  # a question may be given its own image, or the same drawing of another case
    shares = [[round(entry["share"], 2) for entry in loader.realised()] for loader in loaders]
    other = make_loader(loaded("source"), "stage2")
    assert shares[0] == shares[1] != [round(entry["share"], 2) for entry in other.realised()]
    for loader in [*loaders, other]:
        loader.close()


def test_a_file_that_comes_with_the_package_is_held_to_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, sha256 in EMBEDDED_SHA256.items():
        assert files.sha256(EMBEDDED / name) == sha256
        check_embedded(EMBEDDED / name, sha256)
        with pytest.raises(ValueError, match=f"{name} is not the file that radvqa_jax .* comes with"):
            check_embedded(EMBEDDED / name, "0" * 64)
        check_embedded(tmp_path / name, "0" * 64)  # a user's own file is accepted under any name
