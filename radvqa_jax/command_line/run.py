"""Reads flags and configuration, and runs the mode. Every mistake ends as `error: …`."""

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
from radvqa_jax.command_line.ending import ends_together
from radvqa_jax.command_line.failures import FAILURES, say
from radvqa_jax.command_line.help_text import describe_field, full_help, short_help
from radvqa_jax.command_line.interrupts import interrupts_reach_us
from radvqa_jax.command_line.streams import no_reader, print_anything, visible_streams
from radvqa_jax.trees import nearest
from radvqa_jax.untrusted import visible

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="experiment: a Python file, or the name of one that comes with the package", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", "", "folder for checkpoints, predictions and reports")
_DEBUG = flags.DEFINE_bool("debug", False, "show the whole traceback of an error")


def start() -> None:
    """Runs what sys.argv says, and exits."""
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
        sys.argv[1:] = given  # where the flag of the configuration looks for fields
        app.run(run, flags_parser=parse)


def _print(text: str) -> None:
    """Prints a text that a reader may cut short (`radvqa --helpfull | head`)."""
    with _printing():
        print(text, flush=True)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Ends quietly where nothing reads what is printed, and with one line where it cannot be written."""
    try:
        yield
    except BrokenPipeError:
        no_reader()
    except OSError as error:
        print(f"error: the output cannot be written ({error.strerror}). Give another place for it.", file=sys.stderr)
        no_reader(1)


def _doctor(rest: list[str]) -> NoReturn:
    if rest:
        raise ValueError(f"doctor takes no arguments; got {' '.join(rest)!r}.")
    from radvqa_jax.command_line.doctor import doctor
    from radvqa_jax.runtime import avoid_miscompilation

    avoid_miscompilation()
    with _printing():
        status = doctor()
        sys.stdout.flush()
    sys.exit(status)


def parse(argv: list[str]) -> list[str]:
    """The arguments after the flags; a mistake in a flag ends with its message alone."""
    from radvqa_jax.config.check import check_field

    fields = [argument.lstrip("-") for argument in argv[1:] if argument.lstrip("-").startswith("config.")]
    try:
        for field in fields:
            check_field(field.partition("=")[0].removeprefix("config."))
        rest = flags.FLAGS(argv)
        config = _CONFIG.value  # of a file that cannot be read: raises now, and says which
        if config is None and flags.FLAGS["config"].present:
            raise ValueError("the file of --config gives no configuration: its get_config() must return one.")
        getattr(config, "mode", None)
        return rest
    except (ValueError, flags.Error) as error:
        if "--debug" in argv:
            raise
        message = _without_traceback(str(error))
        sys.exit(visible(f"error: {message}{_rule(message, fields)}"))
    except IndexError as error:
        if indexed := [field for field in fields if "[" in field]:
            sys.exit(f"error: {error} in one of {', '.join(indexed)}; the first item is [0].")
        raise
    except OSError as error:
        sys.exit(
            f"error: --config must be a file that can be read, such as configs/demo.py. {error.__cause__ or error}"
        )
    except Exception as error:  # the experiment's own code
        if "--debug" in argv:
            raise
        if unknown := _unknown_stage(error, fields):
            sys.exit(f"error: {unknown}")
        sys.exit(f"error: the file of --config cannot be run: {type(error).__name__}: {error} --debug shows where.")


def _unknown_stage(error: Exception, fields: list[str]) -> str:
    """The message for ml_collections' KeyError about a stage that the experiment does not have; else an empty text."""
    names = [field.split(".")[2].partition("=")[0] for field in fields if field.startswith("config.stages.")]
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    for name in names:
        if said.startswith(repr(name)):
            near = said.partition("\n")[2]
            return (
                f"the experiment has no stage {name!r}.{near and ' '}{near} A stage is added in the config file: "
                "config.stages.NAME = stage(sources=…, total_steps=…)."
            )
    return ""


def _without_traceback(message: str) -> str:
    """The last line alone of an error into which ml_collections put the traceback of an experiment's code."""
    flag, traceback, _ = message.partition("Traceback (most recent call last):")
    if not traceback:
        return message
    kind, _, said = message.rstrip().rpartition("\n")[2].partition(": ")
    name = flag.removeprefix("flag --config=").partition(": ")[0].strip()
    if kind == "TypeError" and "get_config()" in said:
        return f"{name}: this experiment takes no argument behind a colon, or needs one ({said}). --debug shows where."
    return said if kind == "ValueError" else f"{name}: {kind}: {said} --debug shows where."


def _rule(message: str, fields: list[str]) -> str:
    """The allowed values of the field that a message names, as a sentence; empty if it names no field."""
    for name in (field.partition("=")[0] for field in fields):
        if f"{name}=" in message and (rule := describe_field(name.removeprefix("config."))):
            return f" The field is {rule}."
    return ""


def _own(workdir: Path, config: Any) -> contextlib.AbstractContextManager[Any]:
    """Holds the workdir for this run; of several processes the first one does it for all."""
    from radvqa_jax import locks, processes

    if not processes.group().first:
        return contextlib.nullcontext()
    remedy = (
        "Two runs in one folder would destroy each other's files. Wait until it is done, end it, or give another "
        "--workdir."
    )
    return locks.hold(workdir, doing=f"mode={config.mode}", remedy=remedy)


_LAG = 60.0  # seconds that a network file system may take to show a file of another machine


def _check_shared(workdir: Path) -> None:
    """Waits until the first process holds the workdir.

    Raises:
        ValueError: if this process does not see its lock: then the workdir is not one folder for all.
    """
    from radvqa_jax import locks, processes

    group = processes.group()
    holder = group.from_first(lambda: repr(locks.read_holder(workdir)).encode(), what="the workdir is held").decode()
    until = time.monotonic() + _LAG
    while repr(locks.read_holder(workdir)) != holder:
        if time.monotonic() > until:
            raise ValueError(
                f"--workdir={workdir} must be one folder that all processes see, and {group.name(group.index)} does "
                f"not find there the lock of process 0: {holder}. Give a folder on a file system that all machines "
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
    return f"What was finished is in {_WORKDIR.value}, and the same command continues from there."


def _say(error: Exception) -> str:
    elsewhere = ", or give another --workdir"
    return say(error, debug="--debug shows where.", kept=_kept(), elsewhere=elsewhere, near=_near_files)


def _near_files(message: str) -> str:
    """A sentence that proposes a file with a name near that of a missing one in the message."""
    if "Did you mean" in message or _CONFIG.value is None:
        return ""
    for value in _texts(_CONFIG.value):
        path = Path(os.path.expanduser(value))  # which leaves an unknown user as it is
        named = (path.suffix or "/" in value) and value in message
        if named and not os.path.exists(path) and os.path.isdir(path.parent):  # these take any text
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


# Modes that compute on the device what somebody will believe.
COMPUTING = frozenset(("train", "predict", "saliency", "saliency_quality", "ask", "ablations", "job", "reproduce"))


def _run_mode() -> None:
    from radvqa_jax.runtime import start as start_runtime

    config, workdir = _read_config()
    from radvqa_jax import processes
    from radvqa_jax.config.rules import FIRST_ALONE
    from radvqa_jax.runners import RUNNERS
    from radvqa_jax.runtime import check_alike

    if callable(signal.getsignal(signal.SIGINT)):  # from here on what is held is let go of, and what is kept is said
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
            group.gather(what="the end")  # the workdir is held until nobody writes there any more


def run(argv: list[str]) -> None:
    """Checks the flags and runs the mode of the configuration; a mistake of the user ends with its message alone."""
    if len(argv) > 1:
        sys.exit(f"error: Unknown arguments {argv[1:]}; fields are given as --config.field=value.")
    if _CONFIG.value is None:
        sys.exit("error: --config is missing: --config configs/demo.py")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and jax tell much that concerns nobody
        # TFDS warns of each data set that is not prepared, and of each configuration that is not its own.
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
