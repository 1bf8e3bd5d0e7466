"""The texts of --help and --helpfull: the modes with their experiments, and every field of the configuration."""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from radvqa_jax.command_line.modes import MODES, experiments
from radvqa_jax.config import Config
from radvqa_jax.config.bounds import describe_bounds, hints

HELP = """Runs one experiment.

    python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo
    radvqa demo                                                       the same, if the package is installed
    radvqa train --config medm_stage1 --workdir runs/s1 --config.model.checkpoint=FILE.npz

A file in configs/ is one experiment; its docstring says what it does and needs. Experiments that come with the package
can be given by name. Set any field with --config.field=value, and nested ones with dots
(--config.stages.stage1.optim.learning_rate=3e-5). If you start a run again with the same --workdir, it continues where
it stopped.

Modes (`radvqa MODE …` sets --config.mode=MODE), and the experiments that use them:
{modes}

Other commands:
  run       runs the experiment's own mode: radvqa run --config FILE --workdir FOLDER
  demo      runs the whole job on synthetic images, in runs/demo
  list      lists configs, variants, datasets, methods or devices
  doctor    shows versions, extras, keys and data sets, and checks that the device computes correctly

Flags:
  --config: the experiment: a Python file, or the name of one that comes with the package
  --workdir: folder for checkpoints, predictions and reports
  --config.field=value: any field of the configuration; --helpfull lists them
  --[no]debug: show the whole traceback of an error
  --verbosity: messages of the libraries: -1 warnings (the default), 0 information, 1 everything
"""


def short_help() -> str:
    """The text of --help."""
    by_mode: dict[str, list[str]] = {}
    for experiment in experiments().values():
        by_mode.setdefault(experiment.mode, []).append(experiment.name)
    lines = [
        f"  {mode:<18}{about}" + (f" [{', '.join(by_mode[mode])}]" if mode in by_mode else "")
        for mode, about in MODES.items()
    ]
    return HELP.format(modes="\n".join(lines))


class Field(NamedTuple):
    """The description of one field of the configuration."""

    name: str
    kind: str
    default: str
    bounds: str
    about: str


class Group(NamedTuple):
    """A dataclass of the configuration: its paths, its description, and those of its fields that are not groups."""

    paths: list[str]
    about: str
    fields: list[Field]


def groups() -> list[Group]:
    """The groups of fields, each once, in the order of the configuration."""
    found: dict[type, list[str]] = {}
    _collect(Config, "", found)
    return [Group(paths, inspect.cleandoc(kind.__doc__ or ""), list(_fields(kind))) for kind, paths in found.items()]


def _collect(kind: Any, path: str, found: dict[type, list[str]]) -> None:
    found.setdefault(kind, []).append(path)
    for name, hint in hints(kind).items():
        inner, place = _group_of(hint), f"{path}.{name}" if path else name
        if inner is not None:
            end = {Mapping: ".NAME", tuple: "[0]"}.get(get_origin(hint), "")
            _collect(inner, place + end, found)


def _group_of(hint: Any) -> Any:
    """The dataclass of a field that is a group, or a tuple or mapping of groups; None for a value."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((arg for arg in get_args(hint) if isinstance(arg, type) and dataclasses.is_dataclass(arg)), None)


def _fields(kind: Any) -> Iterator[Field]:
    about = comments(kind)
    for field in dataclasses.fields(kind):
        hint = hints(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield Field(field.name, type_text(hint), repr(default), describe_bounds(hint), about[field.name])


def type_text(hint: Any) -> str:
    """A type in words.

    >>> type_text(tuple[tuple[str, float], ...])
    'tuple of (str, float)'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(args[0])
    if origin is Literal:
        return " | ".join(map(repr, dict.fromkeys(args)))
    if origin is Mapping:
        return f"{type_text(args[1])} by name"
    if origin is tuple:
        return f"tuple of {type_text(args[0])}" if args[-1] is ... else f"({', '.join(map(type_text, args))})"
    return hint.__name__


@functools.cache
def comments(kind: type) -> dict[str, str]:
    """{field: meaning} from the comments of a dataclass: those directly above a field, then those on its lines."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _comments_in(textwrap.dedent(inspect.getsource(base)))
    return found


def _comments_in(source: str) -> dict[str, str]:
    lines = source.splitlines(keepends=True)
    texts = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(iter(lines).__next__)
        if token.type == tokenize.COMMENT
    }
    alone = {number for number in texts if lines[number - 1].lstrip().startswith("#")}
    tree = ast.parse(source).body[0]
    found = {}
    for node in tree.body if isinstance(tree, ast.ClassDef) else ():
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        own = [texts[n] for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in texts]
        first = node.lineno
        while first - 1 in alone:
            first -= 1
        above = [texts[n] for n in range(first, node.lineno)]
        found[node.target.id] = " ".join([*above, *own])
    return found


def full_help() -> str:
    """The text of --helpfull: the text of --help, and every field with its type, default, bounds and meaning."""
    parts = [short_help(), "Fields (--config.GROUP.FIELD=value):\n"]
    for group in groups():
        parts.append(f"{', '.join(group.paths) or 'at the top'}: {' '.join(group.about.split())}")
        for field in group.fields:
            parts.append(f"  {_line(field)}")
            parts += [f"      {line}" for line in textwrap.wrap(field.about, 110)]
        parts.append("")
    return "\n".join(parts)


def _line(field: Field) -> str:
    bounds = f"; {field.bounds}" if field.bounds else ""
    return f"{field.name}: {field.kind} = {field.default}{bounds}"


def describe_field(path: str) -> str:
    """Type, default and bounds of a field; empty if there is no such field.

    >>> describe_field("stages.stage2.optim.learning_rate")
    'learning_rate: float = 1e-05; must be above 0'
    """
    plain = re.sub(r"^stages\.\w+", "stages.NAME", re.sub(r"\[\d+\]", "[0]", path))
    place, _, name = plain.rpartition(".")
    found = [field for group in groups() if place in group.paths for field in group.fields if field.name == name]
    return _line(found[0]) if found else ""
