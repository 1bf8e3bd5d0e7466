"""Tables for the terminal: one form of a cell, of a p value and of a table."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_cell(cell: Mapping[str, Any] | None, *, signed: bool = False, n: bool = True) -> str:
    """Returns a cell as text; an absent one is a dash.

    >>> format_cell({"value": 0.873, "interval": [0.85, 0.893], "n": 600})
    '0.873 [0.85, 0.89] n=600'
    """
    if cell is None:
        return "-"
    sign = "+" if signed else ""
    bounds = ", ".join(f"{bound:{sign}.2f}" for bound in cell["interval"] or ())
    return f"{cell['value']:{sign}.3f} [{bounds or 'no interval'}]" + (f" n={cell['n']}" if n else "")


def format_p(value: float) -> str:
    """Returns a p value with three decimals."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; the first row is its head, and a rule stands below it.

    >>> align([["cell", "n"], ["overall", "12"]])
    ['cell     n', '-----------', 'overall  12']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
