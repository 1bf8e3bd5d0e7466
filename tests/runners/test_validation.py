"""The loss on held-out rows: its value, that it does not change training, and that its settings are checked first."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.checkpoints.step_folders import PARTS
from radvqa_jax.config import MeshConfig, SourceConfig
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.loaded_base import LoadedBase, load_base
from radvqa_jax.runners import validation as validation_module
from radvqa_jax.runners.budget import read_run
from radvqa_jax.runners.train import make_loader, train_mode
from radvqa_jax.runners.validation import Validation
from radvqa_jax.schema import Batch
from radvqa_jax.training.base_leaves import base_shapes
from radvqa_jax.training.sharding import make_mesh
from radvqa_jax.training.stage import Trained, assemble
from radvqa_jax.training.stage_plan import abstract_stage
from radvqa_jax.training.step import StepOptions, loss_and_grads
from tests.runners.shared import MakeConfig, contents

HELD_OUT = {
    "stages.stage1.eval_source.dataset": "phantom_rad",
    "stages.stage1.eval_source.builder_config": "tiny",
    "stages.stage1.eval_source.split": "validation",
}


@pytest.fixture(scope="module")
def loaded(micro_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    config = micro_config(
        HELD_OUT | {"stages.stage1.eval_source.limit": 11, "run_stages": ("stage1",), "stages.stage1.batch_size": 4}
    )
    return load_base(config, tmp_path_factory.mktemp("base"))


def _all_rows(validation: Validation, loaded: LoadedBase) -> Batch:
    """All rows as one batch, as training has them."""
    batches = eval_batches(
        validation.rows,
        data=loaded.config.data,
        tokenizer=loaded.tokenizer,
        resolution=28,
        batch_size=len(validation.rows),
        answers=True,
    )
    return jax.tree.map(jnp.asarray, next(batches)[0])


def test_the_losses_are_those_that_training_would_have_on_the_same_rows(loaded: LoadedBase) -> None:
    validation = Validation(loaded, loaded.config.stages["stage1"])
    model, leaves = assemble(loaded.config, loaded.base, Trained.nothing())
    found = validation(model, leaves)
    assert len(validation.rows) == 11  # the last batch of four is padded, and padding must not count
    batch = _all_rows(validation, loaded)
    for weighting, name in (("per_token", "loss_per_token"), ("per_example", "loss_per_row")):
        options = StepOptions(loss_weighting=weighting)  # pyright: ignore[reportArgumentType]
        head = {name: leaf for name, leaf in leaves.items() if name == "img/head/bias"}
        frozen = {name: leaf for name, leaf in leaves.items() if name not in head}
        want, _ = loss_and_grads(head, frozen, batch, jax.random.key(0), model=model, options=options)
        assert found[f"eval/{name}"] == pytest.approx(float(want), rel=1e-5)
    assert found["eval/loss_per_token"] != pytest.approx(found["eval/loss_per_row"], rel=1e-3)
    assert int(batch.mask_loss.sum()) == validation.tokens.sum()


def test_closed_and_open_questions_have_their_own(loaded: LoadedBase) -> None:
    validation = Validation(loaded, loaded.config.stages["stage1"])
    found = validation(*assemble(loaded.config, loaded.base, Trained.nothing()))
    assert set(validation.groups) == {"", "closed", "open"}
    shares = {kind: validation.tokens[rows].sum() / validation.tokens.sum() for kind, rows in validation.groups.items()}
    parts = [shares[kind] * found[f"eval/{kind}/loss_per_token"] for kind in ("closed", "open")]
    assert sum(parts) == pytest.approx(found["eval/loss_per_token"])


def test_the_rows_do_not_depend_on_the_seed_of_the_run(loaded: LoadedBase) -> None:
    other = loaded._replace(config=dataclasses.replace(loaded.config, seed=5))
    ids = [Validation(g, g.config.stages["stage1"]).rows.column("question_id") for g in (loaded, other)]
    assert ids[0] == ids[1]


def test_a_mesh_gives_the_same_losses(loaded: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    model, leaves = assemble(loaded.config, loaded.base, Trained.nothing())
    alone = Validation(loaded, loaded.config.stages["stage1"]).row_losses(model, leaves)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    monkeypatch.setattr(validation_module, "mesh_of", lambda _: mesh)
    np.testing.assert_allclose(
        Validation(loaded, loaded.config.stages["stage1"]).row_losses(model, leaves), alone, rtol=1e-5
    )


def _losses(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "stage1" / "losses.jsonl").read_text().splitlines()]


def test_the_loss_is_logged_as_configured_and_training_is_unchanged(micro_config: MakeConfig, tmp_path: Path) -> None:
    common = {"mode": "train", "run_stages": ("stage1",), "stages.stage1.total_steps": 5, "stages.stage1.log_every": 10}
    for name, fields in (("without", {}), ("with", HELD_OUT | {"stages.stage1.eval_every": 2})):
        train_mode(micro_config(common | fields), tmp_path / name)
    with_it, without = _losses(tmp_path / "with"), _losses(tmp_path / "without")
    assert [row["step"] for row in with_it] == [1, 2, 4, 5] and [row["step"] for row in without] == [1, 5]
    assert [row["step"] for row in with_it if "eval/loss_per_token" in row] == [2, 4, 5]
    assert not any(name.startswith("eval/") for row in without for name in row)
    assert with_it[-1]["loss"] == without[-1]["loss"]
    leaves = [load_adapter(tmp_path / name / "stage1")[0] for name in ("with", "without")]
    for name, leaf in leaves[0].items():
        np.testing.assert_array_equal(leaf, leaves[1][name], err_msg=name)


def test_a_stage_that_continues_measures_the_same_held_out_rows(micro_config: MakeConfig, tmp_path: Path) -> None:
    common = {"mode": "train", "run_stages": ("stage1",), "stages.stage1.total_steps": 2, "stages.stage1.eval_every": 1}
    stage, other = tmp_path / "stage1", HELD_OUT | {"stages.stage1.eval_source.split": "test"}
    train_mode(micro_config(common | HELD_OUT | {"stages.stage1.eval_source.limit": 8}), tmp_path)
    before = contents(stage, "*.json*")
    refused = (
        r"losses of phantom_rad/tiny:validation, 8 rows, .* stages\.stage1\.eval_source gives phantom_rad/tiny:test"
    )
    with pytest.raises(ValueError, match=refused):
        train_mode(micro_config(common | other), tmp_path)
    assert contents(stage, "*.json*") == before
    train_mode(micro_config(common), tmp_path)  # without an eval_source the losses stay as they are
    assert contents(stage, "*.json*") == before
    record = stage / "checkpoints" / "2" / PARTS[2]
    whole = record.read_bytes()
    record.write_bytes(whole[:-9])  # a step that cannot be read; the step before it may go on
    with pytest.raises(ValueError, match=refused):
        train_mode(micro_config(common | other), tmp_path)
    record.write_bytes(whole)
    (stage / "held_out.json").unlink()  # as a finished run of an earlier version
    with pytest.raises(ValueError, match=refused):
        train_mode(micro_config(common | other), tmp_path)
    (stage / "losses.jsonl").rename(tmp_path / "former.jsonl")
    train_mode(micro_config(common | other), tmp_path)
    assert "tiny:test" in json.loads((stage / "held_out.json").read_text())["validation"]


@pytest.mark.parametrize("overlong", ["reject", "cut"])
def test_held_out_rows_that_are_left_out_or_cut_are_counted(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], overlong: str
) -> None:
    fields = {"mode": "train", "run_stages": ("stage1",), "stages.stage1.total_steps": 1, "data.seq_len": 24}
    train_mode(micro_config(fields | HELD_OUT | {"data.overlong": overlong}), tmp_path)
    kept = json.loads((tmp_path / "stage1" / "held_out.json").read_text())
    said = f"stage1: held out: phantom_rad:validation {45 - sum(kept['rejected'].values())} rows kept, rejected "
    said += f"{kept['rejected']}" + f", {kept['cut']} answers cut" * (overlong == "cut")
    assert said in capsys.readouterr().out and kept["rejected"]["overlong_question"] > 0
    assert (kept["cut"] > 0) == (overlong == "cut")


def test_a_stage_that_begins_anew_may_measure_other_held_out_rows(micro_config: MakeConfig, tmp_path: Path) -> None:
    fields = {"mode": "train", "run_stages": ("stage1",), "stages.stage1.total_steps": 1} | HELD_OUT
    train_mode(micro_config(fields), tmp_path)
    shutil.rmtree(tmp_path / "stage1" / "checkpoints")
    train_mode(micro_config(fields | {"stages.stage1.eval_source.split": "test"}), tmp_path)
    runs = read_run(tmp_path / "stage1", unit="per_token")
    assert all(run.validation.startswith("phantom_rad/tiny:test") for run in runs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "train"}, "is evaluated and shares"),
        ({"split": "nowhere"}, "nowhere"),
        ({"dataset": "phantom_rd"}, "phantom_rad"),
    ],
)
def test_a_mistake_is_found_before_the_first_step(
    micro_config: MakeConfig, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    source = dataclasses.replace(
        SourceConfig(dataset="phantom_rad", builder_config="tiny", split="validation"), **changed
    )  # pyright: ignore[reportArgumentType]
    fields = {
        f"stages.stage2.eval_source.{name}": getattr(source, name) for name in ("dataset", "builder_config", "split")
    }
    with pytest.raises(ValueError, match=message):
        train_mode(micro_config({"mode": "train"} | fields), tmp_path)
    assert not (tmp_path / "stage1").exists()


def test_adapters_of_an_earlier_stage_count_as_trained_where_a_stage_trains_them(
    micro_config: MakeConfig, tmp_path: Path
) -> None:
    attention = r"llm/layers/attn/.*"  # and the adapters of stage 1 there
    fields = {name.replace("stage1", "stage2"): value for name, value in HELD_OUT.items()} | {
        "stages.stage1.lora.rank": 2,
        "stages.stage1.train": ((r".*/lora_[ab]", "train:lora"), (".*", "freeze")),
        "stages.stage2.lora.rank": 0,
        "stages.stage2.train": ((attention, "train:attention"), (".*", "freeze")),
        "stages.stage1.total_steps": 1,
        "stages.stage2.total_steps": 1,
    }
    config = micro_config({"mode": "train"} | fields)
    train_mode(config, tmp_path)
    leaves, _ = load_adapter(tmp_path / "stage2")
    trained = {name: leaf.size for name, leaf in leaves.items() if re.fullmatch(attention, name)}
    assert any(name.endswith("/lora_a") for name in trained)
    budget = json.loads((tmp_path / "stage2" / "budget.json").read_text())
    assert budget["trained_parameters"] == sum(trained.values())
    planned = abstract_stage("stage2", config, base_shapes(config, ("stage2",)))
    assert planned.trainable.keys() == trained.keys()


def test_the_budget_counts_what_was_drawn_without_padding(micro_config: MakeConfig, tmp_path: Path) -> None:
    fields = HELD_OUT | {"run_stages": ("stage1",), "stages.stage1.total_steps": 20, "stages.stage1.eval_every": 8}
    config = micro_config({"mode": "train"} | fields)
    train_mode(config, tmp_path)
    loaded = load_base(config, tmp_path)
    loader = make_loader(loaded, "stage1")  # 160 rows of 142: into the second epoch
    drawn = [next(loader) for _ in range(20)]
    loader.close()
    text = np.cumsum([batch.mask_input.sum() for batch in drawn])
    budget = json.loads((tmp_path / "stage1" / "budget.json").read_text())
    assert budget["text_tokens"] == {"8": text[7], "16": text[15], "20": text[19]}
    assert budget["image_tokens"] == 4 and budget["rows_per_step"] == 8 and budget["rows_per_epoch"] == 142
    leaves, _ = load_adapter(tmp_path / "stage1")
    assert budget["trained_parameters"] == sum(leaf.size for leaf in leaves.values())
    runs = read_run(tmp_path / "stage1", unit="per_token")
    last = [run for run in runs if run.kind == "" and run.epochs > 1]
    assert [run.tokens for run in last] == [20 * 8 * 4 + text[19]] and last[0].epochs == pytest.approx(160 / 142)
    assert {run.kind for run in runs} == {"", "closed", "open"} and len({run.validation for run in runs}) == 3
    with pytest.raises(ValueError, match=r"has no budget\.json: it is not a stage"):
        read_run(tmp_path, unit="per_token")
    for changed, says in (
        ({"rows_per_epoch": 0}, r"budget\.json.*`rows_per_epoch`"),
        ({"trained_parameters": -5}, r"budget\.json.*`trained_parameters`"),
        ({"text_tokens": budget["text_tokens"] | {"16": 0}}, r"budget\.json.*`text_tokens"),
        ({"text_tokens": {"8": 10, "20": 30}}, r"Step 16 of losses\.jsonl, with no text tokens in budget\.json, comes"),
        ({"text_tokens": {"8": 10, "16": 9, "20": 30}}, r"Step 16 .* with 9 text tokens .* after step 8 with 10"),
    ):
        (tmp_path / "stage1" / "budget.json").write_text(json.dumps(budget | changed))
        with pytest.raises(ValueError, match=says):
            read_run(tmp_path / "stage1", unit="per_token")
    (tmp_path / "stage1" / "budget.json").write_text(json.dumps(budget))
    losses = tmp_path / "stage1" / "losses.jsonl"
    losses.write_text(losses.read_text() + losses.read_text())
    with pytest.raises(ValueError, match=r"must rise from line to line\. Step 8 of losses"):
        read_run(tmp_path / "stage1", unit="per_token")
