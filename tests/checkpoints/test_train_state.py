"""A run that is started again continues bit for bit, from the last step that is whole."""

import json
import logging
import os
import re
import shutil
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

from radvqa_jax.checkpoints.step_record import checksums, describe_leaves, differing
from radvqa_jax.checkpoints.train_state import CannotSave, Checkpointer
from radvqa_jax.schema import TrainState

REPO = Path(__file__).parents[2]
FINGERPRINT = {"seed": 0, "stage2": {"optim": {"learning_rate": 1e-5}, "train": [(".*/lora_.*", "train:lora")]}}
DATA = {"next_index": 96, "epoch": 1, "rng": [1, 2]}
LABELS = {"img/head/kernel": "train:head", "llm/w/lora_a": "train:lora", "llm/w/lora_b": "train:lora"}


def make_tx() -> optax.GradientTransformation:
    schedule = optax.linear_schedule(0.0, 1e-2, 10)
    groups = {"train:head": optax.adam(schedule), "train:lora": optax.inject_hyperparams(optax.adamw)(schedule)}
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition(groups, LABELS))


def make_state() -> TrainState:
    rng = np.random.default_rng(0)
    shapes = {"img/head/kernel": (4, 6), "llm/w/lora_a": (6, 2), "llm/w/lora_b": (2, 8)}
    trainable = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    trainable["img/head/kernel"] = trainable["img/head/kernel"].astype(jnp.bfloat16)
    return TrainState(jnp.zeros((), jnp.int32), trainable, make_tx().init(trainable))


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


def open_folder(folder: Path, **more: Any) -> Checkpointer:
    return Checkpointer(folder, **({"fingerprint": FINGERPRINT} | more))


def save_steps(folder: Path, *steps: int, **more: Any) -> None:
    with open_folder(folder, **more) as checkpointer:
        for step in steps:
            assert checkpointer.save(step, make_state()._replace(step=jnp.asarray(step, jnp.int32)), DATA, force=True)


ABSTRACT = jax.eval_shape(make_state)


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


def test_a_temporary_folder_of_an_interrupted_save_is_not_a_step(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "2", tmp_path / "3.orbax-checkpoint-tmp-1")
    with open_folder(tmp_path) as checkpointer:
        assert checkpointer.latest_step() == 2
        assert checkpointer.save(3, make_state()._replace(step=jnp.asarray(3)), DATA)
        assert checkpointer.latest_step() == 3


@pytest.mark.parametrize("part", ["_CHECKPOINT_METADATA", "run", "state", "state/manifest.ocdbt"])
def test_an_incomplete_step_does_not_hide_a_complete_one(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_steps(tmp_path, 1, 2)
    for number in ("", "2"):
        lost = tmp_path / "2" / part
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        caplog.clear()
        with caplog.at_level(logging.WARNING), open_folder(tmp_path) as checkpointer:
            restored, _ = checkpointer.restore(ABSTRACT)
            assert checkpointer.latest_step() == int(restored.step) == 1
            assert f"was renamed to 2.incomplete{number}," in caplog.text
            # The name is free again: the run saves the step again, and continues from it.
            assert checkpointer.save(2, restored._replace(step=jnp.asarray(2)), DATA)
            assert checkpointer.latest_step() == 2


@pytest.mark.parametrize("item", ["state", "run"])
def test_a_damaged_step_is_an_error_that_names_the_one_before(tmp_path: Path, item: str) -> None:
    save_steps(tmp_path, 1, 2)
    for path in (tmp_path / "2" / item).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (
        open_folder(tmp_path) as checkpointer,
        pytest.raises(ValueError, match=r"2 cannot be read \(.*move this folder away to continue from step 1"),
    ):
        checkpointer.restore(ABSTRACT)


def _edit_record(step: Path, **changed: Any) -> None:
    path = step / "run" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


RECORDS = {
    "a list": (lambda step: (step / "run" / "metadata").write_text("[]"), r"2 cannot be read \("),
    "null": (lambda step: (step / "run" / "metadata").write_text("null"), r"2 cannot be read \("),
    "no fingerprint": (lambda step: _edit_record(step, fingerprint=[]), r"2 cannot be read \(.*fingerprint"),
    "leaves": (lambda step: _edit_record(step, leaves=["a"]), r"2 cannot be read \(.*leaves"),
    "data": (lambda step: _edit_record(step, data="x"), r"2 cannot be read \(.*data"),
    "metadata of arrays": (lambda step: (step / "state" / "_METADATA").write_text("[]"), r"2 cannot be read \("),
    "another step's arrays": (
        lambda step: (shutil.rmtree(step / "state"), shutil.copytree(step.parent / "1" / "state", step / "state")),
        r"2 cannot be read \(ValueError: it holds the state of step 1",
    ),
    "one bit of each file": (lambda step: flip(step), r"2 cannot be read \("),
}


def flip(step: Path) -> None:
    """Changes a bit of every file of arrays: two may be equal, and only one of them is read."""
    for path in (step / "state").rglob("d/*"):
        held = bytearray(path.read_bytes())
        held[len(held) // 2] ^= 4
        path.write_bytes(held)


@pytest.mark.parametrize("name", RECORDS)
def test_a_step_that_was_changed_is_not_continued(name: str, tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    edit, says = RECORDS[name]
    edit(tmp_path / "2")
    with (
        open_folder(tmp_path) as checkpointer,
        pytest.raises(ValueError, match=rf"{says}(?s:.*)move this folder away to continue from step 1"),
    ):
        checkpointer.restore(ABSTRACT)


def test_every_value_has_a_checksum() -> None:
    state = make_state()
    then = checksums(state)
    assert set(then) == set(describe_leaves(state)) and not differing(then, state)
    head = state.trainable["img/head/kernel"]
    other = head.at[1, 1].set(jnp.nextafter(head[1, 1], head[1, 1] + 1))
    changed = state._replace(trainable=state.trainable | {"img/head/kernel": other})
    assert differing(then, changed) == [".trainable['img/head/kernel']"]


def test_a_step_without_checksums_is_read(tmp_path: Path) -> None:
    """Steps of version 0.1 have no checksums."""
    save_steps(tmp_path, 1)
    path = tmp_path / "1" / "run" / "metadata"
    record = json.loads(path.read_text())
    del record["checksums"]
    path.write_text(json.dumps(record))
    with open_folder(tmp_path) as checkpointer:
        assert int(checkpointer.restore(ABSTRACT)[0].step) == 1


def test_a_step_that_was_renamed_is_not_continued(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    (tmp_path / "2").rename(tmp_path / "9")
    (tmp_path / "\u00b2").mkdir()
    with (
        open_folder(tmp_path) as checkpointer,
        pytest.raises(ValueError, match=r"9 cannot be read \(ValueError: it holds the state of step 2; was it renamed"),
    ):
        checkpointer.restore(ABSTRACT)


def test_an_empty_folder_has_nothing_to_restore(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path / "new") as checkpointer,
        pytest.raises(FileNotFoundError, match=r"holds no checkpoint\. Train first, or give another workdir"),
    ):
        checkpointer.restore(ABSTRACT)


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


FULL = """
import resource, signal, sys, time
import jax.numpy as jnp, numpy as np
from radvqa_jax.checkpoints.step_record import checksums, describe_leaves, differing
from radvqa_jax.checkpoints.train_state import CannotSave, Checkpointer
from radvqa_jax.schema import TrainState

folder, limit = sys.argv[1], int(sys.argv[2])


def state(step, size):
    leaf = jnp.asarray(np.random.default_rng(step).normal(size=size), jnp.float32)
    return TrainState(step=jnp.asarray(step), trainable={"a": leaf}, opt_state=())


with Checkpointer(folder, fingerprint={}) as checkpointer:
    checkpointer.save(1, state(1, 10), {})
    checkpointer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpointer.save(2, state(2, 100_000), {})
        for step in range(3, 1000):  # training goes on until the background has failed, and no longer
            time.sleep(0.05)
            checkpointer.check()
        print("nothing was told")
    except OSError as error:
        print(f"told: {error}")
"""


@pytest.mark.slow
def test_a_step_that_cannot_be_written_is_reported_once_with_the_way_out(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses the write in the same way."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "run"), "20000"],
        env=os.environ | {"PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert re.fullmatch(
        r"told: Step 2 could not be saved in \S+: a file would be larger than the system allows \(ulimit -f\)\. Raise "
        r"the limit, and start the same command again\. Step 1 is whole there; it continues from it\.",
        line,
    )
    assert "Traceback" not in done.stderr and "orbax" not in done.stderr


def test_the_step_that_failed_is_named_and_not_the_one_that_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(tmp_path, 1)
    checkpointer = open_folder(tmp_path)
    checkpointer._saving = 2  # and its background fails

    def refuse() -> None:
        raise ValueError("[Errno 28] No space left on device")

    monkeypatch.setattr(checkpointer._manager, "wait_until_finished", refuse)
    with pytest.raises(CannotSave, match=r"^Step 2 could not be saved .* Step 1 is whole"):
        checkpointer.save(3, make_state()._replace(step=jnp.asarray(3, jnp.int32)), DATA)
    monkeypatch.undo()
    checkpointer.close()


def test_a_file_in_place_of_the_folder_is_reported_before_a_step_is_computed(tmp_path: Path) -> None:
    (tmp_path / "steps").write_text("")
    with pytest.raises(ValueError, match="steps is not a folder, and steps are kept there"):
        open_folder(tmp_path / "steps")


@pytest.mark.parametrize("reason", ["[Errno 28] No space left on device", "[Errno 122] Disk quota exceeded"])
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    save_steps(tmp_path, 1)
    checkpointer = open_folder(tmp_path)

    def refuse() -> None:
        raise ValueError(f'RESOURCE_EXHAUSTED: Error writing "a": {reason} [os_error_code: 28]')

    monkeypatch.setattr(checkpointer._manager, "wait_until_finished", refuse)
    with pytest.raises(CannotSave, match=r"(disk is full|quota is used up)\. Free some of it.*Step 1 is whole"):
        checkpointer.wait()
    monkeypatch.undo()
    checkpointer.close()


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
