"""The plan of a stage, before weights are loaded; and the way in which it runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import abstract_params
from radvqa_jax.checkpoints.adapter import save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.config import LoraConfig, StageConfig
from radvqa_jax.models.quantize import is_quantized
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training import way
from radvqa_jax.training.base_leaves import keep_leaf, trained_names
from radvqa_jax.training.stage import assemble, load_trained
from radvqa_jax.training.stage_plan import count_steps
from radvqa_jax.training.way import Choose, Chosen, Way
from tests.training.stage_case import BASE, CONFIG, HEAD, LORA, STAGE1, STAGE2, WEIGHT, run

from .conftest import Batches, Crash, assert_same, crash_at


@pytest.mark.parametrize(
    ("fields", "rows", "steps"),
    [
        ({"total_steps": 7}, 1000, 7),
        ({"epochs": 5.0, "batch_size": 6, "accumulate": 16}, 4919, 257),  # ceil(5 x 4919 / 96): MedM's stage 1
        ({"epochs": 0.5, "batch_size": 10, "accumulate": 1}, 100, 5),
        ({"epochs": 1.0, "batch_size": 10, "accumulate": 2}, 3, 1),
    ],
)
def test_epochs_become_steps(fields: dict[str, Any], rows: int, steps: int) -> None:
    assert count_steps(StageConfig(**fields), rows) == steps


def test_the_trained_leaves_of_all_stages_are_known_before_loading() -> None:
    abstract = abstract_params(get_variant("dummy"))
    assert trained_names(CONFIG, ("stage1", "stage2"), abstract) == HEAD
    assert trained_names(CONFIG, ("stage2",), abstract) == set()
    assert trained_names(CONFIG, (), abstract) == set()
    everything = CONFIG.with_stages({"stage1": replace(STAGE1, train=((".*", "train:all"),))})
    assert trained_names(everything, ("stage1",), abstract) == set(abstract)


def test_an_idle_rule_is_found_before_loading() -> None:
    config = CONFIG.with_stages({"stage1": replace(STAGE1, train=((r"img/heads/.*", "train:head"), (".*", "freeze")))})
    with pytest.raises(ValueError, match=r"stages.stage1.train: the rules \['img/heads/\.\*'\] decide about no leaf"):
        trained_names(config, ("stage1",), abstract_params(get_variant("dummy")))


def test_trained_leaves_are_float32_and_the_others_keep_their_dtype(at_step_0: dict[str, Any], tmp_path: Path) -> None:
    half = {n: leaf.astype(jnp.float32 if n in HEAD else jnp.bfloat16) for n, leaf in BASE.params.items()}
    run("stage2", tmp_path, base=BASE._replace(params=half))
    assert {leaf.dtype for leaf in at_step_0["trainable"].values()} == {np.dtype(np.float32)}
    assert {at_step_0["frozen"][n].dtype for n in set(half) - HEAD} == {np.dtype(jnp.bfloat16)}


def test_a_stage_trains_on_the_same_base_whether_or_not_a_later_one_trains_more_of_it(
    at_step_0: dict[str, Any], tmp_path: Path
) -> None:
    model = replace(CONFIG.model, quantize="int8")
    more = replace(STAGE2, lora=LoraConfig(), train=((r"img/.*", "train:tower"), (".*", "freeze")))
    config = replace(CONFIG, model=model).with_stages({"stage2": more})
    frozen = []
    for stages in (("stage1",), ("stage1", "stage2")):
        keep = keep_leaf(config, stages, BASE.params)
        base = BASE._replace(params={name: keep(name, leaf) for name, leaf in BASE.params.items()})
        run("stage1", tmp_path / str(len(stages)), config=config, base=base)
        frozen.append(at_step_0["frozen"])
    assert_same(*frozen)
    run("stage2", tmp_path, config=config, base=base)
    assert not any(is_quantized(leaf) for leaf in at_step_0["trainable"].values())
    assert_same(at_step_0["trainable"], {name: BASE.params[name] for name in BASE.params if name.startswith("img/")})


def test_an_adapter_file_from_elsewhere_is_refused_as_a_start(tmp_path: Path) -> None:
    """Rank and scale come from the adapter's own file, not from the configuration of the run that loads it."""
    leaves = {f"{WEIGHT}/lora_a": np.ones((2, 4, 16, 3)), f"{WEIGHT}/lora_b": np.ones((2, 4, 3, 8))}
    save_adapter(tmp_path, leaves, AdapterMeta("stage2", 1, LORA, BASE.name, BASE.sha256, "c" * 64))
    with pytest.raises(ValueError, match=r"do not fit dummy: misshaped .*lora_a: have \(2, 4, 16, 3\)"):
        assemble(CONFIG, BASE, load_trained(str(tmp_path), BASE, CONFIG))


def taking(taken: Way) -> Choose:
    """A choice that is always the same."""
    return lambda plan, plan_at, trainable, frozen: Chosen(taken)


def test_a_run_continues_as_it_began_and_on_another_device_says_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stage2 = replace(CONFIG.model, remat="auto"), replace(STAGE2, save_every=1)
    config = replace(CONFIG, model=model).with_stages({"stage2": stage2})
    first, other = Way("products", "full", 1, 4), Way("none", "none", 2, 2)
    whole = run("stage2", tmp_path / "whole", config=config, choose=taking(first))
    for name in ("same", "other"):
        with pytest.raises(Crash):
            run("stage2", tmp_path / name, config=config, choose=taking(first), batches=Batches(crash_at(3)))
    capsys.readouterr()
    assert_same(run("stage2", tmp_path / "same", config=config, choose=taking(other)).leaves, whole.leaves)
    said = capsys.readouterr().out
    assert "computes its step as it began: products (vision tower full), 4 x 1 examples" in said
    assert "in the checkpoint, now" not in said
    monkeypatch.setattr(way, "describe_devices", lambda mesh: {"kind": "another", "devices": 1})
    moved = run("stage2", tmp_path / "other", config=config, choose=taking(other)).leaves
    said = capsys.readouterr().out
    assert "stage2: way.batch_size: 1 in the checkpoint, now 2; numbers agree to rounding" in said
    assert "way.kind: 'cpu' in the checkpoint, now 'another'" in said
    for name, leaf in whole.leaves.items():
        np.testing.assert_allclose(moved[name], leaf, rtol=1e-3, atol=1e-5, err_msg=name)


def test_an_invalid_record_of_a_way_is_ignored() -> None:
    good = way.to_record(Way("gate", "full", 2, 3), None)
    assert way.from_record(good, None, rows=6) == Way("gate", "full", 2, 3)
    for bad in ({"remat": "dots"}, {"batch_size": "2"}, {"kind": "another"}, {"devices": 2}, {"accumulate": 4}):
        assert way.from_record(good | bad, None, rows=6) is None
    assert way.from_record(None, None, rows=6) is None
