"""Experiments in files: `configs/medm_stage2.py`, or `configs/medm_stage2.py:roco` with an argument of get_config()."""

import ast
import re
import runpy
import traceback
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

# The words of ml_collections for a value of another type than the field has.
_CAST = re.compile(r"is of original type <class '([\w.]+)'> and cannot be casted to type <class '([\w.]+)'>")
_PACKAGE = Path(__file__).parent.parent


def configs_folder() -> Path:
    """The folder of the experiments: inside an installed package, next to the package in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def load_experiment(given: str, override: tuple[str, ...] = (), *, field: str = "experiment") -> Any:
    """The ConfigDict of an experiment's file, not checked yet.

    Args:
        given: the path of the file. The text after a colon is the argument of its get_config().
        override: fields to change, each as `stages.stage2.accumulate=1`.
        field: the name of the file in errors.

    Raises:
        ValueError: if the file is missing, not a configuration or has a mistake in its code, or an override is not
            valid.
    """
    name, _, variant = given.partition(":")
    file = Path(name).expanduser()
    if not file.is_file():
        raise ValueError(f"{field}={given} is not a file. Give one of configs/, such as configs/medm_stage2.py.")
    config = _run(file, variant, f"{field}={given}")
    for entry in override:
        change_field(config, entry)
    return config


def _run(file: Path, variant: str, what: str) -> Any:
    """The ConfigDict that get_config() of a file returns. Mistakes in its code are ValueErrors that begin with `what`.

    The code's own ValueErrors, such as that of an unknown argument, and errors about files and imports say enough.
    """
    try:
        made = runpy.run_path(str(file))
        if "get_config" not in made:
            raise ValueError(f"{what} has no get_config(). Give a file such as configs/medm_stage2.py.")
        config = made["get_config"](variant) if variant else made["get_config"]()
    except (ValueError, OSError, ImportError):
        raise
    except SystemExit as error:
        raise ValueError(f"{what} ended the program (sys.exit) instead of giving a configuration.") from error
    except Exception as error:
        raise ValueError(f"{what}: {_describe(error, file)}") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{what} gives no configuration. Its get_config() must return one.")
    return config


def _describe(error: Exception, file: Path) -> str:
    """An error in the code of a file, with its last line there."""
    kind, said = type(error).__name__, str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return say_mistake(kind, error.msg, line=error.lineno or 0, code=error.text or "")
    inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if inside:
        return say_mistake(kind, said, line=inside[-1].lineno or 0, code=inside[-1].line or "")
    if isinstance(error, TypeError):
        return f"this experiment takes no argument after a colon, or needs one ({said})."
    return f"{kind}: {said}"


def say_mistake(kind: str, said: str, *, line: int, code: str) -> str:
    """A mistake in the code of an experiment's file, with its place.

    Args:
        kind: the name of the exception.
        said: its text.
        line: of the file.
        code: of that line.
    """
    if cast := _CAST.search(f"{kind} {said}"):  # the words are several lines, and end in the value's type
        given, wanted = (name.rpartition(".")[2] for name in cast.groups())
        way_out = " Write (…,): a tuple of one item has a comma." if wanted == "tuple" else ""
        return f"line {line}, `{code.strip()}`: the value has the type {given}, and the field {wanted}.{way_out}"
    return f"line {line}, `{code.strip()}`: {kind}: {' '.join(said.split())}"


def change_field(config: Any, entry: str, *, what: str = "override") -> None:
    """Sets a field of a ConfigDict from `field=value`: the value is a Python literal, or else a text without quotes.

    Raises:
        ValueError: if the entry has no `=`, the experiment has no such field, or the value has the wrong type.
    """
    name, equals, text = entry.partition("=")
    if not equals:
        raise ValueError(f"{what} has {entry!r}; give fields as 'stages.stage2.accumulate=1'.")
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    try:
        config.update_from_flattened_dict({name: value})
    except KeyError as error:
        stages = ", ".join(config.stages) or "none"
        raise ValueError(f"{what} has {entry}: {error.args[0]} The experiment's stages: {stages}.") from error
    except TypeError as error:
        raise ValueError(f"{what} has {entry}: {error}") from error
