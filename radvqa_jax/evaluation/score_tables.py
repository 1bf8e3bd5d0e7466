"""One table for each data set: every run under both rules, by cell, and under other tools' rules; CSV, LaTeX, Markdown.

Made from the numbers of scan.py. A cell without questions does not exist.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radvqa_jax import progress, spreadsheet
from radvqa_jax.evaluation import intervals, line_scores, rules
from radvqa_jax.evaluation.line_scores import dataset_of
from radvqa_jax.evaluation.protocols import PROTOCOLS
from radvqa_jax.evaluation.published import SYSTEMS, corpus_bleu_of, package
from radvqa_jax.evaluation.reliance import MEASURES, NOTES, reliance_rows
from radvqa_jax.evaluation.scan import Columns, Scan
from radvqa_jax.evaluation.scoring import cell_to_json
from radvqa_jax.evaluation.tables import LATEX_PREAMBLE, align, format_cell, latex, markdown
from radvqa_jax.files import write_text
from radvqa_jax.untrusted import visible

FIELD_LABELS = {"question_type": "content type"}
_NOTES = (
    "Brackets are 95 % intervals over images. `exact` is equality in normal form, `radvqa` also reads radiology terms "
    "and sentences; an unparsed answer is not correct."
)
_PROTOCOL_NOTES = "The same answers under the rules of other tools; sources, versions and known flaws: docs/scoring.md."


def _cell(values: np.ndarray, images: np.ndarray, **bootstrap: Any) -> dict[str, Any]:
    return cell_to_json(intervals.mean_interval(np.clip(values, 0, 1), images, **bootstrap))


def _rule_cells(columns: Columns, rows: np.ndarray, images: np.ndarray, **bootstrap: Any) -> dict[str, Any]:
    """The cell of each of our two rules over some lines."""
    found = {}
    for column in rules.COLUMNS:
        outcomes = np.asarray(columns.outcomes[column])[rows]
        correct = (outcomes == line_scores.OUTCOMES.index("correct")).astype(np.float64)
        unparsed = int((outcomes == line_scores.OUTCOMES.index("unparsed")).sum())
        found[column] = _cell(correct, images, **bootstrap) | {"correct": int(correct.sum()), "unparsed": unparsed}
    return found


def _metric_cells(columns: Columns, rows: np.ndarray, images: np.ndarray, **bootstrap: Any) -> dict[str, Any]:
    """The cell of each protocol's and published metric over the lines to which it applies."""
    found = {}
    for name in columns.values:
        values = columns.value(name)[rows]
        known = ~np.isnan(values)
        if not name.startswith(line_scores.BLEU_COUNTS) and known.any():
            found[name] = _cell(values[known], images[known], **bootstrap)
    return found


def _corpus_bleu(columns: Columns, rows: np.ndarray, images: np.ndarray, **bootstrap: Any) -> dict[str, Any] | None:
    """LLaMA32-Med's corpus BLEU, if its counts were computed."""
    names = [name for name in columns.values if name.startswith(line_scores.BLEU_COUNTS)]
    if not names:
        return None
    counts = np.stack([columns.value(name)[rows] for name in names], axis=1)
    return corpus_bleu_of(counts, images, **bootstrap)


def _by_field(scan: Scan, columns: Columns, rows: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (field, value, lines) of every cell below overall, values in alphabetical order."""
    for field in line_scores.FIELDS:
        codes = np.asarray(columns.groups[field])[rows]
        present = {scan.names[field][code]: code for code in np.unique(codes)}
        for value in sorted(filter(None, present)):
            yield field, value, rows[codes == present[value]]


def build_tables(scan: Scan, *, resamples: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """The tables of all data sets as plain values.

    Each has `dataset`; `cells`, a list of {field, value, run, n, n_images, exact, radvqa}, `overall` first; `metrics`,
    {run: {metric: cell}} of the protocols and the published metrics; and, as {run: n}, the numbers of lines whose
    answer type was derived (`derived`), which do not name their image (`without_image`), and whose answer is longer
    than the part that is read (`shortened`).
    """
    bootstrap = {"resamples": resamples, "seed": seed}
    datasets = sorted({dataset_of(source) for source in scan.names["source"]})
    tables = []
    bar = progress.bar(name="intervals of cells", unit="cell", delay=progress.SOON)  # there may be thousands
    for dataset in datasets:
        sources = [number for number, name in enumerate(scan.names["source"]) if dataset_of(name) == dataset]
        cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
        metrics, derived, without_image, shortened = {}, {}, {}, {}
        for run, columns in scan.runs.items():
            rows = np.flatnonzero(np.isin(np.asarray(columns.groups["source"]), sources))
            if not len(rows):
                continue
            images = np.asarray(columns.image)
            for field, value, chosen in [("overall", "", rows), *_by_field(scan, columns, rows)]:
                found = _rule_cells(columns, chosen, images[chosen], **bootstrap)
                n = {name: found["radvqa"][name] for name in ("n", "n_images")}
                cells.setdefault((field, value), []).append({"field": field, "value": value, "run": run, **n, **found})
                bar.update()
            metrics[run] = _metric_cells(columns, rows, images[rows], **bootstrap)
            if bleu := _corpus_bleu(columns, rows, images[rows], **bootstrap):
                metrics[run]["llama32_med.bleu"] = bleu
            derived[run] = int(np.asarray(columns.derived)[rows].sum())
            shortened[run] = int(np.asarray(columns.shortened)[rows].sum())
            without_image[run] = int(np.asarray(columns.without_image)[rows].sum())
        order = ["overall", *line_scores.FIELDS]
        listed = [found for key in sorted(cells, key=lambda key: (order.index(key[0]), key[1])) for found in cells[key]]
        marks = {"derived": derived, "without_image": without_image, "shortened": shortened}
        tables.append({"dataset": dataset, "cells": listed, "metrics": metrics, **marks})
    bar.close()
    return tables


def _label(cell: Mapping[str, Any]) -> str:
    if cell["field"] == "overall":
        return "overall"
    return f"{FIELD_LABELS.get(cell['field'], cell['field'].replace('_', ' '))}: {cell['value']}"


def cell_groups(table: Mapping[str, Any], *, fields: Sequence[str] = ()) -> list[list[list[str]]]:
    """The rows of the main table as text: the header, then a group for each cell with a row for each run."""
    groups: dict[str, list[list[str]]] = {}
    for cell in table["cells"]:
        if fields and cell["field"] not in fields:
            continue
        rows = groups.setdefault(_label(cell), [])
        shown = [format_cell(cell[column], n=False) for column in rules.COLUMNS]
        counts = [str(cell["n"]), str(cell["n_images"]), *shown, str(cell["radvqa"]["unparsed"])]
        rows.append(["" if rows else _label(cell), cell["run"] or "answers", *counts])
    return [[["cell", "run", "n", "images", *rules.COLUMNS, "unparsed"]], *groups.values()]


def protocol_groups(table: Mapping[str, Any]) -> list[list[list[str]]]:
    """The rows of the protocol table: a group for each protocol, ours first, with a row for each metric."""
    runs = list(table["metrics"])
    overall = {cell["run"]: cell for cell in table["cells"] if cell["field"] == "overall"}
    ours = [[column, "this package", *(format_cell(overall[run][column]) for run in runs)] for column in rules.COLUMNS]
    groups = [[["rule", "source", *(run or "answers" for run in runs)]], ours]
    for name, protocol in PROTOCOLS.items():
        rows = []
        for metric in protocol.METRICS:
            cells = [table["metrics"][run].get(f"{name}.{metric}") for run in runs]
            if any(cells):
                rows.append(
                    [f"{protocol.LABEL}: {metric.replace('_', ' ')}", protocol.VERSION, *map(format_cell, cells)]
                )
        groups += [rows] if rows else []
    return groups


def published_groups(table: Mapping[str, Any]) -> list[list[list[str]]]:
    """The rows of the published metrics: a group for each system; only the header if none was computed."""
    runs = list(table["metrics"])
    groups = [[["published metric", "package", *(run or "answers" for run in runs)]]]
    for system in SYSTEMS:
        names = dict.fromkeys(name for run in runs for name in table["metrics"][run] if name.startswith(f"{system}."))
        rows = []
        for name in names:
            metric = name.removeprefix(f"{system}.")
            cells = [format_cell(table["metrics"][run].get(name)) for run in runs]
            rows.append([f"{system} {metric}", package(system, metric), *cells])
        groups += [rows] if rows else []
    return groups


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {run or 'answers'}" for run, count in counts.items() if count)


def notes(table: Mapping[str, Any]) -> list[str]:
    """The notes of a table: derived answer types, unknown images, shortened answers."""
    found = [_NOTES]
    if derived := _listed(table["derived"]):
        rule = "closed if there are choices or the reference is yes or no, else open"
        found.append(f"The answer type of {derived} was derived: {rule}.")
    if without := _listed(table["without_image"]):
        found.append(
            f"The image of {without} is unknown: each of these questions counts as an image of its own, and intervals "
            "are too narrow where several are about one image."
        )
    if shortened := _listed(table["shortened"]):
        longest = line_scores.LONGEST
        found.append(
            f"The answer of {shortened} has more than {longest:,} characters: every score reads its first and last "
            f"{longest // 2:,}."
        )
    return found


def format_tables(tables: Sequence[Mapping[str, Any]], relied: Mapping[str, Any]) -> str:
    """The tables for the terminal: overall, answer types and languages of each data set, and the protocols."""
    lines = []
    for table in tables:
        main = [row for group in cell_groups(table, fields=("overall", "answer_type", "language")) for row in group]
        lines += [
            f"data set: {table['dataset']}",
            *align(main),
            "",
            *align([r for g in protocol_groups(table) for r in g]),
        ]
        lines += [*notes(table), ""]
    if relied:
        lines += ["reliance on the image", *align(reliance_rows(relied)), NOTES]
    return "\n".join(lines).rstrip()


def _markdown(tables: Sequence[Mapping[str, Any]], relied: Mapping[str, Any]) -> str:
    lines = ["# Scores"]
    for table in tables:
        lines += ["", f"## {markdown([[table['dataset']]])[0].strip('| ')}"]
        parts = {"Cells": cell_groups, "Protocols": protocol_groups, "Published metrics": published_groups}
        for title, groups in parts.items():
            if len(found := groups(table)) > 1:
                lines += ["", f"### {title}", "", *markdown([row for group in found for row in group])]
        for note in (*notes(table), _PROTOCOL_NOTES):
            lines += ["", note]
    if relied:
        lines += ["", "## Reliance on the image", "", *markdown(reliance_rows(relied)), "", NOTES]
    return "\n".join(lines) + "\n"


def _latex(tables: Sequence[Mapping[str, Any]], relied: Mapping[str, Any]) -> str:
    lines = [LATEX_PREAMBLE]
    for table in tables:
        name = table["dataset"]
        caption = " ".join([f"Accuracy on {name}.", *notes(table)]).replace("`", "")
        lines += ["", *latex(cell_groups(table), caption=caption, label=f"tab:{name}")]
        protocols = [[row[:1] + row[2:] for row in group] for group in protocol_groups(table)]
        caption = f"The same answers to {name} under the rules of other tools."
        lines += ["", *latex(protocols, caption=caption, label=f"tab:{name}-protocols")]
    if relied:
        head, *rows = reliance_rows(relied)
        lines += ["", *latex([[head], rows], caption=NOTES.replace("`", ""), label="tab:reliance")]
    return "\n".join(lines) + "\n"


def _csv_rows(tables: Sequence[Mapping[str, Any]], relied: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yields a line for each number, the form for pivot tables and data frames."""

    def row(keys: Sequence[str], metric: str, cell: Mapping[str, Any]) -> list[Any]:
        low, high = cell["interval"] or (None, None)
        return [*keys, metric, cell["value"], low, high, cell["n"], cell["n_images"], cell.get("unparsed")]

    for table in tables:
        for cell in table["cells"]:
            for column in rules.COLUMNS:
                keys = (table["dataset"], cell["field"], cell["value"], cell["run"])
                yield row(keys, column, cell[column])
        for run, found in table["metrics"].items():
            for metric, cell in found.items():
                yield row((table["dataset"], "overall", "", run), metric, cell)
    for run, by_image in relied.items():
        for image, found in by_image.items():
            for name in MEASURES:
                if name in found:
                    yield row(("", "reliance", image, run), name, found[name])


_CSV_HEADER = "dataset field value run metric score low high n n_images unparsed".split()


def write_tables(folder: Path, tables: Sequence[Mapping[str, Any]], relied: Mapping[str, Any]) -> None:
    """Writes table.csv, table.md and table.tex of `build_tables` and `reliance.of_scan`."""
    spreadsheet.write_csv(folder / "table.csv", _CSV_HEADER, _csv_rows(tables, relied))
    write_text(folder / "table.md", visible(_markdown(tables, relied)))
    write_text(folder / "table.tex", visible(_latex(tables, relied)))
