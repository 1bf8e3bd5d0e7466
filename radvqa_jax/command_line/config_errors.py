"""Mistakes in the file of --config, in one line each."""

import re
from pathlib import Path

from radvqa_jax.config.experiment_file import say_mistake

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \w+\n +(.+)')  # file, line, code


def unknown_stage(error: Exception, fields: list[str]) -> str:
    """The message for a KeyError of ml_collections about an unknown stage; empty for any other error."""
    names = [field.split(".")[2].partition("=")[0] for field in fields if field.startswith("config.stages.")]
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    for name in names:
        if said.startswith(repr(name)):
            near = said.partition("\n")[2]
            return (
                f"the experiment has no stage {name!r}.{near and ' '}{near} Add a stage in the config file: "
                "config.stages.NAME = stage(sources=…, total_steps=…)."
            )
    return ""


def no_experiment(error: Exception, argv: list[str]) -> str:
    """The message for a file of --config that is not an experiment, such as JSON; empty for any other error."""
    given = next((value for name, _, value in (argument.partition("=") for argument in argv) if name == "--config"), "")
    file = Path(given.partition(":")[0])
    if not file.is_file():
        return ""
    # ml_collections runs any text as Python, as a module that it calls `config_config`.
    lacks = "module 'config_config' has no attribute 'get_config'" in str(error)
    if not lacks and (file.suffix == ".py" or "get_config" in file.read_text(errors="replace")):
        return ""
    return (
        f"--config={given} has no get_config(). A config is a Python file with this function, such as configs/demo.py."
    )


def without_traceback(message: str) -> str:
    """An error's message without the traceback of an experiment's code, which ml_collections puts into it."""
    flag, traceback, frames = message.partition("Traceback (most recent call last):")
    if not traceback:
        return message
    kind, _, said = message.rstrip().rpartition("\n")[2].partition(": ")
    name = flag.removeprefix("flag --config=").partition(": ")[0].strip()
    if kind == "TypeError" and "get_config()" in said:
        return f"{name}: this experiment takes no argument after a colon, or needs one ({said}). --debug shows where."
    if kind == "ValueError":
        return said
    inside = [found for found in _FRAME.findall(frames) if Path(found[0]).name == Path(name.partition(":")[0]).name]
    if not inside:
        return f"{name}: {kind}: {said} --debug shows where."
    return f"{name}, {say_mistake(kind, said, line=int(inside[-1][1]), code=inside[-1][2])}"
