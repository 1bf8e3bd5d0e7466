"""Parquet files of a table: their rows without images, and where the image of each row lies."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfds_builders.archive_rules import MAX_MEMBER
from tfds_builders.official_files import OfficialFiles

# What pyarrow raises for a damaged file and for values that Python has none for, such as a year after 9999.
UNREADABLE = (pa.ArrowException, OSError, OverflowError)


def open_parquet(files: OfficialFiles, name: str) -> pq.ParquetFile:
    """Opens a Parquet file among the files; raises ValueError, naming it, if it is none."""
    try:
        return pq.ParquetFile(files.open(name))
    except UNREADABLE as error:
        raise damaged(files, name, error) from error


def damaged(files: OfficialFiles, name: str, error: Exception) -> ValueError:
    """The error that names a file in which something cannot be read."""
    return ValueError(f"{files.what}: {name} is not a Parquet file that can be read: {error}. Get it again.")


def _parquet_rows(files: OfficialFiles, name: str, group: int, columns: list[str]) -> list[dict[str, Any]]:
    """The rows of one group without its images.

    Raises:
        ValueError: if a value cannot be read, or they have more than MAX_MEMBER bytes: one long text that many rows
            repeat is stored once.
    """
    try:
        schema = open_parquet(files, name).schema_arrow
        once = [column for column in columns if _is_text(schema.field(column).type)]
        table = pq.ParquetFile(files.open(name), read_dictionary=once).read_row_group(group, columns=columns)
        size = sum(_decoded_bytes(chunk) for column in table.columns for chunk in column.chunks)
        if size > MAX_MEMBER:
            raise ValueError(
                f"{files.what}: {name} would have {size:,} bytes of text in one group of rows, more than "
                f"{MAX_MEMBER:,}. Write it with smaller groups of rows, or without what nobody needs."
            )
        return table.to_pylist()
    except UNREADABLE as error:
        raise damaged(files, name, error) from error


def _is_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(values) or pa.types.is_large_string(values)


def _decoded_bytes(chunk: pa.Array) -> int:
    """The bytes of values, those of a dictionary as often as they come."""
    if not pa.types.is_dictionary(chunk.type) or not _is_text(chunk.type):
        return chunk.nbytes
    lengths = pc.call_function("binary_length", [chunk.dictionary])
    return int(pc.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0)


class Embedded(str):
    """Where the image of a row lies in a Parquet file: `file#column#group of rows#row in the group`."""


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold files: bytes, or the hub's struct {bytes, path}."""
    return [
        field.name
        for field in schema
        if _is_binary(field.type)
        or (
            pa.types.is_struct(field.type)
            and any(inner.name == "bytes" and _is_binary(inner.type) for inner in field.type)
        )
    ]


def read_parquet(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    file = open_parquet(files, name)
    images = image_columns(file.schema_arrow)
    texts = [column for column in file.schema_arrow.names if column not in images]
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        # Without images, so that no more than their places is in memory.
        rows = _parquet_rows(files, name, group, texts) if texts else [{}] * count
        for number, cells in enumerate(rows):
            yield cells | {column: Embedded(f"{name}#{column}#{group}#{number}") for column in images}, ""
