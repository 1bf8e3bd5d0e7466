"""A stage as a whole: its start, the leaves that it may change, and its adapter."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.config import Config
from radvqa_jax.models.variants import get_variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.base_use import make_use
from radvqa_jax.training.loop import Diverged
from radvqa_jax.training.stage import Base, Trained, assemble, load_trained
from tests.training.stage_case import BASE, CONFIG, HEAD, LORA, OPTIM, STAGE1, STAGE2, WEIGHT, run

from .conftest import Batches, assert_same, crash_at

ADAPTERS = {f"{WEIGHT}/lora_a", f"{WEIGHT}/lora_b"}


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """(folder, what is trained) of stage 1."""
    folder = tmp_path_factory.mktemp("stage1")
    return folder, run("stage1", folder)


@pytest.fixture(scope="module")
def stage2(stage1: tuple[Path, Trained], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """(folder, what is trained) of stage 2 after stage 1."""
    folder = tmp_path_factory.mktemp("stage2")
    return folder, run("stage2", folder, start=stage1[1])


def logits(trained: Trained, config: Config = CONFIG) -> jax.Array:
    model, params = assemble(config, BASE, trained)
    batch = jax.tree.map(jnp.asarray, Batch.fake(2, 8, 8, seed=5))
    return jax.jit(model.apply)(variables(params), batch.image, batch.tokens, batch.mask_ar)


def test_stage1_trains_the_projector_alone(stage1: tuple[Path, Trained]) -> None:
    _, trained = stage1
    assert set(trained.leaves) == HEAD
    assert all(not np.array_equal(trained.leaves[name], BASE.params[name]) for name in HEAD)
    model, leaves = assemble(CONFIG, BASE, trained)
    assert model.lora is None
    assert_same(
        {n: v for n, v in leaves.items() if n not in HEAD}, {n: v for n, v in BASE.params.items() if n not in HEAD}
    )


def test_stage2_trains_adapters_and_leaves_the_projector_of_stage1(
    stage1: tuple[Path, Trained], stage2: tuple[Path, Trained]
) -> None:
    _, trained = stage2
    assert set(trained.leaves) == HEAD | ADAPTERS
    assert_same({name: trained.leaves[name] for name in HEAD}, stage1[1].leaves)
    assert np.abs(trained.leaves[f"{WEIGHT}/lora_b"]).max() > 0
    model, leaves = assemble(CONFIG, BASE, trained)
    assert model.lora is not None and model.lora.scale == 3.0
    frozen = set(BASE.params) - HEAD
    assert_same({name: leaves[name] for name in frozen}, {name: BASE.params[name] for name in frozen})


def test_the_base_itself_is_left_alone(stage2: tuple[Path, Trained]) -> None:
    assert_same(BASE.params, fake_params(get_variant("dummy")))


def test_stage2_starts_equal_to_the_end_of_stage1(
    stage1: tuple[Path, Trained], at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    begun = run("stage2", tmp_path, start=stage1[1])
    assert set(at_step_0["trainable"]) == ADAPTERS
    assert_same({name: at_step_0["frozen"][name] for name in HEAD}, stage1[1].leaves)
    np.testing.assert_array_equal(at_step_0["trainable"][f"{WEIGHT}/lora_b"], 0)
    assert at_step_0["trainable"][f"{WEIGHT}/lora_a"].std() > 0
    np.testing.assert_array_equal(logits(begun), logits(stage1[1]))


def test_a_projector_that_trains_on_starts_where_stage1_ended(
    stage1: tuple[Path, Trained], at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    rules = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    run("stage2", tmp_path, config=CONFIG.with_stages({"stage2": replace(STAGE2, train=rules)}), start=stage1[1])
    assert set(at_step_0["trainable"]) == ADAPTERS | HEAD
    assert_same({name: at_step_0["trainable"][name] for name in HEAD}, stage1[1].leaves)


def test_existing_adapters_continue_to_train(
    stage2: tuple[Path, Trained], at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    folder, trained = stage2
    config = CONFIG.with_stages({"stage2": replace(STAGE2, lora=replace(LORA, dropout=0.5))})
    begun = run("stage2", tmp_path, config=config, start=load_trained(str(folder), BASE, CONFIG))
    assert_same(at_step_0["trainable"], {name: trained.leaves[name] for name in ADAPTERS})
    assert at_step_0["plan"].model.lora.dropout == 0.5  # the stage's own
    np.testing.assert_array_equal(logits(begun), logits(trained))


def test_a_stage_without_adapters_of_its_own_keeps_the_existing_ones(
    stage2: tuple[Path, Trained], at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    begun = run("stage1", tmp_path, start=stage2[1])
    assert set(at_step_0["trainable"]) == HEAD
    assert_same({name: at_step_0["frozen"][name] for name in ADAPTERS}, {n: stage2[1].leaves[n] for n in ADAPTERS})
    assert at_step_0["plan"].model.lora.scale == 3.0
    assert at_step_0["plan"].model.lora.dropout == 0.0
    np.testing.assert_array_equal(logits(begun), logits(stage2[1]))


@pytest.mark.parametrize(
    "changed", [{"rank": 4}, {"alpha": 2.0}, {"rslora": True}, {"targets": ((".*q_einsum/w", "lora"), (".*", "none"))}]
)
def test_adapters_of_another_kind_are_refused(
    changed: dict[str, Any], stage2: tuple[Path, Trained], tmp_path: Path
) -> None:
    config = CONFIG.with_stages({"stage2": replace(STAGE2, lora=replace(LORA, **changed))})
    with pytest.raises(ValueError, match=r"Give the same rank, alpha, rslora and targets"):
        run("stage2", tmp_path, config=config, start=stage2[1])
    assert not list(tmp_path.iterdir())


def test_the_adapter_file_gives_the_same_model(stage2: tuple[Path, Trained]) -> None:
    folder, trained = stage2
    loaded = load_trained(str(folder / "adapter.npz"), BASE, CONFIG)
    assert loaded.lora == trained.lora
    assert_same(loaded.leaves, trained.leaves)
    np.testing.assert_array_equal(logits(loaded), logits(trained))
    assert np.abs(logits(loaded) - logits(Trained.nothing())).max() > 1e-3
    assert loaded.sha256() == trained.sha256()


def test_the_adapter_says_where_it_comes_from(stage2: tuple[Path, Trained]) -> None:
    _, meta = load_adapter(stage2[0])
    assert (meta.stage, meta.step, meta.lora) == ("stage2", 3, LORA)
    assert (meta.base_name, meta.base_sha256) == ("dummy.npz", "a" * 64)
    assert meta.base_use == make_use(CONFIG, BASE.tokenizer_sha256)
    assert (
        meta.caption_prompt == stage2[1].caption_prompt == "Describe the image."
    )  # of stage 1, the last with captions
    assert load_trained(str(stage2[0]), BASE, CONFIG).caption_prompt == meta.caption_prompt


def test_an_adapter_on_a_base_that_is_used_differently_is_refused(stage2: tuple[Path, Trained]) -> None:
    path, other = str(stage2[0]), replace(CONFIG, data=replace(CONFIG.data, prompt="say {question}"))
    with pytest.raises(ValueError, match=r"data.prompt='say \{question\}', and it was trained with 'answer en"):
        load_trained(path, BASE, other)
    assert load_trained(path, BASE, other, training=True).lora == LORA
    assert load_trained(path, BASE, replace(other, adapter_accept=("data.prompt",))).lora == LORA
    with pytest.raises(ValueError, match=r"model.tokenizer has sha256 b{16}…, and it was trained with 0{16}…"):
        load_trained(path, BASE._replace(tokenizer_sha256="b" * 64), CONFIG, training=True)


def test_an_adapter_of_another_base_is_refused(stage2: tuple[Path, Trained]) -> None:
    other = Base(BASE.params, "other.npz", "b" * 64)
    with pytest.raises(ValueError, match=r"stage2 was trained on dummy.npz \(sha256 a{16}…\), and not on other.npz"):
        load_trained(str(stage2[0]), other, CONFIG)


def test_different_trained_states_have_different_hashes(
    stage1: tuple[Path, Trained], stage2: tuple[Path, Trained]
) -> None:
    """The scale of adapters is in no leaf, and changes every answer."""
    trained = stage2[1]
    other_scale = trained._replace(lora=replace(LORA, alpha=1.0))
    other_value = trained._replace(leaves=trained.leaves | {"img/head/bias": trained.leaves["img/head/bias"] + 1})
    hashes = [t.sha256() for t in (Trained.nothing(), stage1[1], trained, other_scale, other_value)]
    assert len(set(hashes)) == len(hashes)
    assert trained._replace(lora=replace(LORA, dropout=0.0)).sha256() == trained.sha256()


def test_leaves_that_do_not_fit_the_model_are_listed(stage2: tuple[Path, Trained]) -> None:
    leaves = stage2[1].leaves
    cases = {
        r"extra \['img/body": leaves | {"img/body": jnp.zeros(3)},
        r"misshaped \['img/head/bias: have \(3,\), want \(16,\)": leaves | {"img/head/bias": jnp.zeros(3)},
        rf"missing \['{WEIGHT}/lora_b": {n: v for n, v in leaves.items() if not n.endswith("lora_b")},
    }
    for message, changed in cases.items():
        with pytest.raises(ValueError, match=rf"do not fit dummy: {message}.*model.resolution"):
            assemble(CONFIG, BASE, Trained(changed, LORA))


def test_a_finished_stage_runs_again_without_a_step(
    stage1: tuple[Path, Trained], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = stage1
    before = (folder / "adapter.npz").read_bytes()
    again = run("stage1", folder, batches=Batches(crash_at(4)))
    assert_same(again.leaves, trained.leaves)
    assert (folder / "adapter.npz").read_bytes() == before
    assert "continues after step 3 of 3" in capsys.readouterr().out


def test_settings_that_do_not_change_the_numbers_may_change(stage1: tuple[Path, Trained]) -> None:
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, checkpoint="moved.npz", tokenizer="moved.model", remat="full", unroll=2),
        data=replace(CONFIG.data, data_dir="elsewhere", workers=3),
        stages={**CONFIG.stages, "stage1": replace(STAGE1, log_every=7, save_every=9, init_from="moved")},
    )
    assert_same(run("stage1", stage1[0], config=config, batches=Batches(crash_at(4))).leaves, stage1[1].leaves)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (replace(CONFIG, seed=5), "seed: 0 in the checkpoint, now 5"),
        (
            CONFIG.with_stages({"stage1": replace(STAGE1, total_steps=4)}),
            "stage.total_steps: 3 in the checkpoint, now 4",
        ),
        (replace(CONFIG, data=replace(CONFIG.data, seq_len=9)), "text.seq_len: 128 in the checkpoint, now 9"),
        (replace(CONFIG, model=replace(CONFIG.model, compute_dtype="bfloat16")), "model.compute_dtype: 'float32' in"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(config: Config, named: str, stage1: tuple[Path, Trained]) -> None:
    folder, _ = stage1
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=named):
        run("stage1", folder, config=config)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_adapter_whose_checkpoints_were_removed_is_taken_by_the_same_run_and_kept_from_others(
    stage1: tuple[Path, Trained], tmp_path: Path
) -> None:
    folder = tmp_path / "stage1"
    shutil.copytree(stage1[0], folder, ignore=shutil.ignore_patterns("checkpoints"))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    faster = replace(STAGE1, optim=replace(OPTIM, learning_rate=0.02))
    with pytest.raises(ValueError, match=r"adapter\.json describes the adapter of another configuration.* move"):
        run("stage1", folder, config=replace(CONFIG, stages=CONFIG.stages | {"stage1": faster}))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    batches = Batches(crash_at(1))
    assert run("stage1", folder, batches=batches).sha256() == stage1[1].sha256()
    assert batches.get_state() == {"batches_drawn": STAGE1.total_steps}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert not (folder / "checkpoints").exists()


def test_a_stage_that_starts_elsewhere_does_not_continue(
    stage1: tuple[Path, Trained], stage2: tuple[Path, Trained]
) -> None:
    moved = stage1[1]._replace(leaves={name: leaf + 1 for name, leaf in stage1[1].leaves.items()})
    with pytest.raises(ValueError, match=r"start: '[0-9a-f]{64}' in the checkpoint"):
        run("stage2", stage2[0], start=moved)


def test_a_stage_that_diverges_leaves_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"stage1: .* not finite at step 2\. No step was saved"):
        run("stage1", tmp_path, batches=Batches(nan_at=2))
    assert not list(tmp_path.glob("adapter.*"))


def test_tables_come_before_the_first_step(
    capsys: pytest.CaptureFixture[str], at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    run("stage2", tmp_path)
    out = capsys.readouterr().out
    assert "adapters: rank 2, scale 3, dropout 0.2" in out
    assert any(line.split()[0] == f"{WEIGHT}/lora_a" and line.endswith("train:lora") for line in out.splitlines())
    assert any(line.split()[0] == "img/head/bias" and line.endswith("freeze") for line in out.splitlines())
