"""Reads the Parquet files of a table: rows without images, and the place of each row's image."""

import contextlib
import io
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfds_builders.archive_rules import MAX_MEMBER
from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.columns import check_count

ONLY_IMAGE = "Only the column of the image may hold bytes."
LEAST_ROOM, MOST_TIMES = 64 << 20, 100  # bytes of values in memory: at least, and times the size of the file
BATCH = 1024  # rows that are decoded at a time
IMAGES = 16  # rows with images that are decoded at a time
MOST_FOOTER = 32 << 20  # bytes; the footer lists the columns of all groups of rows
_SHORT_FLOATS = {pa.float32(): np.float32, pa.float16(): np.float16}
# The errors of pyarrow for a damaged file, and for values that Python cannot hold, such as a year after 9999.
UNREADABLE = (pa.ArrowException, OSError, OverflowError)


def open_parquet(files: OfficialFiles, name: str) -> pq.ParquetFile:
    """Opens one of the files as a Parquet file.

    Raises:
        ValueError: naming the file, if it is not a Parquet file, or if its footer is too large, or lists too many
            columns (fields of nested ones count) or a name that is not UTF-8.
    """
    try:
        source = files.open(name)
        if (size := _footer_bytes(source)) > MOST_FOOTER:
            raise ValueError(
                f"{files.what}: {name} has a footer of {size:,} bytes, more than {MOST_FOOTER:,}. Write it with fewer "
                "columns or larger groups of rows."
            )
        file = pq.ParquetFile(source)
        check_count(file.metadata.num_columns, name)
        _ = file.schema_arrow.names  # decodes them
        return file
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{files.what}: {name}: the name of a column is not UTF-8 ({error.object!r:.60}). Rename it."
        ) from error
    except UNREADABLE as error:
        raise damaged(files, name, error) from error


def _footer_bytes(source: Path | io.BytesIO) -> int:
    """The size of the footer, which a Parquet file has in its last eight bytes; 0 for any other file."""
    with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as raw:
        raw.seek(-min(8, raw.seek(0, io.SEEK_END)), io.SEEK_END)
        size, mark = raw.read(4), raw.read(4)
    return int.from_bytes(size, "little") if mark == b"PAR1" else 0


def _bytes_of(source: Path | io.BytesIO) -> int:
    return source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes


def damaged(files: OfficialFiles, name: str, error: Exception) -> ValueError:
    """The error for a file that cannot be read."""
    return ValueError(f"{files.what}: {name} is not a Parquet file that can be read: {error}. Get it again.")


class _Room:
    """A limit on the memory for a file's values: a small file can store one long text for many rows."""

    def __init__(self, what: str, size: int) -> None:
        self._what, self._taken, self._most = what, 0, min(MAX_MEMBER, max(LEAST_ROOM, MOST_TIMES * size))

    def take(self, size: int) -> None:
        """Counts values of `size` bytes; raises ValueError, naming the file, if the sum is above the limit."""
        self._taken += size
        if self._taken > self._most:
            raise ValueError(
                f"{self._what} would have more than {self._most:,} bytes of values in memory. A file may have "
                f"{MOST_TIMES} times its own size, and at least {LEAST_ROOM:,}. Leave out columns that are not needed, "
                "or write several files."
            )


def _parquet_rows(
    files: OfficialFiles, name: str, group: int, columns: list[str], room: _Room
) -> Iterator[dict[str, Any]]:
    """Yields the rows of one group without its images, with bytes as text.

    Raises:
        ValueError: if a value cannot be read, or the values take too much memory.
    """
    try:
        file = _open_counted(files, name)
        for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
            room.take(sum(map(_decoded_bytes, batch.columns)))
            cells = [_cells(files, name, *column) for column in zip(columns, batch.columns, strict=True)]
            yield from (dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True))
    except UNREADABLE as error:
        raise damaged(files, name, error) from error


def _open_counted(files: OfficialFiles, name: str) -> pq.ParquetFile:
    """Opens a file for texts as dictionaries, so that the size of repeated ones is counted before they take memory."""
    leaves = open_parquet(files, name).schema
    texts = [leaf.path for leaf in map(leaves.column, range(len(leaves))) if leaf.physical_type == "BYTE_ARRAY"]
    return pq.ParquetFile(files.open(name), read_dictionary=texts)


def _paths(files: OfficialFiles, name: str, group: int, column: str, room: _Room) -> dict[int, str]:
    """The images of one group that are a path without bytes, {number of the row: path}.

    Raises:
        ValueError: if a value cannot be read, or the values take too much memory.
    """
    try:
        file, found = _open_counted(files, name), {}
        for start, batch in zip(
            itertools.count(0, IMAGES), file.iter_batches(IMAGES, row_groups=[group], columns=[column])
        ):
            values = batch.column(column)
            held, paths = (values.flatten()[values.type.get_field_index(part)] for part in ("bytes", "path"))
            room.take(_decoded_bytes(paths))
            for row, path in enumerate(_cells(files, name, column, paths)):
                if path and not held[row].is_valid:
                    found[start + row] = path
        return found
    except UNREADABLE as error:
        raise damaged(files, name, error) from error


def _may_lack_bytes(file: pq.ParquetFile, group: int, column: str) -> bool:
    """Whether a value of {bytes, path} in a group may have a path and no bytes; the footer counts absent values."""
    kind, part = file.schema_arrow.field(column).type, file.metadata.row_group(group)
    if not _holds_files(kind) or kind.get_field_index("path") < 0 or not _is_text(kind.field("path").type):
        return False
    leaves = [leaf for leaf in map(part.column, range(part.num_columns)) if leaf.path_in_schema == f"{column}.bytes"]
    return any(
        not (leaf.statistics and leaf.statistics.has_null_count) or leaf.statistics.null_count for leaf in leaves
    )


def _cells(files: OfficialFiles, name: str, column: str, values: pa.Array) -> list[Any]:
    """The values of a column. Bytes are text: some programs (Spark, Impala) do not mark their texts as such.

    Raises:
        ValueError: naming the column, if text or bytes are not UTF-8.
    """
    try:
        if _has_short_floats(values.type):
            return [_as_written(cell, values.type) for cell in values.to_pylist()]
        cells = values.to_pylist()
        return list(map(_decoded, cells)) if _is_binary(values.type) or pa.types.is_nested(values.type) else cells
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{files.what}: {name}: the column {column!r} holds bytes that are not UTF-8 text ({error.reason}). Write "
            f"it as UTF-8 text, or leave it out. {ONLY_IMAGE}"
        ) from error


def _decoded(value: Any) -> Any:
    """A value with all its bytes decoded as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, dict):
        return {key: _decoded(inner) for key, inner in value.items()}
    return [_decoded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _has_short_floats(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_short_floats(inner.type) for inner in kind)
    return _has_short_floats(kind.value_type) if _is_list(kind) else kind in _SHORT_FLOATS


def _as_written(value: Any, kind: pa.DataType) -> Any:
    """A value with its float32 and float16 as the shortest decimals that give them: 1.2, not 1.2000000476837158."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {inner.name: _as_written(value[inner.name], inner.type) for inner in kind}
    if _is_list(kind):
        return [_as_written(inner, kind.value_type) for inner in value]
    return float(str(_SHORT_FLOATS[kind](value))) if kind in _SHORT_FLOATS else _decoded(value)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are texts or bytes, of any length; a dictionary stores repeated ones only once."""
    values = _values(kind)
    is_any = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(holds(values) for holds in is_any)


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _decoded_bytes(values: pa.Array) -> int:
    """The size of values in bytes; a value of a dictionary counts as often as it occurs."""
    kind = values.type
    if pa.types.is_map(kind):
        return _decoded_bytes(values.keys) + _decoded_bytes(values.items)
    if pa.types.is_struct(kind):
        return sum(map(_decoded_bytes, values.flatten()))
    if _is_list(kind):
        return 8 * len(values) + _decoded_bytes(values.flatten())
    if not pa.types.is_dictionary(kind) or not _is_text(kind):
        return values.nbytes
    lengths = pc.call_function("binary_length", [values.dictionary])
    return int(pc.call_function("sum", [lengths.take(values.indices)]).as_py() or 0)


class Embedded(str):
    """The place of a row's image in a Parquet file: `file#column#group of rows#row in the group`."""

    def __new__(cls, file: str, column: str, group: int, row: int) -> Self:
        place = super().__new__(cls, f"{file}#{column}#{group}#{row}")
        place.file, place.column, place.group, place.row = file, column, group, row  # the names may contain a #
        return place

    file: str
    column: str
    group: int
    row: int


def _is_binary(kind: pa.DataType) -> bool:
    values = _values(kind)
    is_any = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(holds(values) for holds in is_any)


def _holds_files(kind: pa.DataType) -> bool:
    """Whether values are the Hugging Face hub's struct {bytes, path}."""
    return pa.types.is_struct(kind) and any(inner.name == "bytes" and _is_binary(inner.type) for inner in kind)


def read_parquet(
    files: OfficialFiles, name: str, *, images: Collection[str] = ()
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields the cells of each row, and "" for no fault.

    The cell of an image is its place, `Embedded`, or its path if {bytes, path} has no bytes.

    Args:
        files: the folder's files.
        name: of the Parquet file.
        images: columns that may hold files: bytes, or the hub's struct {bytes, path}.

    Raises:
        ValueError: naming file and column, if another column holds files or bytes that are not UTF-8 text.
    """
    file = open_parquet(files, name)
    stored, texts = [], []
    for field in file.schema_arrow:
        if _holds_files(field.type) and field.name not in images:
            raise ValueError(
                f"{files.what}: {name}: the column {field.name!r} holds files ({{bytes, path}}). Leave it out of the "
                f"table. {ONLY_IMAGE}"
            )
        holds = field.name in images and (_is_binary(field.type) or _holds_files(field.type))
        (stored if holds else texts).append(field.name)
    room = _Room(f"{files.what}: {name}", _bytes_of(files.open(name)))
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        # Without images, so that only their places are in memory.
        rows = _parquet_rows(files, name, group, texts, room) if texts else itertools.repeat({}, count)
        paths = {
            column: _paths(files, name, group, column, room) if _may_lack_bytes(file, group, column) else {}
            for column in stored
        }
        for number, cells in enumerate(rows):
            images_of = {c: paths[c].get(number) or Embedded(name, c, group, number) for c in stored}
            yield cells | images_of, ""
