"""CSV rows whose quote is not closed, so that the rows after it become a part of one cell."""

import csv
import re
from collections.abc import Iterator, Sequence

UNCLOSED = 'a quote (") is not closed, or a cell holds whole rows. Inside a quoted cell write "" for a quote'
MANY = 3  # lines within a cell that have as many cells as the table has columns


def csv_rows(lines: Sequence[str], *, columns: int, mark: str) -> Iterator[tuple[int, list[str], str]]:
    """Yields (number of its first line, cells, "") for each row, or ([] and) the reason why it cannot be read.

    After a row that cannot be read, the next one begins at the next line: an inch mark costs one row, and not all rows
    until the next quote.

    Args:
        lines: of the file, with their ends; the first names the columns.
        columns: how many there are.
        mark: the delimiter.
    """
    begin = 1
    while begin < len(lines):
        rest = (lines[number] for number in range(begin, len(lines)))
        table, first, fault = csv.reader(rest, delimiter=mark, strict=True), begin, ""
        while not fault and first < len(lines):
            cells: list[str] = []
            try:
                cells = next(table, [])
            except csv.Error as error:
                fault = UNCLOSED if begin + table.line_num > first + 1 else str(error)
            else:
                fault = UNCLOSED if holds_rows(cells, columns=columns, mark=mark) else ""
            if cells or fault:
                yield first + 1, [] if fault else cells, fault
            first = first + 1 if fault else begin + table.line_num
        begin = first


def holds_rows(cells: Sequence[str], *, columns: int, mark: str) -> bool:
    """Whether a cell of several lines is whole rows that follow a quote which is not closed.

    All its lines must be parts of rows, and one must have an identifier like the row's own, such as `2.png` for
    `1.png`; or many lines must be whole rows.

    >>> holds_rows(["1.png", "what?", "5 cm mass\\n2.png,what?,about 5"], columns=3, mark=",")
    True
    >>> holds_rows(["1.png", "what?", "A mass,\\n5 cm, in the left lung"], columns=3, mark=",")
    False
    """
    return any("\n" in cell and _is_rows(cells, place, columns, mark) for place, cell in enumerate(cells))


def _is_rows(cells: Sequence[str], place: int, columns: int, mark: str) -> bool:
    rows = list(csv.reader(cells[place].splitlines(), delimiter=mark, quoting=csv.QUOTE_NONE))
    first, *whole, last = rows if len(rows) > 1 else [*rows, []]
    behind = len(cells) - place - 1
    counts = (place + len(first), *map(len, whole), len(last) + behind)
    if any(count != columns for count in counts):
        return False
    parts = [(place, first), *((0, row) for row in (*whole, last))]
    own = [_shape(cell) for cell in cells]
    alike = (
        at + start != place and own[at + start] and own[at + start] == _shape(cell)
        for start, row in parts
        for at, cell in enumerate(row)
    )
    return any(alike) or (columns > 2 and len(whole) >= MANY)


def _shape(cell: str) -> str:
    """The kind of an identifier: `a0`, `0.a`, `a/a.a`; empty for a plain word, a number and free text."""
    if not cell or re.search(r"\s", cell.strip()):
        return ""
    shape = re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell.strip()))
    return shape if len(shape) > 1 else ""
