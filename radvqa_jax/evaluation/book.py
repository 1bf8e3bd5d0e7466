"""The results book: the papers' figures, our measurements, and the differences between the two set-ups."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radvqa_jax import __version__
from radvqa_jax.config import PaperRow, PaperTable
from radvqa_jax.evaluation import intervals, paper_figures
from radvqa_jax.evaluation.measures import Answered, Settings, measure, measure_blind


class Found(NamedTuple):
    """The outcome of one row's experiment."""

    answered: Answered | None = None
    empty: str = ""  # without answers: why, and which command changes that
    command: str = ""  # runs the experiment at full size
    unlike: tuple[str, ...] = ()  # differences from the paper found during the run: leaks, a part of a release, …
    about: Mapping[str, Any] = {}


def _printed(table: PaperTable, row: PaperRow) -> list[dict[str, Any]]:
    """The figures that the paper prints for a row."""
    place = (table.paper, table.place, row.model, row.data)
    return [f for f in paper_figures.read_all() if (f["paper"], f["place"], f["model"], f["data"]) == place]


def _difference(ours: Mapping[str, Any], theirs: float) -> dict[str, Any]:
    """Ours minus theirs; the interval is ours alone, because theirs cannot be paired."""
    bounds = ours["interval"]
    return {
        "value": ours["value"] - theirs,
        "interval": None if bounds is None else [bound - theirs for bound in bounds],
        "n": ours["n"],
    }


def _cell(
    row: PaperRow, metric: str, column: str, printed: Mapping[str, Any] | None, found: Found, settings: Settings
) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "model": row.model,
        "data": row.data,
        "questions": column,
        "metric": metric,
        "printed": None,
        "ours": None,
        "blind": {},
        "difference": None,
        "unlike": [*row.unlike, *found.unlike],
        "empty": found.empty,
        "command": found.command,
    }
    if printed is not None:
        cell["printed"] = {key: printed[key] for key in ("value", "spread", "n", "note")}
    if found.answered is None:
        return cell
    value = measure(metric, column, found.answered, settings)
    if isinstance(value, str):
        return cell | {"empty": value}
    cell |= {"ours": value, "blind": measure_blind(metric, column, found.answered, settings)}
    if printed is not None:
        cell["difference"] = _difference(value, printed["value"])
    return cell


def build_row(table: PaperTable, row: PaperRow, found: Found, settings: Settings) -> list[dict[str, Any]]:
    """The cells of a row: those that the paper prints, and those that the row adds.

    A cell has `model`, `data`, `questions`, `metric`, `printed` (the paper's figure, None if it prints none), `ours`
    (value, interval, n), `blind` ({baseline: value}), `difference`, `unlike`, `empty` (why `ours` is None) and
    `command`. A row without a number has one cell without a metric.

    Args:
        table: as its file describes it.
        row: of the table.
        found: the outcome of its experiment.
        settings: of the metrics.
    """
    printed = _printed(table, row)
    wanted: list[tuple[str, str, Any]] = [(figure["column"], figure["metric"], figure) for figure in printed]
    wanted += [(column, metric, None) for column, metric in row.beside]
    if not wanted:
        return [_cell(row, "", "", None, found._replace(answered=None), settings)]
    return [_cell(row, metric, column, figure, found, settings) for column, metric, figure in wanted]


def build_book(
    tables: Mapping[str, PaperTable],
    rows: Mapping[str, Sequence[tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]]],
    settings: Settings,
    *,
    stand_in: str = "",
    synthetic: bool = False,
) -> dict[str, Any]:
    """Every table with its cells, as plain JSON values.

    Keys: `tables` (`name`, `paper`, `place`, `title`, `unlike`, `cells`, `about` of the rows), `stand_in` (the data set
    of a shortened book, whose cells have no `difference`; else empty), `synthetic`, `filled`, `cells` and `method`.

    Args:
        tables: by the names of their files.
        rows: of each table, its rows in order: cells from `build_row`, and what the answers were made from.
        settings: of the metrics.
        stand_in: the data set that took the place of every other.
        synthetic: whether a question is about a drawn image.
    """
    # The figures of a shortened book cannot be compared with a paper's.
    left_out = {"difference": None} if stand_in else {}
    entries = []
    for name, table in tables.items():
        pairs = list(zip(table.rows, rows[name], strict=True))
        entries.append(
            {
                "name": name,
                "paper": table.paper,
                "place": table.place,
                "title": table.title,
                "unlike": list(table.unlike),
                "cells": [{**cell, **left_out} for _, (cells, _) in pairs for cell in cells],
                "about": {f"{row.model}, {row.data}": dict(about) for row, (_, about) in pairs},
            }
        )
    cells = [cell for entry in entries for cell in entry["cells"] if cell["metric"]]
    return {
        "tables": entries,
        "stand_in": stand_in,
        "synthetic": synthetic,
        "filled": sum(cell["ours"] is not None for cell in cells),
        "cells": len(cells),
        "method": {
            "scorer": f"radvqa {__version__}: metrics as the papers computed them; accuracy by our rules",
            "interval": intervals.METHOD,
            "difference": f"Shortened, on {stand_in} with a step a stage: a test of the recipes, no result"
            if stand_in
            else "ours minus the paper's; its interval is that of ours alone",
            **settings.bootstrap,
        },
    }
