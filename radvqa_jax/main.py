"""Runs one experiment.

    python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo
    python -m radvqa_jax.main --config configs/medm_stage1.py --workdir runs/s1 --config.model.checkpoint=FILE.npz

A file in configs/ is one experiment; its docstring says what it does and needs. Every field of radvqa_jax/config.py can
be given on the command line as --config.field=value, nested ones with dots (--config.stage1.optim.learning_rate=3e-5).
A run that is started again with the same --workdir continues where it was.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from radvqa_jax.config import from_config_dict
from radvqa_jax.files import make_workdir
from radvqa_jax.runners import RUNNERS
from radvqa_jax.training.loop import Diverged

_CONFIG = config_flags.DEFINE_config_file("config", help_string="experiment, a Python file of configs/", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", "", "folder for checkpoints, predictions and reports")


def run(argv: list[str]) -> None:
    """Checks the flags and runs the mode of the configuration; a mistake of the user ends with its message alone."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments {argv[1:]}; fields are given as --config.field=value.")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing: --config configs/demo.py")
    try:
        config = from_config_dict(_CONFIG.value)
        workdir = make_workdir(_WORKDIR.value)
        RUNNERS[config.mode](config, workdir)
    except (ValueError, FileNotFoundError, Diverged) as error:
        if flags.FLAGS.debug:
            raise
        sys.exit(f"error: {error}")


flags.DEFINE_bool("debug", False, "show the whole traceback of an error")


if __name__ == "__main__":
    app.run(run)
