"""Compares the options of a prepared data set with those that the configuration asks for."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from radvqa_jax.config import DataConfig
from tfds_builders import catalogue, origin
from tfds_builders.builder import OfficialFilesBuilder

REBUILD = "--config.data.rebuild=true"


def asked_options(builder: Any, data: DataConfig, made: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that the configuration asks for, as they are written: tuples become lists.

    Of a prepared table, whose options are not known without its files, these are the fields that differ from their
    defaults: a default means the set as it is.
    """
    if isinstance(builder, OfficialFilesBuilder):
        return json.loads(json.dumps(builder.options()))
    return _set_options(data, made) if builder.name == catalogue.TABLE else {}


def other_options(made: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> list[str]:
    """The difference between the options of a prepared data set and those asked for, in words; empty if none."""
    if made is None or made["options"] == made["options"] | asked:
        return []
    return [f"with {_list(made['options'])} and not {_list(asked)}"]


def refusal(builder: Any, made: Mapping[str, Any] | None, wrong: list[str], data: DataConfig) -> str:
    """The message that a data set was prepared from other files or options, with the ways out."""
    given = f"data.manual_dir={data.manual_dir!r} and these options" if data.manual_dir else "these options"
    return (
        f"{builder.data_dir} was already prepared {origin.say(made)}, {'; '.join(wrong)}. To prepare it anew, add "
        f"{REBUILD}; the existing one is kept until the new one is complete. To use it as it is, leave out {given}."
    )


def check_set_options(builder: Any, data: DataConfig, made: Mapping[str, Any] | None) -> None:
    """Raises ValueError if a field of the configuration is not what a data set that is only read was prepared with.

    A field with its default value means the set as it is.
    """
    if wrong := other_options(made, _set_options(data, made)):
        raise ValueError(refusal(builder, made, wrong, data))


def _set_options(data: DataConfig, made: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a prepared set whose fields differ from their defaults."""
    plain, given = dataclasses.asdict(DataConfig()), json.loads(json.dumps(dataclasses.asdict(data)))
    listed = json.loads(json.dumps(plain))
    names = made["options"] if made is not None else ()
    return {name: given[name] for name in names if name in given and given[name] != listed[name]}


def _list(options: Mapping[str, Any]) -> str:
    return ", ".join(f"data.{name}={value}" for name, value in options.items())
