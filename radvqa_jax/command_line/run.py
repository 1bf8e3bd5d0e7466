"""Reads flags and configuration, and runs the mode. A user's mistake ends with a line `error: …`."""

import contextlib
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from radvqa_jax.command_line.arguments import (
    DOCTOR,
    FULL_HELP_FLAGS,
    HELP_FLAGS,
    LIST,
    check_given_once,
    command_of,
    to_flags,
)
from radvqa_jax.command_line.config_errors import no_experiment, unknown_stage, without_traceback
from radvqa_jax.command_line.ending import ends_together
from radvqa_jax.command_line.failures import FAILURES, say
from radvqa_jax.command_line.help_text import describe_field, full_help, short_help
from radvqa_jax.command_line.interrupts import interrupts_reach_us
from radvqa_jax.command_line.modes import SHORT
from radvqa_jax.command_line.streams import no_reader, print_anything, visible_streams
from radvqa_jax.trees import nearest
from radvqa_jax.untrusted import visible

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="the experiment: a Python file, or the name of one that comes with the package",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", "", "folder for checkpoints, predictions and reports")
_DEBUG = flags.DEFINE_bool("debug", False, "show the whole traceback of an error")


def start() -> None:
    """Runs the command in sys.argv."""
    arguments = sys.argv[1:]
    print_anything()
    if FULL_HELP_FLAGS & set(arguments):
        _print(full_help())
    elif HELP_FLAGS & set(arguments) or not arguments:
        _print(short_help())
    else:
        try:
            command = command_of(arguments)
            check_given_once(arguments)
            if command == LIST:
                from radvqa_jax.command_line.listing import listing

                return _print(listing(arguments[1:]))
            if command == DOCTOR:
                return _doctor(arguments[1:])
            given = to_flags(arguments)
        except ValueError as error:
            sys.exit(f"error: {error}")
        sys.argv[1:] = given  # the --config flag reads its fields from sys.argv
        app.run(run, flags_parser=parse)


def _print(text: str) -> None:
    """Prints a text, even if its reader stops early (`radvqa --helpfull | head`)."""
    with _printing():
        print(text, flush=True)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Ends the process quietly if nothing reads the output, and with one line if the output cannot be written."""
    try:
        yield
    except BrokenPipeError:
        no_reader()
    except OSError as error:
        print(f"error: the output cannot be written ({error.strerror}). Send it elsewhere.", file=sys.stderr)
        no_reader(1)


def _doctor(rest: list[str]) -> NoReturn:
    if rest:
        raise ValueError(f"doctor takes no arguments; got {' '.join(rest)!r}.")
    from radvqa_jax.command_line.doctor import doctor
    from radvqa_jax.xla_flags import avoid_miscompilation

    avoid_miscompilation()
    with _printing():
        status = doctor()
        sys.stdout.flush()
    sys.exit(status)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags. Returns the arguments that are not flags; exits with one message on a mistake in a flag."""
    from radvqa_jax.config.check import check_field

    fields = [argument.lstrip("-") for argument in argv[1:] if argument.lstrip("-").startswith("config.")]
    try:
        for field in fields:
            check_field(field.partition("=")[0].removeprefix("config."))
        rest = flags.FLAGS(argv)
        config = _CONFIG.value  # raises here if the file cannot be read, and names it
        if config is None and flags.FLAGS["config"].present:
            raise ValueError("the file of --config gives no configuration. Its get_config() must return one.")
        getattr(config, "mode", None)
        return rest
    except (ValueError, flags.Error) as error:
        if "--debug" in argv:
            raise
        message = without_traceback(str(error))
        sys.exit(visible(f"error: {message}{_rule(message, fields)}"))
    except SystemExit as error:
        if error.code:  # absl's own flags end with 1 (--helpxml)
            raise
        sys.exit("error: the file of --config ended the program (sys.exit) instead of giving a configuration.")
    except IndexError as error:
        if indexed := [field for field in fields if "[" in field]:
            sys.exit(f"error: {error} in one of {', '.join(indexed)}. The first item is [0].")
        raise
    except OSError as error:
        sys.exit(
            f"error: --config must be a file that can be read, such as configs/demo.py. {error.__cause__ or error}"
        )
    except Exception as error:  # the experiment's own code
        if "--debug" in argv:
            raise
        if known := unknown_stage(error, fields) or no_experiment(error, argv):
            sys.exit(visible(f"error: {known}"))
        sys.exit(f"error: the file of --config cannot be run: {type(error).__name__}: {error} --debug shows where.")


def _rule(message: str, fields: list[str]) -> str:
    """A sentence with the type, default and bounds of the field that a message names; empty if it names no field."""
    for name in (field.partition("=")[0] for field in fields):
        if f"{name}=" in message and (rule := describe_field(name.removeprefix("config."))):
            return f" The field is {rule}."
    return ""


def _own(workdir: Path, config: Any) -> contextlib.AbstractContextManager[Any]:
    """Locks the workdir for this run. Of several processes, the first one does it for all."""
    from radvqa_jax import locks, processes

    if not processes.group().first:
        return contextlib.nullcontext()
    remedy = "Two runs in one folder would destroy each other's files. Wait for it, end it, or give another --workdir."
    return locks.hold(workdir, doing=f"mode={config.mode}", remedy=remedy)


_LAG = 60.0  # seconds that a network file system may take to show a file of another machine


def _check_shared(workdir: Path) -> None:
    """Waits until this process sees the first process's lock in the workdir.

    Raises:
        ValueError: if it does not: the workdir is not the same folder for all processes.
    """
    from radvqa_jax import locks, processes

    group = processes.group()
    holder = group.from_first(lambda: repr(locks.read_holder(workdir)).encode(), what="the workdir is held").decode()
    until = time.monotonic() + _LAG
    while repr(locks.read_holder(workdir)) != holder:
        if time.monotonic() > until:
            raise ValueError(
                f"--workdir={workdir} must be one folder that all processes see, but {group.name(group.index)} does "
                f"not find the lock of process 0 in it: {holder}. Give a folder on a file system that all machines "
                "share."
            )
        time.sleep(0.5)
    group.gather(what="the workdir is shared")


def _explain(error: BaseException) -> tuple[str, int]:
    """The message of an error that ends several processes, and the exit status."""
    if _DEBUG.value or not isinstance(error, (*FAILURES, KeyboardInterrupt)):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by Ctrl-C. {_kept()}", 128 + signal.SIGINT
    if isinstance(error, Exception) and isinstance(error, FAILURES):
        return visible(_say(error)), 1
    return visible(f"{type(error).__name__}: {error}"), 1


def _kept() -> str:
    if getattr(_CONFIG.value, "mode", "") in SHORT:
        return "Start it again with the same command."
    return f"Finished work is in {_WORKDIR.value}, and the same command continues from there."


def _say(error: Exception) -> str:
    elsewhere = ", or give another --workdir"
    return say(error, debug="--debug shows where.", kept=_kept(), elsewhere=elsewhere, near=_near_files)


def _near_files(message: str) -> str:
    """A sentence that suggests an existing file with a name near that of the missing one in the message."""
    if "Did you mean" in message or _CONFIG.value is None:
        return ""
    for value in _texts(_CONFIG.value):
        path = Path(os.path.expanduser(value))  # expanduser leaves an unknown user as it is
        named = (path.suffix or "/" in value) and value in message
        if named and not os.path.exists(path) and os.path.isdir(path.parent):  # os.path accepts any text
            names = [other.name for other in path.parent.iterdir()]
            if found := nearest(path.name, names):
                return found
    return ""


def _texts(value: Any) -> Iterator[str]:
    """Yields every text of a configuration that could be a path."""
    if isinstance(value, str):
        if value and "\n" not in value and len(value) < 1000:
            yield value
    elif hasattr(value, "items"):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item)


def _read_config() -> tuple[Any, Path]:
    """The checked configuration and the workdir."""
    from radvqa_jax.config import follow_checkpoint
    from radvqa_jax.config.check import from_config_dict, given_fields
    from radvqa_jax.files import make_workdir, share
    from radvqa_jax.loaded_base import follow_adapter
    from radvqa_jax.resolve import WITH_MODEL, resolve_model

    given: Any = _CONFIG.value
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    follow_checkpoint(given, overrides)
    config = from_config_dict(given)
    config = follow_adapter(config, given=given_fields(given, overrides))
    config = resolve_model(config) if config.mode in WITH_MODEL else config
    if config.mode == "fit" and config.experiment:
        from radvqa_jax.command_line.arguments import find_config

        config = dataclasses.replace(config, experiment=find_config(config.experiment))
    workdir = make_workdir(_WORKDIR.value)
    share(config.share_files)
    return config, workdir


# Modes whose results come from the device: they check first that it computes correctly.
COMPUTING = frozenset(("train", "predict", "saliency", "saliency_quality", "ask", "ablations", "job", "reproduce"))


def _run_mode() -> None:
    from radvqa_jax.runtime import start as start_runtime

    config, workdir = _read_config()
    from radvqa_jax import processes
    from radvqa_jax.config.rules import FIRST_ALONE
    from radvqa_jax.runners import RUNNERS
    from radvqa_jax.runtime import check_alike

    # From here on, Ctrl-C raises KeyboardInterrupt: locks are released, and the message says what is kept. A background
    # job of a shell ignores SIGINT, and keeps doing so.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    start_runtime(config)
    group = processes.group()
    with ends_together(group, _explain):
        check_alike(config)
        if config.mode in COMPUTING and not config.only_plans:
            from radvqa_jax.device_check import check_device

            check_device()
        with _own(workdir, config), interrupts_reach_us():
            if group.count > 1:
                _check_shared(workdir)
            if group.first or config.mode not in FIRST_ALONE:
                RUNNERS[config.mode](config, workdir)
            group.gather(what="the end")  # the workdir stays locked until no process writes there any more


def run(argv: list[str]) -> None:
    """Checks the flags and runs the mode of the configuration. Exits with one message on a user's mistake."""
    if len(argv) > 1:
        sys.exit(f"error: Unknown arguments {argv[1:]}. Give fields as --config.field=value.")
    if _CONFIG.value is None:
        sys.exit("error: --config is missing: --config configs/demo.py")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and jax log much that no user needs
        # TFDS warns of each data set that is not prepared, and of each custom builder config.
        logging.get_absl_handler().addFilter(lambda record: "tensorflow_datasets" not in record.pathname)
    try:
        with visible_streams():
            _run_mode()
    except KeyboardInterrupt:
        if _DEBUG.value:
            raise
        print(f"error: stopped by Ctrl-C. {_kept()}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        print(f"error: nothing reads the output any more. {_kept()}", file=sys.stderr)
        no_reader()
    except FAILURES as error:
        if _DEBUG.value:
            raise
        sys.exit(f"error: {visible(_say(error))}")
