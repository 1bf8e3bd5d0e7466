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
    lines = cells[place].splitlines()
    lines = lines[:1] + [line for line in lines[1:] if line]  # a file may have empty lines between its rows
    rows = list(csv.reader(lines, delimiter=mark, quoting=csv.QUOTE_NONE))
    first, *whole, last = rows if len(rows) > 1 else [*rows, []]
    begins, ends = place + len(first), len(last) + len(cells) - place - 1
    # The first line may have more cells: what follows the quote is text, which may contain the delimiter.
    if begins < columns or any(count != columns for count in (ends, *map(len, whole))):
        return False
    if all(cell.startswith(" ") for row in rows[1:] for cell in row[1:]) and any(len(row) > 1 for row in rows[1:]):
        return False  # lists in a text; in a file with blanks behind its delimiters no cell begins with a quote
    many = columns > 2 and len(whole) >= MANY and begins == columns
    return many or any(_alike(cells, place, row, number, len(rows) - 1) for number, row in enumerate(rows))


def _alike(cells: Sequence[str], place: int, row: Sequence[str], number: int, last: int) -> bool:
    """Whether a line within the cell has an identifier like that of the row in the same column.

    Args:
        cells: of the row; those before `place` are of the first line, those behind it of the last one.
        place: of the cell that has the lines.
        row: the cells of the line.
        number: of the line, from 0.
        last: the number of the last line.
    """
    for column, cell in enumerate(row, place if number == 0 else 0):
        if column == place or column >= len(cells):
            continue
        own, away = cells[column].strip(), number - (0 if column < place else last)
        if away and _number(own) and _number(cell.strip()) == _number(own) + away:
            return True  # rows that are numbered
        if _shape(own) and _shape(own) == _shape(cell.strip()):
            return True
    return False


def _number(cell: str) -> int:
    """A whole number above 0; 0 for anything else, and for more digits than a number of rows has."""
    return int(cell) if cell.isdecimal() and len(cell) < 19 else 0


def _shape(cell: str) -> str:
    """The kind of an identifier or a path: `q0`, `0.a`, `a/a.a`; empty for words, numbers and free text.

    >>> _shape("q12"), _shape("images/b.PNG"), _shape("L4"), _shape("X-ray"), _shape("T2 left"), _shape("0.5")
    ('q0', 'a/a.a', 'l0', '', '', '')
    """
    if re.search(r"\s", cell) or not re.search(r"[\d./_]", cell) or re.fullmatch(r"\d+([.]\d+)?", cell):
        return ""
    shape = re.sub(r"\d+", "0", cell.casefold())
    return re.sub(r"[^\W\d_]+", "a", shape) if re.search(r"[./_-]", cell) else shape
