"""CSV files that a spreadsheet opens: UTF-8 with a byte order mark, every cell quoted, and none of them a formula.

A cell that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, CSV injection).
"""

import collections
import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from radvqa_jax.files import atomic_write, open_regular
from tfds_builders.csv_quotes import UNCLOSED, holds_rows

MOST_BYTES = 1 << 30  # of a table that a user gives
MOST_COLUMNS = 1 << 14  # the limit of common spreadsheets
MOST_HEAD = 1 << 20  # characters of the line that names the columns
SHOWN = 30  # names of columns in an error
# Some answers are longer than Python's own limit of 128 KiB.
csv.field_size_limit(1 << 27)

DELIMITERS = (",", ";", "\t")
_SEP = re.compile(r"sep=([,;\t])\s*", re.IGNORECASE)  # a first line that gives spreadsheets the delimiter
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_NUMBER = re.compile(r"'*\d[\d.,:/+\- eE]*")  # and dates: "1-2"
_KEPT_NUMBER = re.compile(r"0|[1-9]\d{0,10}")
_FULL_WIDTH = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # some programs fold them to = + - @


def safe_cell(text: str) -> str:
    """Text that a spreadsheet shows and does not run as a formula.

    >>> safe_cell("=1+1"), safe_cell("left lung"), safe_cell(" @x")
    ("'=1+1", 'left lung', "' @x")
    """
    start = text.lstrip(" ")[:1]
    risky = start.startswith(_FORMULA) or start in _FULL_WIDTH or text[:1] in "\t\r\n"
    return f"'{text}" if text and risky else text


def original_cell(text: str) -> str:
    """A cell without the apostrophe that `safe_cell` put in front.

    >>> original_cell("'=1+1"), original_cell("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and safe_cell(text[1:]) == text else text


def id_cell(text: str) -> str:
    """An id that a spreadsheet keeps as it is. Of 000013 or 12345678e1234567 it would save another number.

    >>> id_cell("000013"), id_cell("13"), id_cell("1-2"), id_cell("q013")
    ("'000013", '13', "'1-2", 'q013')
    """
    return f"'{text}" if _NUMBER.fullmatch(text) and not _KEPT_NUMBER.fullmatch(text) else text


def original_id(text: str) -> str:
    """The id in a cell, without the apostrophes that `id_cell` and `safe_cell` put in front.

    >>> original_id("'000013"), original_id("'=1"), original_id("'tis")
    ('000013', '=1', "'tis")
    """
    text = original_cell(text)
    return text[1:] if text.startswith("'") and id_cell(text[1:]) == text else text


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Writes a table for spreadsheets, whole or not at all, one row at a time. Returns the number of rows.

    Text goes through `safe_cell`. Numbers stay numbers, and None is an empty cell. Text that is not Unicode (a lone
    surrogate) is written with a question mark in place of the surrogate.
    """
    n = 0
    with atomic_write(path) as file:
        file.write("\ufeff")
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        writer.writerow(map(cell_text, header))
        for row in rows:
            writer.writerow(map(cell_text, row))
            n += 1
    return n


def is_filled(path: Path, columns: Sequence[str]) -> bool:
    """Whether a sheet exists in which a reader filled in one of these columns. A broken sheet counts as filled in."""
    if not path.is_file():
        return False
    try:
        return any(row.get(name, "").strip() for _, row in read_rows(path, needed=(), what="") for name in columns)
    except ValueError:
        return True


def cell_text(value: object) -> str:
    """The text that `write_csv` writes for a value."""
    if isinstance(value, bool | int | float) or value is None:
        return "" if value is None else str(value)
    return safe_cell(str(value).encode("utf-8", "replace").decode("utf-8"))


def read_csv(path: str | os.PathLike[str], *, delimiter: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each row's last line, and the row's cells; the first row holds the names of the columns.

    The names are unique. Empty lines are left out. A row may have more or fewer cells than names; `named` refuses it.

    Args:
        path: the file.
        delimiter: empty = the delimiter of a first line `sep=;`, or the one of comma, semicolon (which spreadsheets
            write if the comma is the decimal mark) and tab that gives the most columns.

    Raises:
        ValueError: naming the file, if it is not a regular file, is too large, is not UTF-8, has too many columns,
            names one twice, or has a quote that is not closed (`holds_rows`: rows would be read as part of a cell).
    """
    with open_regular(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        if (size := os.fstat(raw.fileno()).st_size) > MOST_BYTES:
            raise ValueError(f"{path} has {size:,} bytes; a table may have {MOST_BYTES:,}. Split it.")
        reader, skipped = csv.reader([]), 0
        try:
            lines = _lines(path, text)
            first = next(lines)
            if said := _SEP.fullmatch(first):
                delimiter, first, skipped = said[1], next(lines, ""), 1
            mark = delimiter or _delimiter(first)
            reader = csv.reader(itertools.chain([first], lines), delimiter=mark, strict=True)
            header = [name.strip() for name in next(reader, [])]
            check_header(path, header)
            yield reader.line_num + skipped, header
            for row in filter(None, reader):
                if holds_rows(row, columns=len(header), mark=mark):
                    raise csv.Error(f"the row that ends here: {UNCLOSED}")
                yield reader.line_num + skipped, row
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}). Save it as CSV UTF-8.") from error
        except csv.Error as error:
            where = f"{path}, line {reader.line_num + skipped}"
            raise ValueError(f"{where}: it is not CSV ({error}). Save it as CSV UTF-8.") from error


def _delimiter(first: str) -> str:
    """The delimiter that gives the first line the most columns; the comma if several do.

    >>> _delimiter("a;b,c;d"), _delimiter("a,b"), _delimiter("a")
    (';', ',', ',')
    """
    columns = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in DELIMITERS}
    return max(DELIMITERS, key=lambda mark: columns[mark])


def _lines(path: str | os.PathLike[str], text: io.TextIOWrapper) -> Iterator[str]:
    """Yields the lines; raises ValueError for a first line that is too long, without reading the rest of it."""
    first = text.readline(MOST_HEAD + 1)
    if len(first) > MOST_HEAD:
        raise ValueError(
            f"{path}: the first line, which names the columns, has more than {MOST_HEAD:,} characters; a table may "
            f"have {MOST_COLUMNS:,} columns. Leave out columns that are not needed."
        )
    yield first
    yield from text


def check_header(path: str | os.PathLike[str], header: Sequence[str]) -> None:
    """Raises ValueError, naming the file, for too many columns or a repeated name. Columns may have no name."""
    if len(header) > MOST_COLUMNS:
        raise ValueError(
            f"{path} has {len(header):,} columns; a table may have {MOST_COLUMNS:,}. Leave out those not needed."
        )
    if repeated := repeated_of(filter(None, header)):
        raise ValueError(f"{path}: the columns {repeated} occur twice. Remove one of each, or rename it.")


def repeated_of(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted.

    >>> repeated_of(["b", "a", "b"])
    ['b']
    """
    return sorted(name for name, count in collections.Counter(names).items() if count > 1)


def shown(header: Sequence[str]) -> str:
    """The names of columns for an error; of many, only the first.

    >>> shown(["a", "b"])
    "['a', 'b']"
    """
    more = f" and {len(header) - SHOWN:,} more" if len(header) > SHOWN else ""
    return f"{list(header[:SHOWN])}{more}"


def named(header: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    """{column: cell} of a row.

    Raises:
        ValueError: if the row has another number of cells than the header.
    """
    if len(row) != len(header):
        raise ValueError(f"{len(row)} fields, but the header names {len(header)} columns")
    return dict(zip(header, row, strict=True))


def read_rows(
    path: str | os.PathLike[str], *, needed: Sequence[str], what: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, {column: cell}) of every row of a sheet.

    Args:
        path: the file.
        needed: the columns that it must have.
        what: the kind of file that is expected, with an article, for errors.

    Raises:
        ValueError: as `read_csv`, if a needed column is missing, or for a row with another number of cells than the
            header.
    """
    rows = read_csv(path)
    _, header = next(rows)
    if missing := [name for name in needed if name not in header]:
        raise ValueError(f"{path} lacks the columns {missing}; it is not {what}.")
    yield from by_column(path, header, rows)


def by_column(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, {column: cell}) of the rows of `read_csv`; raises ValueError, with the line, for a wrong number of
    cells."""
    for line, row in rows:
        try:
            yield line, named(header, row)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}. Correct the row.") from error
