"""Checks that the files of a prepared data set are unchanged, by their sizes and ends."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADS = ("dataset_info.json", "features.json")
END = 4096  # bytes of each end of a file that are hashed: a file of zeros has the right size


def describe_files(builder: Any) -> dict[str, dict[str, Any]]:
    """{name: facts} of the files of a data set that was just prepared, to be kept in its folder."""
    folder = Path(builder.data_dir)
    shards = [Path(path).name for info in builder.info.splits.values() for path in info.filepaths]
    return {name: _facts(folder / name) for name in [*HEADS, *shards]}


def check(folder: Path, recorded: Mapping[str, Mapping[str, Any]], *, way_out: str) -> None:
    """Checks the files of a prepared folder against what `describe_files` recorded of them.

    Raises:
        ValueError: naming the first file that is absent, cut or overwritten, and the way out.
    """
    for name, written in recorded.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is absent, so the prepared data set is incomplete. {way_out}")
        if (size := path.stat().st_size) != written["bytes"]:
            raise ValueError(f"{path} has {size:,} bytes; {written['bytes']:,} were written. {way_out}")
        if _facts(path) != dict(written):
            raise ValueError(f"{path} was overwritten: its first or last bytes are not those of the build. {way_out}")


def check_regular(folder: Path, *, way_out: str) -> None:
    """Raises ValueError if a file that TFDS opens first is a pipe or the like, for which it would wait for ever."""
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
