"""Steps of training that are incomplete or damaged, or cannot be saved."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from radvqa_jax.checkpoints.step_record import checksums, describe_leaves, differing
from radvqa_jax.checkpoints.train_state import CannotSave
from tests.checkpoints.train_state_case import ABSTRACT, DATA, make_state, open_folder, save_steps


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


@pytest.mark.parametrize("part", ["_CHECKPOINT_METADATA", "run", "state", "state/manifest.ocdbt"])
def test_the_rest_of_a_step_that_was_being_removed_is_removed(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_steps(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "1", tmp_path / "0")
    lost = tmp_path / "0" / part
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with caplog.at_level(logging.WARNING), open_folder(tmp_path) as checkpointer:
        assert checkpointer.latest_step() == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"] and not caplog.text


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


def test_a_step_without_a_folder_is_reported_before_orbax_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads would keep the process alive for minutes after the error."""
    save_steps(tmp_path, 1)

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with open_folder(tmp_path) as checkpointer, monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        patched.setattr(checkpointer._manager, "save", lambda *args, **kwargs: pytest.fail("orbax was asked"))
        with pytest.raises(CannotSave, match=r"^Step 2 could not be saved .*not permitted.* Step 1 is whole"):
            checkpointer.save(2, make_state()._replace(step=jnp.asarray(2, jnp.int32)), DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


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
