"""Turns a ConfigDict into the frozen configuration. Refuses unknown fields and wrong types."""

import dataclasses
import functools
import os
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import ml_collections

from radvqa_jax.config import Config, default_config
from radvqa_jax.config.bounds import check_bounds
from radvqa_jax.config.rules import check
from radvqa_jax.trees import flatten, nearest

T = TypeVar("T")
_hints = functools.cache(typing.get_type_hints)  # {field: type}, without bounds
_GROUPS = (ml_collections.ConfigDict, dict, types.MappingProxyType)


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def _convert(value: Any, kind: Any, path: str) -> Any:
    """`value` as the annotated type, or raises ValueError that names the field."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path)
    origin = get_origin(kind)
    if origin is Mapping:
        if not isinstance(value, _GROUPS):
            raise ValueError(_no_names(path))
        return {name: _convert(item, get_args(kind)[1], f"{path}.{name}") for name, item in value.items()}
    if origin is Literal:
        if value not in get_args(kind):
            options = ", ".join(map(repr, get_args(kind)))
            raise ValueError(f"Config field `{path}` must be one of {options}; got {value!r}.{_near(value, kind)}")
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):
            one = f" Write ({value!r},)." if isinstance(value, str) else ""
            raise ValueError(f"Config field `{path}` must be a tuple; got {value!r}.{one}")
        args = get_args(kind)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(item, args[0], f"{path}[{i}]") for i, item in enumerate(value))
        if len(value) != len(args):
            raise ValueError(f"Config field `{path}` must have {len(args)} items; got {value!r}.")
        pairs = zip(value, args, strict=True)
        return tuple(_convert(item, arg, f"{path}[{i}]") for i, (item, arg) in enumerate(pairs))
    is_home = kind is str and isinstance(value, str) and re.match(r"~[^/\s]*(/|$)", value)
    if is_home and os.path.expanduser(value) == value:
        user = value.partition("/")[0]
        raise ValueError(f"Config field `{path}` is {value!r}, but {user} is not a home folder on this machine.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"Config field `{path}` must be {_type_name(kind)}; got {value!r} ({type(value).__name__}).")
    return value


def _near(value: Any, kind: Any) -> str:
    return nearest(value, get_args(kind)) if isinstance(value, str) else ""


def _no_names(path: str) -> str:
    """The error for a plain value where named groups of fields belong."""
    return (
        f"Config field `{path}` must hold one group of fields for each stage, under the stage's name. To choose the "
        "stages that run and their order, give run_stages: --config.run_stages=\"('stage1',)\"."
    )


def _no_group(path: str, value: Any) -> str:
    """The error for a value in the place of a group of fields."""
    return (
        f"Config field `{path}` must be a group of fields; got {value!r} ({type(value).__name__}). Give a dict of its "
        f"fields, or one of them by its whole name: `{path}.NAME`."
    )


def _check_known(key: str, kind: Any, path: str) -> None:
    """Raises ValueError if the dataclass `kind` at `path` has no field `key`."""
    known = _hints(kind)
    if key not in known:
        name = f"{path}.{key}" if path else key
        if kind is Config and re.fullmatch(r"stage\d+", key):
            raise ValueError(f"Unknown config field `{name}`. The fields of this stage are in `stages.{name}`.")
        raise ValueError(f"Unknown config field `{name}`.{nearest(key, known)} Known here: {', '.join(known)}.")


def check_field(path: str) -> None:
    """Raises ValueError if the configuration has no field at `path`, such as `seed` or `stages.x.sources[0].limit`.

    An experiment chooses the names of its stages, so any stage name passes.
    """
    if get_origin(_kind_of(path)) is Mapping:
        raise ValueError(_no_names(path))


def _kind_of(path: str) -> Any:
    """The annotated type of a field; raises ValueError if there is no such field."""
    kind: Any = Config
    walked = ""
    for part in path.split("."):
        key, _, index = part.partition("[")
        if get_origin(kind) is Mapping:
            kind = get_args(kind)[1]
        elif not dataclasses.is_dataclass(kind):
            raise ValueError(f"Config field `{walked}` is a value and has no fields; got `{path}`.")
        else:
            _check_known(key, kind, walked)
            kind = _hints(kind)[key]
        if index and get_origin(kind) is tuple:
            kind = next(iter(get_args(kind)), None)
        walked = f"{walked}.{part}" if walked else part
    return kind


def flat_fields(given: Mapping[Any, Any], *, within: str = "") -> dict[str, Any]:
    """Fields by their dotted names, from dotted names and from groups: `{"decode": {"samples": 2}}`.

    Raises:
        ValueError: for an unknown field (with the nearest known name), a wrong type, or a field that is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise ValueError(f"Names of config fields{f' in `{within}`' * bool(within)} must be texts; got {name!r}.")
        path = f"{within}.{name}" if within else name
        kind = _kind_of(path)
        if dataclasses.is_dataclass(kind) or get_origin(kind) is Mapping:
            if not isinstance(value, Mapping):
                raise ValueError(_no_group(path, value) if dataclasses.is_dataclass(kind) else _no_names(path))
            more = flat_fields(value, within=path)
        else:
            _convert(value, kind, path)
            more = {path: value}
        if twice := sorted(set(found) & set(more)):
            raise ValueError(f"Config field `{twice[0]}` is given twice. Leave one out.")
        found |= more
    return found


def _build(kind: Any, value: Any, path: str) -> Any:
    """The dataclass `kind` from a mapping of its fields."""
    if not isinstance(value, _GROUPS):
        raise ValueError(_no_group(path, value))
    hints = _hints(kind)
    for key in value:
        _check_known(key, kind, path)
    return kind(**{key: _convert(value[key], hints[key], f"{path}.{key}" if path else key) for key in value})


def given_fields(config: ml_collections.ConfigDict, overrides: Collection[str] = ()) -> frozenset[str]:
    """The names of the fields that were set: those that differ from their default, and the overridden ones.

    Args:
        config: the ConfigDict of an experiment's file with the command line's changes.
        overrides: fields that the command line set, such as `data.prompt`, perhaps to their default.
    """
    defaults, now = flatten(default_config().to_dict()), flatten(config.to_dict())
    changed = {name.replace("/", ".") for name, value in now.items() if value != defaults.get(name)}
    return frozenset(changed | set(overrides))


def from_config_dict(config: ml_collections.ConfigDict) -> Config:
    """The checked, frozen configuration.

    Raises:
        ValueError: for an unknown field (with the nearest known name), a wrong type, or a contradiction.
    """
    built = _build(Config, config, "")
    check(built)
    return built


def change_part(part: T, name: str, fields: Mapping[str, Any]) -> T:
    """A copy of one part of the configuration, such as `data`, with these fields changed. Checks each on its own.

    Raises:
        ValueError: for an unknown field (with the nearest known name), a wrong type, or a number outside its bounds.
    """
    hints = _hints(type(part))
    for key in fields:
        _check_known(key, type(part), name)
    new = {key: _convert(value, hints[key], f"{name}.{key}") for key, value in fields.items()}
    changed = dataclasses.replace(part, **new)  # pyright: ignore[reportArgumentType] every part is a dataclass
    check_bounds(changed, name)
    return changed


def change(config: Config, name: str, fields: Mapping[str, Any]) -> Config:
    """A copy of the configuration with these fields of one part changed. Checks it like the configuration of a file.

    Raises:
        ValueError: as `change_part` does, and for a contradiction between fields.
    """
    changed = dataclasses.replace(config, **{name: change_part(getattr(config, name), name, fields)})
    check(changed)
    return changed
