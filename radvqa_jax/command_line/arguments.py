"""Turns the arguments that a user types into flags: commands, and experiments by name."""

from collections import Counter
from pathlib import Path

from radvqa_jax.command_line.modes import MODES, experiments
from radvqa_jax.trees import nearest

LIST, DOCTOR, DEMO, RUN = "list", "doctor", "demo", "run"
COMMANDS = (*MODES, RUN, DEMO, LIST, DOCTOR)
HELP_FLAGS = frozenset(("--help", "-help", "-h", "--helpshort", "-helpshort"))
FULL_HELP_FLAGS = frozenset(("--helpfull", "-helpfull"))


def command_of(arguments: list[str]) -> str:
    """The command, which is the first argument, with underscores; empty if that is a flag or missing.

    Raises:
        ValueError: if the command is unknown; it suggests the nearest one.
    """
    if not arguments or arguments[0].startswith("-"):
        return ""
    command = arguments[0].replace("-", "_")
    if command not in COMMANDS:
        raise ValueError(
            f"Unknown command {arguments[0]!r}.{nearest(command, COMMANDS)} Known: {', '.join(COMMANDS)}. Give fields "
            "as --config.field=value."
        )
    return command


def check_given_once(arguments: list[str]) -> None:
    """Raises ValueError if a flag is given twice, because only one of its values would be used."""
    names = [argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("-")]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"--{twice[0]} is given {names.count(twice[0])} times. Give it once.")


def to_flags(arguments: list[str]) -> list[str]:
    """The arguments as flags: `train --config demo` as `--config=…/demo.py --config.mode=train`.

    A mode without --config takes the experiment that has its name, if there is one. `demo` writes to runs/demo.

    Raises:
        ValueError: for an unknown command, or an experiment that is neither a file nor a known name; it suggests the
            nearest name.
    """
    command = command_of(arguments)
    rest = arguments[1:] if command else arguments
    if command == DEMO:
        rest = ["--config=demo", "--workdir=runs/demo", *rest]
    elif command in MODES and not _gives(rest, "config"):
        rest = [f"--config={_only_config(command)}", *rest]
    rest = _with_paths(rest)
    if command not in MODES:
        return rest
    if _gives(rest, "config.mode"):
        raise ValueError(f"The command {arguments[0]} sets the mode. Leave --config.mode out, or use `radvqa run`.")
    return [*rest, f"--config.mode={command}"]


def _only_config(mode: str) -> str:
    known = experiments()
    if mode not in known:
        fitting = [name for name, experiment in known.items() if experiment.mode == mode] or list(known)
        raise ValueError(f"{mode} needs an experiment: --config FILE, or one of {', '.join(fitting)}.")
    return mode


def _gives(arguments: list[str], flag: str) -> bool:
    return any(argument.lstrip("-").partition("=")[0] == flag for argument in arguments)


def _with_paths(arguments: list[str]) -> list[str]:
    """The arguments with the value of --config as a path, after a space or `=`."""
    found, values = [], iter(arguments)
    for argument in values:
        name, equals, value = argument.partition("=")
        if name not in ("--config", "-config"):
            found.append(argument)
            continue
        if not equals:
            value = next(values, "")
        if not value or value.startswith("-"):
            raise ValueError("--config has no value. Give a file or a name, such as --config demo.")
        found.append(f"--config={find_config(value)}")
    return found


def find_config(given: str) -> str:
    """The path of an experiment that is given as a file or a name; the text after a colon is kept (`ablations:medm`).

    Raises:
        ValueError: if there is no such experiment; it suggests the nearest name.
    """
    name, colon, argument = given.partition(":")
    known = experiments()
    if Path(name).is_file():
        return given
    if name in known:
        return f"{known[name].path}{colon}{argument}"
    path, own = Path(name), Path(name).stem
    hint = nearest(own, known) if own not in known else f" The package comes with an experiment `--config {own}`."
    others = [str(other) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    raise ValueError(
        f"--config must be a file, such as configs/demo.py, or a known name; got {name!r}, and there is no such file."
        f"{nearest(str(path), others) or hint} Known names: {', '.join(known)}."
    )
