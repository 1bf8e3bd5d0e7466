"""Finds and reads the table of a folder: CSV, TSV, JSON Lines, JSON or Parquet."""

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tfds_builders.csv_quotes import csv_rows
from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.columns import check_count, check_head, split_name
from tfds_builders.table.parquet_files import open_parquet, read_parquet
from tfds_builders.table.shards import check_whole

PARQUET = ".parquet"
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", PARQUET)
DELIMITERS = ",;\t"
MOST_HEAD = 200_000  # characters
NAMES = "The first line names the columns."
# Files in a table's folder that are not tables, such as a download's description or a Parquet data set's index.
NOT_TABLES = re.compile(r"(dataset_infos?|state|package(-lock)?|croissant|_common_metadata|_metadata)\.(json|parquet)")


class TableRow(NamedTuple):
    """One row as it is in a file."""

    number: int  # from 1, over all files of the table
    split: str  # from the name or folder of the file; empty if these name none
    cells: dict[str, Any]
    file: str  # the file of the table that has the row
    fault: str = ""  # why it cannot be read


class Table(NamedTuple):
    """The files of one table in the order of reading, and their columns."""

    names: list[str]
    head: list[str]


def find_table(files: OfficialFiles, *, named: str = "") -> Table:
    """The table of a folder.

    It is one file; or one file per split, called train, validation (or val, dev) and test; or Parquet shards
    (`train-00000-of-00002.parquet`, or in folders with the names of splits). `named` chooses one by the end of its
    path.

    Raises:
        ValueError: if there is none, or several that could be meant; or, unless one is named, if shards are missing,
            occur twice or are not completely downloaded (`shards.py`).
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
            f"{_some(tables)}. Name the one to read: --config.data.table=FILE."
        )
    kinds = {PurePosixPath(name).suffix.casefold() for name in tables}
    if len(kinds) > 1:
        raise ValueError(f"{files.what} holds tables of several kinds: {_some(tables)}. Name one: data.table=FILE.")
    if not named:
        check_whole(tables, everything, kinds=KINDS, what=files.what)
    head: dict[str, None] = {}
    for name in tables:
        head |= dict.fromkeys(_head(files, name))
        check_count(len(head), name)
    return Table(tables, list(head))


def read_rows(files: OfficialFiles, table: Table, *, images: Collection[str]) -> Iterator[TableRow]:
    """Yields every row.

    The cell of an image in a Parquet file is its place; `TableFiles` reads it. Bytes in other columns are text.

    Args:
        files: the folder's files.
        table: from `find_table`.
        images: the columns of images; only they may hold files.

    Raises:
        ValueError: naming file and column, if a file cannot be read.
    """
    number = 0
    for name in table.names:
        split = file_split(name) if len(table.names) > 1 else ""
        suffix = PurePosixPath(name).suffix.casefold()
        parquet = suffix == PARQUET
        for cells, fault in read_parquet(files, name, images=images) if parquet else _READERS[suffix](files, name):
            number += 1
            yield TableRow(number, split, cells, name, fault)


def file_split(name: str) -> str:
    """The split that a file's name or folder names; empty if there is none.

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
    if suffix == PARQUET:
        head = list(open_parquet(files, name).schema_arrow.names)
        check_head(head, name)
        return head
    if suffix in (".csv", ".tsv"):
        return _csv_head(_read_text(files, name), name)[0]
    return list(dict.fromkeys(key for cells, _ in _READERS[suffix](files, name) for key in cells))


def _read_text(files: OfficialFiles, name: str) -> str:
    """A table as text: UTF-8, or UTF-16 with a byte order mark, as spreadsheets write "Unicode text".

    A first line such as `sep=;`, with which some programs give a spreadsheet the delimiter, is removed.

    Raises:
        ValueError: naming the line that is not UTF-8, or UTF-16 without a byte order mark.
    """
    data, again = files.read(name), "Save the table again as UTF-8: in a spreadsheet as `CSV UTF-8`, or with"
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    head = data[:MOST_HEAD]
    # Of a letter of English, UTF-16 has a byte 0 in one half; no text in UTF-8 has many.
    zeros = [head[half::2].count(0) for half in (0, 1)]
    if not marked and 4 * max(zeros) > len(head):
        kind = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
        raise ValueError(
            f"{files.what}: {name} is {kind} without a byte order mark. {again} `iconv -f {kind} -t UTF-8`."
        )
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line, kind = data[: error.start].count(b"\n") + 1, "UTF-16" if marked else "UTF-8"
        raise ValueError(
            f"{files.what}: {name}, line {line}, is not {kind} ({error.reason}). {again} `iconv -f ENCODING -t UTF-8`, "
            "where ENCODING is that of the program that wrote it, such as WINDOWS-1252 or GB18030."
        ) from error
    return re.sub(r"\Asep=.\r?\n", "", text)


def _csv_head(text: str, name: str) -> tuple[list[str], str]:
    """(the names of the columns, the delimiter): tab in a .tsv, else the one of , ; and tab with the most columns."""
    first = text.split("\n", 1)[0].rstrip("\r")
    if "\r" in first:
        raise ValueError(f"{name} has the line ends of old Macs (CR alone). Save it with LF or CRLF.")
    if len(first) > MOST_HEAD:
        raise ValueError(f"{name}: its first line has {len(first):,} characters, more than {MOST_HEAD:,}. {NAMES}")
    try:
        found = {mark: next(csv.reader([first], delimiter=mark), []) for mark in DELIMITERS}
    except csv.Error as error:
        raise ValueError(f"{name}: its first line cannot be read ({error}). {NAMES}") from error
    mark = "\t" if name.casefold().endswith(".tsv") else max(found, key=lambda one: len(found[one]))
    try:
        list(csv.reader([first], delimiter=mark, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise ValueError(
                f"{name}: its first line cannot be read: a quote is not closed in it. {NAMES} Close the quote, and "
                "write each name without a line break."
            ) from error
    head = [column.strip() for column in found[mark]]
    if not any(head):
        raise ValueError(f"{name}: the first line is empty. It names the columns: image,question,answer.")
    check_head(head, name)
    return head, mark


def _read_csv(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    text = _read_text(files, name)
    head, mark = _csv_head(text, name)
    lines = list(io.StringIO(text, newline=""))
    for number, cells, fault in csv_rows(lines, columns=len(head), mark=mark):
        if fault:
            yield {}, f"line {number} cannot be read: {fault}"
        elif len(cells) != len(head):
            yield dict(zip(head, cells, strict=False)), f"{len(cells)} cells instead of {len(head)}"
        else:
            yield dict(zip(head, cells, strict=True)), ""


def _read_json_lines(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    for line in _read_text(files, name).split("\n"):
        if line.strip():
            yield _object(line)


class _Twice(dict[str, Any]):
    """An object with a repeated key in it, of which JSON readers silently take the last value."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) and not any(map(_has_twice, found.values())) else _Twice(found)


def _has_twice(value: Any) -> bool:
    """Whether a value is, or lists, an object with a repeated key; objects within it have told theirs already."""
    return isinstance(value, _Twice) or (isinstance(value, list) and any(map(_has_twice, value)))


def _object(line: str) -> tuple[dict[str, Any], str]:
    try:
        return _cells(json.loads(line, strict=False, object_pairs_hook=_pairs))
    except (ValueError, RecursionError) as error:
        return {}, f"not JSON: {error}"


def _cells(value: Any) -> tuple[dict[str, Any], str]:
    """An object's cells, and why they cannot be used."""
    if isinstance(value, _Twice):
        return dict(value), "an object has one key twice"
    return (value, "") if isinstance(value, dict) else ({}, "not a JSON object")


def _read_json(files: OfficialFiles, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        value = json.loads(_read_text(files, name), strict=False, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):  # JSON Lines are often called .json
        yield from _read_json_lines(files, name)
        return
    if not isinstance(value, list):
        what = "one object alone: put it in [ ] if it is a row" if isinstance(value, dict) else "neither"
        raise ValueError(f"{files.what}: {name} must hold a list of objects, or one object a line; it holds {what}.")
    yield from map(_cells, value)


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
}


def under(folder: Path) -> OfficialFiles:
    """The files of a folder, or of one archive."""
    return OfficialFiles.below(folder) if folder.is_dir() else OfficialFiles([(folder.name, folder)], what=str(folder))
