"""Experiments in files: `configs/medm_stage2.py`, or `configs/medm_stage2.py:roco` with what its get_config() takes."""

import ast
import runpy
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent


def configs_folder() -> Path:
    """The folder of the experiments: within an installed package, next to it in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def load_experiment(given: str, override: tuple[str, ...] = (), *, field: str = "experiment") -> Any:
    """The ConfigDict of an experiment's file, not checked yet.

    Args:
        given: the path of the file; what follows a colon goes to its get_config().
        override: fields that are changed, each as `stages.stage2.accumulate=1`.
        field: what the file is called in errors.

    Raises:
        ValueError: if there is no such file, it is not a configuration, or an override is not of that form.
    """
    name, _, variant = given.partition(":")
    file = Path(name).expanduser()
    if not file.is_file():
        raise ValueError(f"{field}={given} is not a file. Give one of configs/, such as configs/medm_stage2.py.")
    made = runpy.run_path(str(file))
    if "get_config" not in made:
        raise ValueError(f"{field}={given} has no get_config(). Give a file such as configs/medm_stage2.py.")
    try:
        config = made["get_config"](variant) if variant else made["get_config"]()
    except TypeError as error:
        raise ValueError(f"{field}={given}: this experiment takes no argument behind a colon ({error}).") from error
    for entry in override:
        change_field(config, entry)
    return config


def change_field(config: Any, entry: str, *, what: str = "override") -> None:
    """Gives a field of a ConfigDict the value of `field=value`, read as the command line reads it.

    Raises:
        ValueError: if the entry has no `=`, the experiment has no such field, or the value is of another type.
    """
    name, equals, text = entry.partition("=")
    if not equals:
        raise ValueError(f"{what} has {entry!r}; give fields as 'stages.stage2.accumulate=1'.")
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text  # a word without quotes
    try:
        config.update_from_flattened_dict({name: value})
    except KeyError as error:
        stages = ", ".join(config.stages) or "none"
        raise ValueError(f"{what} has {entry}: {error.args[0]} The experiment's stages: {stages}.") from error
    except TypeError as error:
        raise ValueError(f"{what} has {entry}: {error}") from error
