"""book.html, book.json, book.csv and book.tex: the results book for people, programs, spreadsheets and papers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from radvqa_jax import files, typed_json
from radvqa_jax.evaluation.report import BLIND_LABELS
from radvqa_jax.evaluation.tables import LATEX_PREAMBLE, align, format_cell, latex
from radvqa_jax.pages import flat_lines, render_page
from radvqa_jax.spreadsheet import write_csv

Place = tuple[str, str, str, str, str]  # of a cell: table, model, data, questions, metric
DIFFERENCE = "ours - paper"
_TEMPLATES = Path(__file__).parent / "templates"
_COLUMNS = (
    *("file", "paper", "place", "model", "data", "questions", "metric", "paper_value", "paper_spread", "paper_n"),
    *("ours", "low", "high", "n", "images", "question_only", "majority", "difference", "empty", "command", "unlike"),
)


class _Tables(NamedTuple):
    tables: list[dict[str, Any]]
    stand_in: str = ""


class _Table(NamedTuple):
    name: str
    cells: list[dict[str, Any]]


class _Cell(NamedTuple):
    model: str
    data: str
    questions: str
    metric: str
    ours: dict[str, Any] | None


def _row(table: Mapping[str, Any], cell: Mapping[str, Any]) -> list[Any]:
    """A line of book.csv."""
    printed, ours = cell["printed"] or {}, cell["ours"] or {}
    low, high = ours.get("interval") or (None, None)
    blind = [cell["blind"].get(name, {}).get("value") for name in ("question_only", "majority")]
    difference = cell["difference"] and cell["difference"]["value"]
    return [
        *(table["name"], table["paper"], table["place"]),
        *(cell[name] for name in ("model", "data", "questions", "metric")),
        *(printed.get(name) for name in ("value", "spread", "n")),
        *(ours.get("value"), low, high, ours.get("n"), ours.get("n_images"), *blind, difference),
        *(cell["empty"], cell["command"], "; ".join([*table["unlike"], *cell["unlike"]])),
    ]


def format_printed(cell: Mapping[str, Any]) -> str:
    """The paper's figure as text.

    >>> format_printed({"printed": {"value": 0.79, "spread": 0.0275, "n": 200}})
    '0.790 ± 0.028 n=200'
    """
    printed = cell["printed"]
    if printed is None:
        return "-"
    spread = "" if printed["spread"] is None else f" ± {printed['spread']:.3f}"
    return f"{printed['value']:.3f}{spread}" + ("" if printed["n"] is None else f" n={printed['n']}")


def _head(book: Mapping[str, Any]) -> list[str]:
    return ["row", "questions", "metric", "paper", "ours", "question only", *[DIFFERENCE] * (not book["stand_in"])]


def _text(cell: Mapping[str, Any], book: Mapping[str, Any]) -> list[str]:
    blind = cell["blind"].get("question_only")
    difference = [] if book["stand_in"] else [format_cell(cell["difference"], signed=True, n=False)]
    return [
        f"{cell['model']}, {cell['data']}" if cell["data"] else cell["model"],
        cell["questions"],
        cell["metric"],
        format_printed(cell),
        format_cell(cell["ours"]),
        "-" if blind is None else f"{blind['value']:.3f}",
        *difference,
    ]


def format_book(book: Mapping[str, Any]) -> str:
    """The book as tables for the terminal, and the empty cells by reason."""
    lines: list[str] = []
    for table in book["tables"]:
        if any(cell["metric"] for cell in table["cells"]):
            lines += [f"{table['paper']}, {table['place']}: {table['title']} ({table['name']})"]
            lines += [*align([_head(book), *(_text(cell, book) for cell in table["cells"])]), ""]
    reasons: dict[str, int] = {}
    for cell in (cell for table in book["tables"] for cell in table["cells"] if cell["metric"] and cell["empty"]):
        reasons[cell["empty"]] = reasons.get(cell["empty"], 0) + 1
    lines += [f"{count} empty: {reason}" for reason, count in reasons.items()]
    lines.append(f"{book['filled']} of {book['cells']} cells are filled. {book['method']['difference']}.")
    return "\n".join(lines)


def read_book(folder: Path) -> dict[str, Any]:
    """`tables`, as far as `filled_cells` needs them, and `stand_in` of a folder's book.json; no tables without a file.

    Raises:
        ValueError: naming file and field, if it is no book.
    """
    path = folder / "book.json"
    if not path.exists():
        return {"tables": [], "stand_in": ""}
    tables = []
    book = typed_json.check_part(typed_json.read(path, dict[str, Any]), _Tables, where=str(path))
    for table in book.tables:
        found = typed_json.check_part(table, _Table, where=f"{path}: a table")
        cells = [typed_json.check_part(cell, _Cell, where=f"{path}: {found.name}: a cell") for cell in found.cells]
        tables.append({"name": found.name, "cells": [cell._asdict() for cell in cells]})
    return {"tables": tables, "stand_in": book.stand_in}


def filled_cells(book: Mapping[str, Any]) -> set[Place]:
    """The cells that have a number of ours."""
    return {
        (table["name"], *(cell[name] for name in ("model", "data", "questions", "metric")))
        for table in book["tables"]
        for cell in table["cells"]
        if cell["ours"] is not None
    }


def write_book(
    folder: Path,
    book: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any],
    planned: Sequence[Sequence[str]] = (),
    how: str = "",
) -> str:
    """Writes the four files, each whole or not at all; returns the tables for the terminal.

    Args:
        folder: made if it is missing.
        book: from `build_book`.
        provenance: what holds for all cells, as JSON values.
        planned: what the recipes take on devices, as a table whose first row is its head; empty if that is not known.
        how: how that was found.
    """
    page = render_page(
        _TEMPLATES,
        "book",
        book=book,
        blind_labels=BLIND_LABELS,
        format_printed=format_printed,
        flat=flat_lines,
        planned=planned,
        how=how,
        provenance=flat_lines(provenance),
    )
    files.write_json(folder / "book.json", {**book, "provenance": dict(provenance)})
    write_csv(folder / "book.csv", _COLUMNS, [_row(table, cell) for table in book["tables"] for cell in table["cells"]])
    tables = []
    for table in book["tables"]:
        if rows := [_text(cell, book) for cell in table["cells"] if cell["metric"]]:
            caption = (
                f"{table['paper']}, {table['place']}: {table['title']}. Unlike the paper: {'; '.join(table['unlike'])}"
            )
            tables += latex([[_head(book)], rows], caption=caption, label=f"tab:{table['name']}")
    files.write_text(folder / "book.tex", "\n".join([LATEX_PREAMBLE, *tables]) + "\n")
    files.write_text(folder / "book.html", page)
    return format_book(book)
