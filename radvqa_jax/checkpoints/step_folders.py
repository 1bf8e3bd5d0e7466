"""The folders of a run's steps: which are whole, and what is done with the others."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax

from radvqa_jax.checkpoints.step_record import parse_record

STATE, RUN = "state", "run"  # the two items of a step: arrays, and JSON
# A step without one of these is incomplete. The first is orbax's own record of the commit.
PARTS = ("_CHECKPOINT_METADATA", f"{STATE}/manifest.ocdbt", f"{RUN}/metadata")
SET_ASIDE = ".incomplete"
# What orbax and tensorstore raise for missing and broken files, and for records of another shape.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)
log = logging.getLogger(__name__)


def check_folder_can_be_made(folder: Path) -> None:
    """Raises OSError if no folder of a step can be made: orbax's threads would wait for it for minutes."""
    if jax.process_index() == 0:
        tried = folder / ".tried"
        tried.mkdir(exist_ok=True)
        tried.rmdir()


def steps_in(folder: Path) -> list[Path]:
    """The folders of steps, in their order."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        (step for step in found if step.name.isascii() and step.name.isdecimal()), key=lambda step: int(step.name)
    )


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """The fingerprint of the newest complete step in a folder of checkpoints; {} if none can be read."""
    whole = [step for step in steps_in(folder) if is_whole(step)]
    try:
        return dict(parse_record(json.loads((whole[-1] / PARTS[2]).read_text()), where=PARTS[2]).fingerprint)
    except DAMAGE:
        return {}  # `restore` reports the fault


def has_step(folder: Path) -> bool:
    """Whether a folder of checkpoints has a complete step, whether or not it can be read."""
    return any(is_whole(step) for step in steps_in(folder))


def is_whole(step: Path) -> bool:
    """Whether a step has all its parts."""
    return all((step / part).exists() for part in PARTS)


def set_incomplete_aside(folder: Path) -> None:
    """Renames newest steps that are not whole, so that the last good one is found; a copy that was cut short has such.

    An older one is what remains of a step that was being removed when the process was killed. It is removed.
    """
    steps = steps_in(folder)
    newest = max((int(step.name) for step in steps if is_whole(step)), default=-1)
    for step in steps:
        if is_whole(step):
            continue
        if int(step.name) < newest:
            shutil.rmtree(step, ignore_errors=True)
            continue
        aside = step.with_name(step.name + SET_ASIDE)
        number = 1
        while aside.exists():
            number += 1
            aside = step.with_name(f"{step.name}{SET_ASIDE}{number}")
        step.rename(aside)
        log.warning("%s is not whole; it was renamed to %s, and the step before it counts.", step, aside.name)
