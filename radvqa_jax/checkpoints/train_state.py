"""A run's checkpoints, by orbax: trained leaves, the position in the data, and the configuration.

Only trainable leaves, optimizer state and the step are stored, so a checkpoint of a LoRA run is small; frozen weights
come from the base checkpoint. A step is written to a temporary folder and renamed when it is complete.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from radvqa_jax import trees
from radvqa_jax.checkpoints.step_folders import (
    DAMAGE,
    RUN,
    STATE,
    check_folder_can_be_made,
    is_whole,
    set_incomplete_aside,
    steps_in,
)
from radvqa_jax.checkpoints.step_record import FORMAT, StepRecord, checksums, describe_leaves, differing, parse_record
from radvqa_jax.closing import Closing
from radvqa_jax.schema import TrainState

# The system's message when a file cannot grow -> the way out. Libraries pass the message on as text.
FULL = {
    "No space left on device": "the disk is full. Free some of it",
    "Disk quota exceeded": "your quota is used up. Free some of it",
    "File too large": "a file would be larger than the system allows (ulimit -f). Raise the limit",
    "Read-only file system": "the file system became read-only. Have it mounted for writing",
}


class CannotSave(OSError):
    """A step could not be written."""


class Checkpointer(Closing):
    """The checkpoints of one run; a context manager, which waits for the last save when it ends.

    Saving copies the arrays and then writes in the background: the state may be donated at once. An error of the
    background is raised by the next call; `check` may be called after every step, so that no step is trained in vain.

    Args:
        folder: of the steps; made if it is missing.
        fingerprint: the settings that must be equal for a run to continue, as JSON values; nested fields are compared
            one by one.
        keep: the number of steps to keep, the newest ones.
        save_every: steps between saves that are not forced.
        may_differ: fields of the fingerprint that may change when a run continues.

    Attributes:
        changed: after `restore`, a line for each of those fields that did change.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fingerprint: Mapping[str, Any],
        keep: int = 2,
        save_every: int = 1,
        may_differ: Sequence[str] = (),
    ) -> None:
        if keep < 1 or save_every < 1:
            raise ValueError(f"keep={keep} and save_every={save_every} must be at least 1.")
        _quiet_orbax()
        self.folder = Path(folder).expanduser().resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is not a folder, and steps are kept there. Move it away.")
        self._fingerprint = _as_json(dict(fingerprint), "fingerprint")
        self._may_differ, self.changed = tuple(may_differ), list[str]()
        if jax.process_index() == 0:
            set_incomplete_aside(self.folder)
        _wait_for_all("steps that are not whole are out of the way")
        self._save_every, self._saving, self._under_way = save_every, 0, False
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except DAMAGE as error:
            said = f"{type(error).__name__}: {str(error)[:200]}"
            raise ValueError(
                f"The checkpoints in {self.folder} cannot be listed ({said}). If one is damaged, move its folder away; "
                "the run continues from the one before."
            ) from error

    def save(self, step: int, state: TrainState, data_state: Mapping[str, Any], *, force: bool = False) -> bool:
        """Saves, if the step is a multiple of `save_every` or `force` is set; returns whether it did.

        A step that is already saved is not saved again. `data_state` is the iterator's position, as JSON values.
        """
        due = force or step % self._save_every == 0
        if not due or step in self._manager.all_steps():
            return False
        if int(state.step) != step:
            raise ValueError(f"The state is at step {int(state.step)} and was to be saved as step {step}.")
        run = StepRecord(
            FORMAT,
            self._fingerprint,
            _as_json(dict(data_state), "data_state"),
            describe_leaves(state),
            checksums(state),
        )
        items = ocp.args.Composite(**{STATE: ocp.args.StandardSave(state), RUN: ocp.args.JsonSave(run._asdict())})
        self.wait()  # orbax would also wait, but an error that it raised would be reported for this step
        self._saving, self._under_way = step, True
        with self._telling():
            check_folder_can_be_made(self.folder)
            return self._manager.save(step, args=items, force=True)

    def latest_step(self) -> int | None:
        """The newest complete step, or None; waits for a save in progress."""
        self.wait()
        return self._manager.latest_step()

    def restore(self, abstract_state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state, bit for bit, and its position in the data.

        Args:
            abstract_state: shapes (or arrays), such as `jax.eval_shape` gives for the initial state. A leaf's
                `sharding`, if it has one, determines its devices, otherwise it goes to the default device: a run may
            continue on other devices than those on which it began.

        Raises:
            FileNotFoundError: if there is no checkpoint yet.
            ValueError: if the run was started with another configuration (the fields are named), its leaves differ
                (they are listed), or the checkpoint is damaged.
        """
        step = self.latest_step()
        if step is None:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint. Train first, or give another workdir.")
        try:
            read = self._manager.restore(step, args=ocp.args.Composite(**{RUN: ocp.args.JsonRestore()}))[RUN]
            run = parse_record(read, where=f"{RUN}/metadata")
        except DAMAGE as error:
            raise self._damaged(step, error) from error
        self._check_run(step, run, abstract_state)
        targets = jax.tree.map(_with_sharding, abstract_state)
        try:
            items = self._manager.restore(step, args=ocp.args.Composite(**{STATE: ocp.args.StandardRestore(targets)}))
        except DAMAGE as error:
            raise self._damaged(step, error) from error
        state: TrainState = items[STATE]
        if int(state.step) != step:
            raise self._damaged(step, ValueError(f"it holds the state of step {int(state.step)}; was it renamed?"))
        if changed := differing(run.checksums, state):
            said = f"the values of {len(changed)} leaves are not those that were saved, such as {changed[0]}"
            raise self._damaged(step, ValueError(said))
        return state, run.data

    def check(self) -> None:
        """Raises the error of the last save, if it has ended; does not wait.

        Several processes notice it at the next save, where they synchronise.
        """
        if self._under_way and jax.process_count() == 1 and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until everything saved is on the disk; raises the error of a failed save."""
        with self._telling():
            self._manager.wait_until_finished()
        self._under_way = False

    def close(self) -> None:
        """Waits, and ends the background's threads."""
        with self._telling():
            self._manager.close()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns anything that a library raises during a save into one error."""
        try:
            yield
        except CannotSave:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise self._cannot_save(error) from error

    def _cannot_save(self, error: BaseException) -> "CannotSave":
        text = str(error)
        why = next((remedy for said, remedy in FULL.items() if said in text), "")
        whole = [step for step in steps_in(self.folder) if is_whole(step)]
        kept = f"Step {whole[-1].name} is whole there; it continues from it" if whole else "It begins anew"
        return CannotSave(
            f"Step {self._saving} could not be saved in {self.folder}: {why or f'{text[:200]}. Mend that'}, and start "
            f"the same command again. {kept}."
        )

    def _damaged(self, step: int, error: Exception) -> ValueError:
        earlier = max((other for other in self._manager.all_steps() if other < step), default=None)
        instead = "start again" if earlier is None else f"continue from step {earlier}"
        return ValueError(
            f"The checkpoint {self.folder / str(step)} cannot be read ({type(error).__name__}: {str(error)[:200]}). "
            f"If it is damaged, move this folder away to {instead}."
        )

    def _check_run(self, step: int, run: StepRecord, abstract_state: TrainState) -> None:
        where = self.folder / str(step)
        if run.format != FORMAT:
            raise ValueError(
                f"{where} has format {run.format}, and this version of radvqa_jax reads format {FORMAT}. "
                "Continue with the version that wrote it, or use another workdir."
            )
        then, now = dict(run.fingerprint), dict(self._fingerprint)
        for field in self._may_differ:
            parts = {field: then.pop(field, {})}, {field: now.pop(field, {})}
            self.changed += _changes(*parts, joint=".") if parts[0][field] else []
        changed = _changes(then, now, joint=".")
        if changed:
            raise ValueError(
                f"{where} belongs to a run with another configuration:\n  " + "\n  ".join(changed) + "\n"
                "Use the same configuration to continue that run, or another workdir to start a new one."
            )
        differing = _changes(run.leaves, describe_leaves(abstract_state))
        if differing:
            raise ValueError(
                f"{where} holds other leaves than this model and optimizer:\n  " + "\n  ".join(differing) + "\n"
                "Continue with the code and the base checkpoint it was made with, or use another workdir."
            )


def _as_json(value: dict[str, Any], what: str) -> dict[str, Any]:
    """The value as it will be read back (tuples become lists)."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold JSON values only ({error}); got {str(value)[:120]}.") from error


def _changes(then: Mapping[str, Any], now: Mapping[str, Any], *, joint: str = "/") -> list[str]:
    """A line for each field that differs: its name, its value then and now."""
    old, new = trees.flatten(then), trees.flatten(now)
    shown = [(name, old.get(name, "absent"), new.get(name, "absent")) for name in sorted(set(old) | set(new))]
    return [
        f"{name.replace('/', joint)}: {before!r} in the checkpoint, now {after!r}"
        for name, before, after in shown
        if before != after
    ]


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _wait_for_all(what: str) -> None:
    """Waits until every process of the run has arrived."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


class _EchoOfTensorstore(logging.Filter):
    """Drops asyncio's messages about other tasks of the format that failed; the error of one of them was raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (error is not None and "OCDBT" in str(error) and "never retrieved" in record.getMessage())


class _FromOrbax(logging.Filter):
    """Drops orbax's messages about its own work. Its errors are also raised (see Checkpointer)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


def _quiet_orbax() -> None:
    """Keeps orbax's messages out of the log; all of absl's users share one logger, hence a filter."""
    logger = logging.getLogger("absl")
    if any(isinstance(item, _FromOrbax) for item in logger.filters):
        return
    logger.addFilter(_FromOrbax())
    logging.getLogger("asyncio").addFilter(_EchoOfTensorstore())
    usual = sys.unraisablehook

    def without_echoes(unraisable: Any) -> None:
        """Drops messages of the format's threads after a failed read or write, whose error was also raised."""
        if unraisable.object is not None or "Event loop is closed" not in str(unraisable.exc_value):
            usual(unraisable)

    sys.unraisablehook = without_echoes
