"""Scalars of a stage as a run of Weights & Biases, if `config.wandb.project` asks for it.

Only the numbers that TensorBoard gets are sent, under their names, with project, entity and the run's name. Everything
else that wandb collects by itself (output of the terminal, code and its repository, command line, host, packages,
measurements of the machine) is switched off: the terminal shows training rows, and paths may name patients.
"""

import importlib
import os
import re
import secrets
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax.config import WandbConfig
from radvqa_jax.files import atomic_write

KEY, MODE = "WANDB_API_KEY", "WANDB_MODE"
FOLDER, ID = "wandb", "wandb_id.txt"  # in the folder of a stage
_OFF = ("offline", "disabled", "dryrun")  # modes of wandb that send nothing
# All of these win over wandb's own environment variables.
SETTINGS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "-",
    "save_code": False,
    "quiet": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def _wandb() -> types.ModuleType:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ValueError("wandb.project needs Weights & Biases: pip install 'radvqa_jax[wandb]'.") from error


def check_wandb(config: WandbConfig) -> None:
    """Raises ValueError, with the way out, if scalars must be sent but the package or the key is missing."""
    if not config.project:
        return
    _wandb()
    if os.environ.get(MODE) not in _OFF and not os.environ.get(KEY):
        raise ValueError(
            f"wandb.project={config.project} sends scalars, and there is no key: export {KEY}=…, or {MODE}=offline to "
            "keep them in the workdir."
        )


class WandbRun:
    """A run that takes the scalars of a stage, and continues with the same id when the stage continues."""

    def __init__(self, config: WandbConfig, folder: Path, *, stage: str) -> None:
        """Starts or continues the run.

        Args:
            config: project, entity and name.
            folder: of the stage; it keeps the run's id and wandb's own files.
            stage: its name.

        Raises:
            ValueError: if the package is missing, or the service does not accept the run.
        """
        wandb = _wandb()
        path = folder / ID
        if not path.is_file():
            with atomic_write(path) as file:
                file.write(secrets.token_hex(8))
        name = f"{config.name}, {stage}" if config.name else stage
        try:
            self._run = wandb.init(
                project=config.project,
                entity=config.entity or None,
                name=name,
                id=_read_id(path),
                dir=str(folder),
                resume="allow",
                settings=wandb.Settings(**SETTINGS),
            )
        except wandb.errors.Error as error:
            raise ValueError(
                f"wandb.project={config.project}: Weights & Biases did not start the run ({error}). Give {MODE}=offline"
                " to keep the scalars in the workdir, or an empty wandb.project."
            ) from error
        # Steps that an interruption lost are computed and sent again, which wandb's own counter would refuse.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        """Sends the scalars of one step, by their tags."""
        self._run.log({"step": step} | {name: float(value) for name, value in scalars.items()})

    def close(self) -> None:
        """Sends the remaining scalars, and ends the run."""
        self._run.finish()


def _read_id(path: Path) -> str:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{16}", text):
        raise ValueError(f"{path} must hold the id of a run, 16 digits; got {text[:40]!r}. Delete it for a new run.")
    return text
