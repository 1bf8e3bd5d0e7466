"""The table of a folder: CSV, TSV, JSON Lines, JSON or Parquet, and the images that it names or holds."""

import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa

from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.columns import split_name
from tfds_builders.table.parquet_files import UNREADABLE, Embedded, damaged, open_parquet, read_parquet

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
DELIMITERS = ",;\t"
MOST_COLUMNS = 1000  # each becomes a feature of the prepared data set
MOST_HEAD = 200_000  # characters
NAMES = "The first line names the columns."
# Files that lie beside a table and are none: a download's description, the index of a Parquet data set.
NOT_TABLES = re.compile(r"(dataset_infos?|state|package(-lock)?|croissant|_common_metadata|_metadata)\.(json|parquet)")


class TableRow(NamedTuple):
    """One row as it stands in a file."""

    number: int  # from 1, over all files of the table
    split: str  # of the file, by its name or folder; empty if that says none
    cells: dict[str, Any]
    fault: str = ""  # why it cannot be read


class Table(NamedTuple):
    """The files of one table in the order in which they are read, and their columns."""

    names: list[str]
    head: list[str]


def find_table(files: OfficialFiles, *, named: str = "") -> Table:
    """Returns the table of a folder.

    There is one file; or one a split, called train, validation (or val, dev) and test; or Parquet shards
    (`train-00000-of-00002.parquet`, or in folders called so). `named` chooses one by the end of its path.

    Raises:
        ValueError: if there is none, or more than one that could be meant.
    """
    everything = files.paths()
    tables = [name for name in everything if name.casefold().endswith(KINDS) and not NOT_TABLES.fullmatch(_base(name))]
    if named:
        tables = [name for name in tables if name == named or name.endswith(f"/{named}")]
        if not tables:
            raise ValueError(f"data.table={named!r}: {files.what} has no such file. It has: {_some(everything)}.")
    if not tables:
        raise ValueError(f"{files.what} holds no table ({', '.join(KINDS)}). It has: {_some(everything)}.")
    if len(tables) > 1 and not all(file_split(name) for name in tables):
        raise ValueError(
            f"{files.what} holds several tables, and their names do not say train, validation or test: "
            f"{_some(tables)}. Name the one that is meant: --config.data.table=FILE."
        )
    kinds = {PurePosixPath(name).suffix.casefold() for name in tables}
    if len(kinds) > 1:
        raise ValueError(f"{files.what} holds tables of several kinds: {_some(tables)}. Name one: data.table=FILE.")
    head: dict[str, None] = {}
    for name in tables:
        head |= dict.fromkeys(_head(files, name))
        if len(head) > MOST_COLUMNS:
            raise ValueError(f"{name}: the table has more than {MOST_COLUMNS:,} columns. Remove what nobody needs.")
    return Table(tables, list(head))


def read_rows(files: OfficialFiles, table: Table) -> Iterator[TableRow]:
    """Yields every row. An image that a Parquet file holds is named by its place; `TableImages` reads it."""
    number = 0
    for name in table.names:
        split = file_split(name) if len(table.names) > 1 else ""
        for cells, fault in _READERS[PurePosixPath(name).suffix.casefold()](files, name):
            number += 1
            yield TableRow(number, split, cells, fault)


def file_split(name: str) -> str:
    """Returns the split that a file's name or its folder says.

    >>> file_split("data/train-00000-of-00002-ab12.parquet"), file_split("validation/0000.parquet"), file_split("a.csv")
    ('train', 'validation', '')
    """
    path = PurePosixPath(name)
    words = [re.split(r"[-._]", path.stem)[0], *reversed(path.parts[:-1])]
    return next((found for word in words if (found := split_name(word))), "")


def _base(name: str) -> str:
    return PurePosixPath(name).name.casefold()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def _head(files: OfficialFiles, name: str) -> list[str]:
    suffix = PurePosixPath(name).suffix.casefold()
    if suffix == ".parquet":
        head = list(open_parquet(files, name).schema_arrow.names)
        if twice := sorted({column for column in head if head.count(column) > 1}):
            raise ValueError(f"{name}: the columns {twice} come twice. Rename one.")
        return head
    if suffix in (".csv", ".tsv"):
        return _csv_head(files.read_text(name), name)[0]
    return list(dict.fromkeys(key for cells, _ in _READERS[suffix](files, name) for key in cells))


def _csv_head(text: str, name: str) -> tuple[list[str], str]:
    """Returns (the names of the columns, the delimiter): the one of , ; and tab that gives the most columns."""
    first = text.split("\n", 1)[0].rstrip("\r")
    if "\r" in first:
        raise ValueError(f"{name} has line ends of old Macs (CR alone). Save it with the usual ones.")
    if len(first) > MOST_HEAD:
        raise ValueError(f"{name}: its first line has {len(first):,} characters, more than {MOST_HEAD:,}. {NAMES}")
    try:
        found = {mark: next(csv.reader([first], delimiter=mark), []) for mark in DELIMITERS}
    except csv.Error as error:
        raise ValueError(f"{name}: its first line cannot be read ({error}). {NAMES}") from error
    mark = "\t" if name.casefold().endswith(".tsv") else max(found, key=lambda one: len(found[one]))
    head = [column.strip() for column in found[mark]]
    if twice := sorted({column for column in head if head.count(column) > 1}):
        raise ValueError(f"{name}: the columns {twice} come twice. Rename one.")
    return head, mark


def _read_csv(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    text = files.read_text(name)
    head, mark = _csv_head(text, name)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    next(table)
    while True:
        try:
            cells = next(table, None)
        except csv.Error as error:
            yield {}, f"line {table.line_num} cannot be read: {error}"
            continue
        if cells is None:
            return
        if cells and len(cells) != len(head):
            yield dict(zip(head, cells, strict=False)), f"{len(cells)} cells instead of {len(head)}"
        elif cells:
            yield dict(zip(head, cells, strict=True)), ""


def _read_json_lines(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    for line in files.read_text(name).split("\n"):
        if line.strip():
            yield _object(line)


def _object(line: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(line, strict=False)
    except (json.JSONDecodeError, RecursionError) as error:
        return {}, f"not JSON: {error}"
    return (value, "") if isinstance(value, dict) else ({}, "not a JSON object")


def _read_json(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        value = files.read_json(name)
    except ValueError:  # JSON Lines are often called .json
        yield from _read_json_lines(files, name)
        return
    if not isinstance(value, list):
        raise ValueError(f"{files.what}: {name} must hold a list of objects, or one object a line.")
    for item in value:
        yield (item, "") if isinstance(item, dict) else ({}, "not a JSON object")


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".parquet": read_parquet,
}


class Converted(NamedTuple):
    """An image of another kind, such as DICOM, as PNG."""

    png: bytes
    notes: list[str]  # the window, and what a person must look at


Convert = Callable[[bytes], Converted | None]  # None: the bytes are an ordinary image


class TableFiles(OfficialFiles):
    """The files of a folder, and beside them the images that its Parquet files hold, each named by its place."""

    def __init__(self, files: OfficialFiles, table: Table, *, convert: Convert | None = None) -> None:
        """Takes over the files of a folder that were found already, and what turns other kinds of images into PNG."""
        vars(self).update(vars(files))
        self._convert = convert
        # A path in a table is meant from the table's own folder; elsewhere the end of the path decides.
        self._folders = list(dict.fromkeys(PurePosixPath(name).parts[:-1] for name in table.names))
        self._group = functools.lru_cache(maxsize=1)(self._read_group)  # rows follow each other

    def __contains__(self, name: str) -> bool:
        return isinstance(name, Embedded) or super().__contains__(name)

    def find(self, cell: Any) -> str:
        """Returns the name to read an image by, for the cell of a row.

        Raises:
            ValueError: saying why there is no image.
        """
        if isinstance(cell, Embedded):
            return cell
        if isinstance(cell, dict):  # the hub's struct in a JSON file
            cell = cell.get("path")
        name = cell.strip().replace("\\", "/") if isinstance(cell, str) else ""
        if not name:
            raise ValueError("image is empty")
        if re.match(r"[a-z]+://", name, re.IGNORECASE):
            raise ValueError("image is an address; get the file first")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ValueError("image leaves the folder with '..'")
        # The end of an absolute path, or of one from elsewhere: as long a one as there is.
        ends = [*(folder + parts for folder in self._folders), *(parts[start:] for start in range(len(parts)))]
        for end in map("/".join, ends):
            if end in self:
                return end
        raise ValueError("image file is absent")

    def read(self, name: str) -> bytes:
        """Returns a file, or an image of a Parquet file, as bytes that the rule for images takes.

        Raises:
            ValueError: if there is none, or it cannot be converted.
        """
        data = self.read_as_it_is(name)
        converted = self.convert(data)
        return data if converted is None else converted.png

    def convert(self, data: bytes) -> Converted | None:
        """Returns an image of another kind as PNG, None for an ordinary one."""
        return self._convert(data) if self._convert else None

    def read_as_it_is(self, name: str) -> bytes:
        """Returns the bytes of a file, or of an image in a Parquet file; raises ValueError if there are none."""
        if not isinstance(name, Embedded):
            return super().read(name)
        file, column, group, row = name.rsplit("#", 3)
        data = self._group(file, column, int(group))[int(row)].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not data:
            raise ValueError("image is empty")
        return data

    def _read_group(self, name: str, column: str, group: int) -> pa.ChunkedArray:
        try:
            return open_parquet(self, name).read_row_group(group, columns=[column]).column(column)
        except UNREADABLE as error:
            raise damaged(self, name, error) from error


def under(folder: Path) -> OfficialFiles:
    """Returns the files of a folder, or of one archive."""
    return OfficialFiles.below(folder) if folder.is_dir() else OfficialFiles([(folder.name, folder)], what=str(folder))
