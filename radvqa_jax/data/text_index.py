"""The texts of a prepared split in a separate file, so that counting and filtering do not read images.

A record of ArrayRecord holds a row with its image. Reading the questions of ROCOv2 or PMC-VQA from there reads all
images. The index, a Parquet file in the data set's folder, is made once and has every text, number and truth value.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds

from radvqa_jax.files import atomic_write

VERSION = "1"  # of the file's content; a file of another version is made again
CHUNK = 256  # records read at a time


def stamp(paths: Sequence[Path]) -> str:
    """The facts that change when a split is prepared again: names, sizes and times of its files."""
    return "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)


def read_sidecar(path: Path, *, key: str) -> pa.Table | None:
    """The table from the prepared data's folder, or None if there is none or it was made from other data."""
    hashed = _hash_file(path)
    if not (path.is_file() and hashed.is_file()):
        return None
    content = path.read_bytes()
    if hashed.read_bytes().split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
        return None  # cut, damaged or edited: it is made again
    table = pq.read_table(pa.BufferReader(content))
    return table if (table.schema.metadata or {}).get(b"radvqa_jax") == key.encode() else None


def _hash_file(path: Path) -> Path:
    """The file with the hash of a sidecar, as sha256sum writes it: Parquet has no checksum of its own."""
    return path.with_name(f"{path.name}.sha256")


def write_sidecar(path: Path, table: pa.Table, *, key: str) -> bool:
    """Writes a table to the prepared data's folder; returns False if writing there is not permitted."""
    try:
        content = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({"radvqa_jax": key}), content, compression="zstd")
        held = content.getvalue()
        with atomic_write(path, "wb") as file:
            file.write(held)
        with atomic_write(_hash_file(path), "w", private=False) as file:
            file.write(f"{hashlib.sha256(held).hexdigest()}  {path.name}\n")
    except PermissionError:
        return False
    except OSError as error:
        if error.errno == 30:  # a read-only file system
            return False
        raise
    return True


def _dtype(feature: Any) -> np.dtype:
    return np.dtype(feature.np_dtype)


def _column_types(features: Any) -> dict[str, pa.DataType]:
    """The features that the index holds, with their types; images, arrays and nested features are left out."""
    found: dict[str, pa.DataType] = {}
    for name, kind in features.items():
        inner = kind.feature if isinstance(kind, tfds.features.Sequence) else kind
        if isinstance(inner, tfds.features.Text):
            value = pa.string()
        elif isinstance(inner, tfds.features.Tensor) and inner.shape == () and _dtype(inner).kind in "biuf":
            value = pa.from_numpy_dtype(_dtype(inner))
        else:
            continue
        found[name] = pa.list_(value) if inner is not kind else value
    return found


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.generic):
        return _value(value.item())
    if isinstance(value, np.ndarray):
        return _value(value.item()) if value.ndim == 0 else [_value(item) for item in value.tolist()]
    return [_value(item) for item in value] if isinstance(value, list | tuple) else value


def make_index(records: Any, features: Any) -> pa.Table:
    """The texts and numbers of all records of a split."""
    types = _column_types(features)
    schema = pa.schema(types.items())
    batches = []
    for begin in range(0, len(records), CHUNK):
        # __getitems__ reads many records at once; as Arrow arrays their texts take a fraction of Python's memory.
        rows = records.__getitems__(list(range(begin, min(begin + CHUNK, len(records)))))
        columns = [pa.array([_value(row[name]) for row in rows], kind) for name, kind in types.items()]
        batches.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)


def load_index(records: Any, features: Any, *, folder: Path, split: str, paths: Sequence[Path]) -> pa.Table:
    """The index of a prepared split; makes it on first use, and again when the data changed.

    Args:
        records: rows by number, images not decoded.
        features: of the data set.
        folder: of the prepared data; if it is read-only, the index is made again each time.
        split: its name.
        paths: the split's files.
    """
    key = f"text index {VERSION}\n{stamp(paths)}"
    path = folder / f"text_index-{split}.parquet"
    table = read_sidecar(path, key=key)
    if table is None or table.num_rows != len(records) or table.column_names != list(_column_types(features)):
        table = make_index(records, features)
        if not write_sidecar(path, table, key=key):
            print(f"{path} cannot be written, so the texts of this split are read again each time.", flush=True)
    return table
