"""A run that is started again continues bit for bit, from the last step that is whole."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from radvqa_jax.schema import TrainState
from tests.checkpoints.train_state_case import ABSTRACT, DATA, make_state, make_tx, open_folder, save_steps

REPO = Path(__file__).parents[2]


def step_once(state: TrainState) -> TrainState:
    key = jax.random.fold_in(jax.random.key(0), state.step)
    grads = {name: jax.random.normal(key, leaf.shape, leaf.dtype) for name, leaf in state.trainable.items()}
    updates, opt_state = make_tx().update(grads, state.opt_state, state.trainable)
    return TrainState(state.step + 1, optax.apply_updates(state.trainable, updates), opt_state)


@pytest.fixture(scope="module")
def train_step() -> Callable[[TrainState], TrainState]:
    return jax.jit(step_once, donate_argnums=0)


def assert_bit_equal(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_k_steps_restart_and_the_rest_equal_an_uninterrupted_run(
    tmp_path: Path, train_step: Callable[[TrainState], TrainState]
) -> None:
    straight = make_state()
    for _ in range(6):
        straight = train_step(straight)
    state = make_state()
    with open_folder(tmp_path) as checkpointer:
        for step in range(1, 4):
            state = train_step(state)
            checkpointer.save(step, state, DATA)
    with open_folder(tmp_path) as checkpointer:
        restored, data = checkpointer.restore(ABSTRACT)
        assert_bit_equal(restored, state)
        assert data == DATA and int(restored.step) == 3
        assert isinstance(restored, TrainState) and isinstance(restored.opt_state[1], type(state.opt_state[1]))
        for _ in range(3):
            restored = train_step(restored)
    assert_bit_equal(restored, straight)


def test_the_saved_state_may_be_donated_at_once(tmp_path: Path, train_step: Callable[[TrainState], TrainState]) -> None:
    state = train_step(make_state())
    expected = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    with open_folder(tmp_path) as checkpointer:
        checkpointer.save(1, state, DATA)
        for _ in range(20):
            state = train_step(state)
        restored, _ = checkpointer.restore(ABSTRACT)
    assert_bit_equal(restored, expected)


def test_the_newest_steps_are_kept_and_the_interval_holds(tmp_path: Path) -> None:
    with open_folder(tmp_path, keep=2, save_every=10) as checkpointer:
        assert checkpointer.latest_step() is None
        saved = [s for s in range(1, 46) if checkpointer.save(s, make_state()._replace(step=jnp.asarray(s)), DATA)]
        assert saved == [10, 20, 30, 40] and checkpointer.latest_step() == 40
        last = make_state()._replace(step=jnp.asarray(45))
        assert checkpointer.save(45, last, DATA, force=True)
        assert not checkpointer.save(45, last, DATA, force=True)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [40, 45]


def test_another_configuration_is_refused_by_field(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    now = {"seed": 0, "stage2": {"optim": {"learning_rate": 3e-4, "b1": 0.9}, "train": [[".*/lora_.*", "train:lora"]]}}
    with open_folder(tmp_path, fingerprint=now) as checkpointer, pytest.raises(ValueError) as caught:
        checkpointer.restore(ABSTRACT)
    message = str(caught.value)
    assert "stage2.optim.learning_rate: 1e-05 in the checkpoint, now 0.0003" in message
    assert "stage2.optim.b1: 'absent' in the checkpoint, now 0.9" in message
    assert "seed" not in message and "train" not in message.split("another workdir")[0].split("configuration:")[1]
    assert "or another workdir to start a new one" in message


def test_other_leaves_are_listed(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    other = dict(ABSTRACT.trainable)
    other["llm/w/lora_a"] = jax.ShapeDtypeStruct((6, 4), jnp.float32)
    other["img/head/bias"] = jax.ShapeDtypeStruct((6,), jnp.float32)
    with open_folder(tmp_path) as checkpointer, pytest.raises(ValueError, match="holds other leaves") as caught:
        checkpointer.restore(ABSTRACT._replace(trainable=other))
    assert ".trainable['llm/w/lora_a']: 'float32[6, 2]' in the checkpoint, now 'float32[6, 4]'" in str(caught.value)
    assert ".trainable['img/head/bias']: 'absent' in the checkpoint" in str(caught.value)


def test_invalid_settings_and_states_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep=0 and save_every=1 must be at least 1"):
        open_folder(tmp_path, keep=0)
    with pytest.raises(ValueError, match="fingerprint must hold JSON values only"):
        open_folder(tmp_path, fingerprint={"dtype": jnp.float32})
    with open_folder(tmp_path) as checkpointer:
        with pytest.raises(ValueError, match="The state is at step 0 and was to be saved as step 7"):
            checkpointer.save(7, make_state(), DATA)
        with pytest.raises(ValueError, match="data_state must hold JSON values only"):
            checkpointer.save(0, make_state(), {"position": np.arange(3)})
        assert checkpointer.latest_step() is None


def test_only_logs_of_orbax_are_silenced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    absl = logging.getLogger("absl")
    with caplog.at_level(logging.DEBUG, logger="absl"):
        save_steps(tmp_path, 1, 2)
        assert not [record for record in caplog.records if record.name == "absl"]
        for level, path, heard in (
            (logging.WARNING, "/lib/orbax/x.py", False),
            (logging.ERROR, "/lib/orbax/x.py", False),  # it is raised, too: see the next test
            (logging.INFO, "/lib/mine/x.py", True),
        ):
            record = logging.LogRecord("absl", level, path, 1, "hear me", None, None)
            caplog.clear()
            absl.handle(record)
            assert ("hear me" in caplog.text) is heard


ON_TWO_DEVICES = """
import sys
import jax, numpy as np
sys.path.insert(0, sys.argv[2])
import test_train_state as t
mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
def place(leaf):
    spec = jax.sharding.PartitionSpec("fsdp") if leaf.ndim == 2 else jax.sharding.PartitionSpec()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.NamedSharding(mesh, spec))
abstract = jax.tree.map(place, t.ABSTRACT)
with t.open_folder(sys.argv[1]) as checkpointer:
    state, data = checkpointer.restore(abstract)
t.assert_bit_equal(state, t.make_state()._replace(step=np.asarray(5, np.int32)))
assert len(state.trainable["llm/w/lora_a"].addressable_shards) == 2
assert state.trainable["llm/w/lora_a"].addressable_shards[0].data.shape == (3, 2)
print("restored on", jax.device_count())
"""


def test_a_run_continues_on_another_number_of_devices(tmp_path: Path) -> None:
    save_steps(tmp_path, 5)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "restored on 2"
