"""The checks before anything is prepared, loaded or trained; and the preparation of data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import pytest

from radvqa_jax import loaded_base
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import CellConfig, MeshConfig, SourceConfig
from radvqa_jax.data.sources import load_rows
from radvqa_jax.files import read_json
from radvqa_jax.models.variants import get_variant, variant_name
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.saliency import refuse_other_maps
from radvqa_jax.training import stage_plan
from radvqa_jax.training.sharding import make_mesh
from tests.runners.shared import MakeConfig, refuse, replace_in_runners


def test_data_are_built_and_described(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = str(tmp_path / "data")
    fields = {"mode": "build_data", "dataset": "phantom_rad", "builder_config": "tiny", "data.data_dir": data_dir}
    config = micro_config(fields)
    RUNNERS["build_data"](config, tmp_path)
    built = read_json(tmp_path / "data.json")
    assert built["splits"] == {"train": 142, "validation": 45, "test": 47}
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""])) == built
    source = SourceConfig(dataset="phantom_rad", builder_config="tiny", split="validation")
    assert len(load_rows(source, config.data)) == 45


def test_one_table_has_one_name(micro_config: MakeConfig, tmp_path: Path) -> None:
    config = micro_config({"mode": "build_data", "dataset": "table", "builder_config": "f", "data.name": "e"})
    with pytest.raises(ValueError, match=r"data\.name='e' and builder_config='f' both name the table"):
        RUNNERS["build_data"](config, tmp_path)


@pytest.mark.parametrize("mode", ["train", "predict", "saliency"])
def test_missing_data_are_reported_before_the_checkpoint_is_loaded(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    with pytest.raises(ValueError, match=r"phantom_rad is not prepared.*configs/build_data.py"):
        RUNNERS[mode](micro_config({"mode": mode, "data.data_dir": str(tmp_path)}), tmp_path)


def test_the_record_of_maps_that_were_never_made_keeps_nobody_out(micro_config: MakeConfig, tmp_path: Path) -> None:
    """A run whose maps failed is started again with other settings."""
    loaded = loaded_base.load_base(micro_config({"mode": "saliency"}), tmp_path)
    (tmp_path / "saliency").mkdir()
    (tmp_path / "saliency" / "maps.json").write_text("{}")
    refuse_other_maps(loaded, {})
    (tmp_path / "saliency" / "case.npz").touch()
    with pytest.raises(ValueError, match="were made with other asked, models, saliency, source, tokenizer"):
        refuse_other_maps(loaded, {})


def test_a_job_refuses_maps_of_other_settings_before_it_answers(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "answer", refuse)
    (tmp_path / "saliency").mkdir()
    (tmp_path / "saliency" / "case.npz").touch()
    (tmp_path / "saliency" / "maps.json").write_text('{"models": "of any"}')
    with pytest.raises(ValueError, match="were made with other asked, saliency, source, tokenizer"):
        RUNNERS["job"](micro_config({"mode": "job"}), tmp_path)


@pytest.mark.parametrize("mode", ["job", "predict", "saliency", "saliency_quality"])
def test_rows_that_cannot_be_scored_are_found_before_anything_is_answered(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one of these modes gives verdicts."""

    def none_left(rows: Any) -> Any:
        raise ValueError(f"{rows.name}: no row can be scored")

    replace_in_runners(monkeypatch, "scorable", none_left)
    replace_in_runners(monkeypatch, "answer", refuse)
    with pytest.raises(ValueError, match=r"phantom_rad/tiny:test: no row can be scored"):
        RUNNERS[mode](micro_config({"mode": mode}), tmp_path)


@pytest.mark.parametrize("mode", ["train", "job"])
def test_a_missing_source_of_the_last_stage_is_reported_before_the_first_trains(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    replace_in_runners(monkeypatch, "prepare", refuse)
    config = micro_config({"mode": mode})
    config = dataclasses.replace(
        config,
        stages={
            **config.stages,
            "stage2": dataclasses.replace(config.stages["stage2"], sources=(SourceConfig(dataset="slak"),)),
        },
    )
    with pytest.raises(ValueError, match=r"no data set 'slak'\. Did you mean `slake`\?"):
        RUNNERS[mode](config, tmp_path)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"model.checkpoint": "nowhere.npz"}, FileNotFoundError, r"nowhere\.npz"),
        ({"model.checkpoint": ""}, ValueError, r"native big_vision .npz checkpoint.* is empty\. Set model.checkpoint"),
        ({"model.tokenizer": "nowhere.model"}, FileNotFoundError, r"no tokenizer at model.tokenizer='nowhere.model'"),
        ({"model.variant": "mikro"}, ValueError, r"model.variant='mikro' is unknown. Did you mean `micro`"),
        ({"model.variant": "dummy"}, ValueError, r"has 1664 tokens, but dummy embeds 64"),
        ({"model.resolution": 30}, ValueError, r"model.resolution=30 must be a multiple of the patch size 14"),
        ({"stages.stage2.init_from": "nowhere/adapter.npz"}, FileNotFoundError, r"nowhere/adapter\.npz"),
        (
            {"stages.stage2.train": ((".*lora_c", "train:lora"), (".*", "freeze"))},
            ValueError,
            r"stages.stage2.train: the rules",
        ),
        ({"stages.stage2.lora.targets": ((".*", "none"),)}, ValueError, r"lora.targets chooses no weight"),
    ],
)
def test_files_and_rules_are_checked_before_data_are_made_or_weights_loaded(
    changed: dict[str, Any],
    error: type[Exception],
    message: str,
    micro_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace_in_runners(monkeypatch, "prepare", refuse)
    monkeypatch.setattr(big_vision, "load", refuse)
    with pytest.raises(error, match=message):
        RUNNERS["job"](micro_config(changed), tmp_path)


def test_a_missing_adapter_is_reported_before_weights_are_loaded(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(big_vision, "load", refuse)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        RUNNERS["predict"](micro_config({"mode": "predict", "adapter": "nowhere"}), tmp_path)


@pytest.fixture
def four_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every configuration one for a mesh; the same device four times, because no array is put on them."""
    for module in (loaded_base, stage_plan):
        monkeypatch.setattr(module, "mesh_of", lambda config: make_mesh(MeshConfig(data=4), jax.devices()[:1] * 4))


@pytest.mark.usefixtures("four_devices")
def test_splash_attention_is_refused_where_several_devices_would_look_at_one_image(micro_config: MakeConfig) -> None:
    for mode in ("job", "saliency"):
        with pytest.raises(ValueError, match=r"cannot compute one image on several(?s:.*)model.attention='blocks'"):
            loaded_base.inspect_model(micro_config({"mode": mode, "model.attention": "splash"}))
    for mode, attention in (("train", "splash"), ("predict", "splash"), ("job", "blocks")):
        loaded_base.inspect_model(micro_config({"mode": mode, "model.attention": attention}))


@pytest.mark.usefixtures("four_devices")
def test_answers_that_devices_cannot_share_out_are_refused(micro_config: MakeConfig) -> None:
    odd = {"decode.batch_size": 6}
    for mode in ("predict", "saliency_quality"):
        with pytest.raises(ValueError, match=r"decode.batch_size=6 rows cannot be cut(?s:.*)Give a multiple of it"):
            loaded_base.inspect_model(micro_config(odd | {"mode": mode}))
    # These modes answer nothing.
    loaded_base.inspect_model(micro_config(odd | {"mode": "train"}))
    loaded_base.inspect_model(micro_config(odd | {"mode": "saliency_quality", "quality.answer": "reference"}))


def test_the_base_of_saliency_quality_is_loaded_as_the_training_of_its_control_wants_it(
    micro_config: MakeConfig,
) -> None:
    fields = {"model.param_dtype": "bfloat16", "run_stages": ("stage2",)}
    control = fields | {"mode": "saliency_quality", "quality.shuffled_image_steps": 1}
    shapes = loaded_base.inspect_model(micro_config(control))[1]
    assert shapes == loaded_base.inspect_model(micro_config(fields | {"mode": "train"}))[1]
    assert shapes != loaded_base.inspect_model(micro_config(control | {"quality.shuffled_image_steps": 0}))[1]
    with pytest.raises(FileNotFoundError, match="no_adapter"):  # the measured one is checked as well
        loaded_base.inspect_model(micro_config(control | {"adapter": "no_adapter"}))


@pytest.mark.parametrize("mode", ["job", "ablations"])
def test_exact_counts_that_cannot_be_are_found_before_the_base_answers(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "answer", refuse)
    cells = CellConfig("first", without=("stage2",)), CellConfig("last")
    config = micro_config({"mode": mode, "ablations.cells": tuple(map(dataclasses.asdict, cells))})
    stages = dict(config.stages)
    last = stages["stage2"]
    stages["stage2"] = dataclasses.replace(last, sources=(dataclasses.replace(last.sources[0], count=10**6),))
    with pytest.raises(ValueError, match=r"Exact counts ask for|Every source has an exact count"):
        RUNNERS[mode](dataclasses.replace(config, stages=stages), tmp_path)


def test_a_checkpoint_of_more_pixels_than_an_adapter_may_have_is_refused_before_training(
    micro_config: MakeConfig,
) -> None:
    config = micro_config({"mode": "train"})
    model = dataclasses.replace(config.model, variant=variant_name(get_variant(config.model.variant).at(1274)))
    with pytest.raises(ValueError, match=r"micro\.npz is for images of 1274 pixels, and a stage may train with 1260 a"):
        loaded_base.inspect_model(dataclasses.replace(config, model=model))
