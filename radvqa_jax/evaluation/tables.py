"""Tables for the terminal: the one format of cells, p values and tables."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def format_cell(cell: Mapping[str, Any] | None, *, signed: bool = False, n: bool = True) -> str:
    """A cell as text; an absent one is a dash.

    >>> format_cell({"value": 0.873, "interval": [0.85, 0.893], "n": 600})
    '0.873 [0.85, 0.89] n=600'
    """
    if cell is None:
        return "-"
    sign = "+" if signed else ""
    bounds = ", ".join(f"{bound:{sign}.2f}" for bound in cell["interval"] or ())
    return f"{cell['value']:{sign}.3f} [{bounds or 'no interval'}]" + (f" n={cell['n']}" if n else "")


def format_p(value: float) -> str:
    """A p value with three decimals."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; the first row is its header, with a rule below it.

    >>> align([["cell", "n"], ["overall", "12"]])
    ['cell     n', '-----------', 'overall  12']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    r"""The lines of a Markdown table; the first row is its header.

    >>> markdown([["cell", "n"], ["a|b", "12"]])
    ['| cell | n |', '|---|---|', '| a\\|b | 12 |']
    """
    lines = ["| " + " | ".join(_escape_markdown(text) for text in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _escape_markdown(text: str) -> str:
    """The text escaped for Markdown, on one line: no markup, no HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def escape_latex(text: str) -> str:
    r"""The text escaped for LaTeX.

    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


LATEX_PREAMBLE = r"% In the preamble: \usepackage{booktabs,graphicx}. Use XeLaTeX or LuaLaTeX if a value is Chinese."
_FIT = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"  # smaller if the line is too short


def latex(groups: Sequence[Sequence[Sequence[str]]], *, caption: str, label: str) -> list[str]:
    """The lines of a LaTeX table in the style of booktabs: the header, then groups of rows with rules between them.

    Args:
        groups: the first holds the one row of the header.
        caption: below the table.
        label: for \\ref.
    """
    lines = [r"\begin{table}", r"\centering", _FIT, rf"\begin{{tabular}}{{{'l' * len(groups[0][0])}}}", r"\toprule"]
    for number, rows in enumerate(groups):
        lines += [r"\midrule"] if number else []
        # The braces: LaTeX would read a bracket after the end of a row as its height.
        lines += ["{}" * row[0].startswith("[") + " & ".join(map(escape_latex, row)) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}}", rf"\caption{{{escape_latex(caption)}}}"]
    return [*lines, rf"\label{{{re.sub('[^A-Za-z0-9:-]', '-', label)}}}", r"\end{table}"]
