"""Published figures for a data set, from paper_figures.json; they are shown with ours and marked as theirs.

They come from the authors' own splits, scorers and sample sizes, which `note` names; a difference from our figure may
be due to these.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radvqa_jax.schema import Record

_FILE = Path(__file__).with_name("paper_figures.json")


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def read_all() -> list[dict[str, Any]]:
    """Every figure: `paper`, `model`, `data`, `column`, `metric`, `value`, `spread`, `n`, `note`, `place`."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def find(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The figures for the data set of the records; empty if they come from several data sets.

    A data set is recognised by the beginning of its rows' `source`: "SLAKE 1.0", "VQA-RAD (osf.io/89kps)".
    """
    names = {re.split(r"[ /(:]", record.source, maxsplit=1)[0] for record in records}
    if len(names) != 1:
        return []
    (name,) = names
    return [figure for figure in read_all() if _key(figure["data"]) == _key(name)]


def as_rows(figures: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows for a table with a column for each kind of question, and the meaning of their marks.

    A row has `label`, `mark` and `cells` ({column: figure}); figures of one system, made under the same conditions,
    share one. The second value is {mark: conditions}.
    """
    marks: dict[str, str] = {}  # conditions -> mark
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for figure in figures:
        conditions = "; ".join(filter(None, (figure["metric"], figure["place"], figure["note"])))
        mark = marks.setdefault(conditions, chr(ord("a") + len(marks)))
        label = f"{figure['paper']}, {figure['model']}"
        row = rows.setdefault((figure["paper"], label, mark), {"label": label, "mark": mark, "cells": {}})
        row["cells"][figure["column"]] = figure
    return list(rows.values()), {mark: conditions for conditions, mark in marks.items()}


def describe_figure(figure: dict[str, Any]) -> str:
    """A figure as text: paper, model, metric, value and n."""
    spread = "" if figure["spread"] is None else f" ± {figure['spread']:.3f}"
    n = "n not given" if figure["n"] is None else f"n={figure['n']}"
    return (
        f"{figure['paper']}, {figure['model']}, {figure['metric']}, {figure['column']}: "
        f"{figure['value']:.3f}{spread} ({n}; {figure['place']})"
    )
