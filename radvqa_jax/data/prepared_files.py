"""Identifies the content of a prepared data set, and checks that its files are unchanged, by their sizes and ends."""

import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tensorflow_datasets as tfds
from pydantic import Field
from tensorflow_datasets.proto import tf_example_pb2

from radvqa_jax import typed_json

HEADS = ("dataset_info.json", "features.json")
log = logging.getLogger(__name__)
END = 4096  # bytes of each end of a file that are hashed: a file of zeros has the right size


@dataclasses.dataclass(frozen=True)
class PreparedFile:
    """The record of one file: its size, and a hash of its first and last bytes."""

    __pydantic_config__ = typed_json.STRICT
    bytes: Annotated[int, Field(ge=0)]
    ends: str


def describe(builder: Any) -> dict[str, Any]:
    """`prepared_files` and `content` of a newly prepared data set, to be kept in its folder."""
    return {"prepared_files": _describe_files(builder), "content": describe_content(builder)}


def _describe_files(builder: Any) -> dict[str, dict[str, Any]]:
    """{name: facts} of the files."""
    folder = Path(builder.data_dir)
    shards = [Path(path).name for info in builder.info.splits.values() for path in info.filepaths]
    return {name: _facts(folder / name) for name in [*HEADS, *shards]}


def describe_content(builder: Any) -> dict[str, str]:
    """{split: sha256 of its rows in their order}.

    Two builds from the same files have the same rows and other bytes: TFDS writes the fields of a row in any order.
    """
    return {split: _hash_rows(builder, split) for split in builder.info.splits}


def _hash_rows(builder: Any, split: str) -> str:
    digest = hashlib.sha256()
    for record in builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES):
        example = tf_example_pb2.Example.FromString(record)  # pyright: ignore[reportAttributeAccessIssue] made at import
        row = example.SerializeToString(deterministic=True)
        digest.update(len(row).to_bytes(8, "little") + row)
    return digest.hexdigest()


def check(folder: Path, recorded: Mapping[str, Mapping[str, Any]], *, way_out: str) -> None:
    """Checks the files of a prepared folder against what `describe` recorded of them.

    Raises:
        ValueError: naming the first file that is absent, cut or overwritten, and the way out.
    """
    if not recorded:
        _warn_once(f"{folder} has no record of its files, which are used unchecked. {way_out}")
    for name, written in recorded.items():
        path = folder / name
        if not path.exists():
            raise ValueError(f"{path} is absent, so the prepared data set is incomplete. {way_out}")
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file, so the prepared data set is damaged. {way_out}")
        if (size := path.stat().st_size) != written["bytes"]:
            raise ValueError(f"{path} has {size:,} bytes; {written['bytes']:,} were written. {way_out}")
        if _facts(path) != dict(written):
            raise ValueError(f"{path} was overwritten: its first or last bytes are not those of the build. {way_out}")


@functools.cache
def _warn_once(text: str) -> None:
    """Logs a warning that would otherwise recur whenever the data set is opened."""
    log.warning("%s", text)


def check_regular(folder: Path, *, way_out: str) -> None:
    """Raises ValueError if a file that TFDS opens first is a pipe or the like, which would block it forever."""
    for path in (found for head in HEADS for found in folder.glob(f"**/{head}")):
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file, so the prepared data set is damaged. {way_out}")


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(END))
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END))
        digest.update(file.read())
    return {"bytes": size, "ends": digest.hexdigest()[:16]}
