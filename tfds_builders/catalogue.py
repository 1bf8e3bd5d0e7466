"""The known data sets: each folder with a builder is one. No file lists them, and loading one imports no other."""

import importlib
from pathlib import Path
from typing import Any

import tfds_builders

_END = "_dataset_builder"
TABLE = "table"  # the data set of users' own tables


def folders() -> dict[str, Path]:
    """{data set: its folder}, by name: a folder `slake` with `slake_dataset_builder.py` is the data set slake."""
    files = (file for root in tfds_builders.__path__ for file in Path(root).glob(f"*/*{_END}.py"))
    known = {file.parent.name: file.parent for file in files if file.stem == f"{file.parent.name}{_END}"}
    return dict(sorted(known.items()))


def load(dataset: str) -> Any:
    """The class `Builder` of a data set, which is imported now.

    Raises:
        KeyError: if there is no such data set.
    """
    folder = folders()[dataset].name
    return importlib.import_module(f"tfds_builders.{folder}.{folder}{_END}").Builder
