"""Runs one experiment.

    python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo
    python -m radvqa_jax.main --config configs/medm_stage1.py --workdir runs/s1 --config.model.checkpoint=FILE.npz

A file in configs/ is one experiment; its docstring says what it does and needs. Every field of radvqa_jax/config/ can
be given on the command line as --config.field=value, nested ones with dots (--config.stage1.optim.learning_rate=3e-5).
A run that is started again with the same --workdir continues where it was.

--config.mode says what is done: build_data prepares a data set, train trains the stages, predict answers questions,
score scores answers, judge has a language model judge them, compare compares two systems' answers, saliency draws
attention maps, saliency_quality measures them against masks, ask answers one question about one image, audit says what
training and evaluation sets share, fit says whether an experiment fits a device, write_questions writes questions from
captions and cases, job goes from data to report, ablations fills a grid of experiments, convert brings a checkpoint
into another format, and export an adapter or a model.
"""

import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from radvqa_jax import locks
from radvqa_jax.config import Config
from radvqa_jax.config.check import check_field, from_config_dict, given_fields
from radvqa_jax.files import make_workdir, share
from radvqa_jax.ground import follow_adapter
from radvqa_jax.resolve import WITH_MODEL, resolve_model
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runtime import is_first, start
from radvqa_jax.training.loop import Diverged

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="experiment, a Python file of configs/", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", "", "folder for checkpoints, predictions and reports")
_DEBUG = flags.DEFINE_bool("debug", False, "show the whole traceback of an error")


def parse(argv: list[str]) -> list[str]:
    """Returns what is left after the flags; a mistake in them ends with its message alone, --help with status 0."""
    if {"--help", "-help", "-h"} & set(argv[1:]):
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    fields = [argument.lstrip("-") for argument in argv[1:] if argument.lstrip("-").startswith("config.")]
    try:
        for field in fields:
            check_field(field.partition("=")[0].removeprefix("config."))
        rest = app.parse_flags_with_usage(argv)
        getattr(_CONFIG.value, "mode", None)  # of a file that cannot be read: raises now, and says which
        return rest
    except ValueError as error:
        sys.exit(f"error: {error}")
    except IndexError as error:
        if indexed := [field for field in fields if "[" in field]:
            sys.exit(f"error: {error} in one of {', '.join(indexed)}; the first item is [0].")
        raise
    except OSError as error:
        sys.exit(
            f"error: --config must be a file that can be read, such as configs/demo.py. {error.__cause__ or error}"
        )


def own(workdir: Path, config: Config) -> contextlib.AbstractContextManager[Any]:
    """Holds the workdir for this run; of several processes that train together, the first one does it for all."""
    if config.process.coordinator and not is_first():
        return contextlib.nullcontext()
    remedy = (
        "Two runs in one folder would destroy each other's files. Wait until it is done, end it, or give another "
        "--workdir."
    )
    return locks.hold(workdir, doing=f"mode={config.mode}", remedy=remedy)


def _kept(workdir: str) -> str:
    return f"What was finished is in {workdir}, and the same command continues from there."


def _say(error: Exception) -> str:
    """Returns what went wrong in one line, or as many as the error itself has."""
    if isinstance(error, RecursionError):
        return f"{error}: a file or a value is nested too deeply to be read. --debug shows where."
    if isinstance(error, MemoryError):
        return f"out of memory ({error}). Give a smaller batch_size, or fewer data.workers. --debug shows where."
    if isinstance(error, ValueError | OSError | Diverged | ImportError):
        return str(error)
    # Of a library: it says what, and seldom what to do.
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:500]} --debug shows where. {_kept(_WORKDIR.value)}"


def run(argv: list[str]) -> None:
    """Checks the flags and runs the mode of the configuration; a mistake of the user ends with its message alone."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments {argv[1:]}; fields are given as --config.field=value.")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing: --config configs/demo.py")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and jax tell much that concerns nobody
    try:
        config = from_config_dict(_CONFIG.value)
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        config = follow_adapter(config, given=given_fields(_CONFIG.value, overrides))
        config = resolve_model(config) if config.mode in WITH_MODEL else config
        workdir = make_workdir(_WORKDIR.value)
        share(config.share_files)
        start(config)
        with own(workdir, config):
            RUNNERS[config.mode](config, workdir)
    except KeyboardInterrupt:
        if _DEBUG.value:
            raise
        print(f"error: stopped by Ctrl-C. {_kept(_WORKDIR.value)}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        if _DEBUG.value:
            raise
        sys.exit(f"error: {_say(error)}")


if __name__ == "__main__":
    app.run(run, flags_parser=parse)
