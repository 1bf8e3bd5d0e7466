"""CSV files that a spreadsheet opens: UTF-8 with a byte order mark, every cell quoted, and none of them a formula.

A cell that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, CSV injection).
"""

import csv
import os
from collections.abc import Iterable, Sequence

from radvqa_jax.files import atomic_write

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_FULL_WIDTH = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # some programs fold them to = + - @


def safe_cell(text: str) -> str:
    """Returns text that a spreadsheet shows and does not run.

    >>> safe_cell("=1+1"), safe_cell("left lung"), safe_cell(" @x")
    ("'=1+1", 'left lung', "' @x")
    """
    start = text.lstrip(" ")[:1]
    risky = start.startswith(_FORMULA) or start in _FULL_WIDTH or text[:1] in "\t\r\n"
    return f"'{text}" if text and risky else text


def original_cell(text: str) -> str:
    """Returns a cell without the apostrophe that `safe_cell` put in front.

    >>> original_cell("'=1+1"), original_cell("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and safe_cell(text[1:]) == text else text


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Writes a table for spreadsheets, whole or not at all, one row at a time; returns the number of rows.

    Text goes through `safe_cell`. Numbers stay numbers, and None is an empty cell. Text that is no Unicode (a lone
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


def cell_text(value: object) -> str:
    """Returns what `write_csv` writes for a value."""
    if isinstance(value, bool | int | float) or value is None:
        return "" if value is None else str(value)
    return safe_cell(str(value).encode("utf-8", "replace").decode("utf-8"))
