"""ablations.json, ablations.txt and ablations.html: the grid for programs, for the terminal and for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import files
from radvqa_jax.evaluation import report_figures
from radvqa_jax.evaluation.ablations import format_grid, nonsense_line
from radvqa_jax.evaluation.contradictions import RULE
from radvqa_jax.evaluation.conversation_tables import held_lines, pair_lines, turn_lines
from radvqa_jax.evaluation.report import BLIND_LABELS
from radvqa_jax.evaluation.tables import format_cell, format_p
from radvqa_jax.pages import flat_lines, render_page

_TEMPLATES = Path(__file__).parent / "templates"


def _figure(grid: Mapping[str, Any]) -> report_figures.Image | None:
    """Accuracy of every cell with its question-only baseline; None if every cell is empty."""
    rows = {}
    for row in grid["cells"]:
        if "overall" in row:
            blind = row["baselines"].get("question_only")
            rows[row["name"]] = {"model": row["overall"]} | ({} if blind is None else {"question only": blind})
    return report_figures.dots(rows, xlabel="accuracy", low=-0.02) if rows else None


def write_grid(folder: Path, grid: Mapping[str, Any], *, provenance: Mapping[str, Any]) -> str:
    """Writes the three files, each whole or not at all; returns the table for the terminal.

    Args:
        folder: made if it is missing.
        grid: from `build_grid`.
        provenance: what holds for all cells, as JSON values.
    """
    table = format_grid(grid)
    page = render_page(
        _TEMPLATES,
        "ablations",
        grid=grid,
        figure=_figure(grid),
        blind_labels=BLIND_LABELS,
        format_cell=format_cell,
        format_p=format_p,
        nonsense_line=nonsense_line,
        turns=turn_lines(grid),
        pairs=pair_lines(grid),
        held=held_lines(grid),
        rule=RULE,
        flat=flat_lines,
        provenance=flat_lines(provenance),
    )
    files.write_json(folder / "ablations.json", {**grid, "provenance": dict(provenance)})
    files.write_text(folder / "ablations.txt", table + "\n")
    files.write_text(folder / "ablations.html", page)
    return table
