"""`model.remat=auto` on this machine: the step that is compiled while choosing is the one that trains."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import runtime
from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import Config, MeshConfig, ModelConfig, StageConfig
from radvqa_jax.models.variants import get_variant
from radvqa_jax.planning import choosing_here
from radvqa_jax.planning.choosing_here import choose_here
from radvqa_jax.training.sharding import make_mesh, with_shardings
from radvqa_jax.training.stage import Base, Trained, run_stage
from radvqa_jax.training.way import describe_devices
from tests.training.conftest import Batches, assert_same

BASE = Base(fake_params(get_variant("dummy")), "dummy.npz", "a" * 64)
CONFIG = Config(
    model=ModelConfig(variant="dummy", compute_dtype="float32", param_dtype="float32"),
    stages={"stage1": StageConfig(batch_size=2, accumulate=2, total_steps=2, log_every=1)},
)
CONFIG = replace(CONFIG, data=replace(CONFIG.data, seq_len=8))


def run(folder: Path, config: Config = CONFIG) -> Trained:
    """Trains the projector of the dummy model for two steps."""
    run = {"base": BASE, "start": Trained.nothing(), "batches": Batches(), "rows_per_epoch": 10, "data": {}}
    return run_stage("stage1", config, folder=folder, choose=partial(choose_here, config), **run)  # pyright: ignore


def test_a_cpu_with_memory_stores_everything_and_the_choice_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jax.config.values, "jax_compilation_cache_dir", None)
    plain = run(tmp_path / "plain", replace(CONFIG, model=replace(CONFIG.model, remat="none")))
    capsys.readouterr()
    monkeypatch.setattr(choosing_here, "_kept_file", lambda *_: tmp_path / "ways" / "one.json")
    first = run(tmp_path / "first")
    said = capsys.readouterr().out
    assert "stage1: model.remat=auto takes none, 2 x 2 examples, 0.00 GiB of" in said
    assert said.count("compiled in") == 1  # while choosing, and not again
    assert_same(first.leaves, plain.leaves)
    run(tmp_path / "second")
    assert "takes none, 2 x 2 examples, as it did before on such devices" in capsys.readouterr().out
    # A machine with hardly any memory: all ways that should take less are tried, and the smallest is taken.
    monkeypatch.setattr(choosing_here, "_room", lambda *_: 1)
    run(tmp_path / "small")
    said = capsys.readouterr().out
    assert "takes blocks (vision tower full), 4 x 1 examples" in said
    assert "nothing fits, and it needs the least" in said


@pytest.mark.parametrize("text", ["{", "[1]", '{"room": "x"}', "ROOM"])
def test_a_stored_choice_that_is_damaged_is_made_again(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "one.json"
    monkeypatch.setattr(choosing_here, "_kept_file", lambda *_: kept)
    whole = {"remat": "full", "remat_img": "full", "batch_size": -2, "accumulate": -2, "room": 10**12}
    kept.write_text(text if text != "ROOM" else json.dumps(whole | describe_devices(None)))
    run(tmp_path / "run")
    assert "stage1: model.remat=auto takes none, 2 x 2 examples, 0.00 GiB of" in capsys.readouterr().out
    assert json.loads(kept.read_text())["remat"] == "none"


def test_a_device_for_which_nothing_compiles_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")

    monkeypatch.setattr(choosing_here, "_kept_file", lambda *_: None)
    monkeypatch.setattr(choosing_here, "step_on", refuse)
    with pytest.raises(ValueError, match=r"stage1: the compiler refuses every way .* Give model\.quantize=nf4"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "config, parts", [(MeshConfig(data=4), 1), (MeshConfig(data=2, fsdp=2), 2), (MeshConfig(fsdp=4), 4)]
)
def test_the_room_counts_the_weights_that_one_device_holds(
    config: MeshConfig, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "free_bytes", lambda _: 1000)
    mesh = make_mesh(config, jax.devices()[:1] * 4)  # nothing is put there
    leaf = jax.ShapeDtypeStruct((2, 2, 64, 64), np.float32)
    frozen = with_shardings(mesh, {"llm/layers/mlp/gating_einsum": leaf}, PALIGEMMA.sharding)
    assert choosing_here._room(mesh, frozen, 0.0) == 1000 + 2**16 // parts


@pytest.mark.parametrize("dtype", [jnp.uint4, jnp.int8, jnp.bfloat16, jnp.float32])
def test_the_room_counts_weights_as_the_compiler_does(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "free_bytes", lambda _: 1000)
    leaf = jnp.zeros((3, 5, 6), dtype)
    needs: Any = jax.jit(lambda x: x.astype(jnp.float32)).lower(leaf).compile().memory_analysis()
    held = needs.argument_size_in_bytes
    assert choosing_here._room(None, {"x": leaf}, 0.0) == 1000 + held
    assert choosing_here.argument_bytes((leaf,), None) == held
