"""A grid of ablations: the effect of each change of an experiment, every cell with its blind baselines.

A cell is compared with another one, pair by pair, where both ask the same questions: the difference with its interval
over images, McNemar's exact test and the test that flips whole images, both corrected by Holm over all comparisons of
the grid. A cell that could not be filled has the reason and no number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from radvqa_jax import __version__
from radvqa_jax.evaluation import comparison, intervals, scoring, turns
from radvqa_jax.evaluation.contradictions import score_contradictions
from radvqa_jax.evaluation.conversation_tables import format_conversations
from radvqa_jax.evaluation.nonsense import score_nonsense
from radvqa_jax.evaluation.tables import align, format_cell, format_p
from radvqa_jax.schema import Record

OTHER_QUESTIONS = "asks other questions"


@dataclass(frozen=True)
class CellAnswers:
    """The answers, baselines and provenance of one cell."""

    name: str
    changes: Sequence[str] = ()  # what differs from the experiment, in words
    against: str = ""  # the cell that it is compared with; empty = none
    records: Sequence[Record] = ()
    guesses: Mapping[str, Sequence[Record]] = field(default_factory=dict)  # baseline -> answers without a model
    empty: str = ""  # why there is no record
    about: Mapping[str, Any] = field(default_factory=dict)  # what it was made from, as JSON values
    group: str = ""  # cells that differ in their seed alone
    in_a_row: bool = False  # whether the questions of an image were asked in a row, with the earlier ones in the prompt


def _questions(records: Sequence[Record]) -> set[tuple[str, str]]:
    return {(record.source, record.question_id) for record in records}


def _score(cell: CellAnswers, **bootstrap: int) -> dict[str, Any]:
    """The figures of one cell: accuracy, baselines, paired gain over each, answers to nonsense questions."""
    records = cell.records
    found = scoring.score(records, **bootstrap).to_json()
    baselines, over = {}, {}
    for name, answers in cell.guesses.items():
        baselines[name] = scoring.score(answers, **bootstrap).to_json()["overall"]
        asked = _questions(answers)  # longest option, commonest letter: only questions with options
        same = [record for record in records if (record.source, record.question_id) in asked]
        over[name] = scoring.compare(same, answers, **bootstrap)["overall"]
    return {
        **found,
        "baselines": baselines,
        "over": over,
        "nonsense": score_nonsense(records, **bootstrap),
        "contradictions": score_contradictions(cell.records, **bootstrap),
        **({"held": turns.held(cell.records)} if cell.in_a_row else {}),
    }


def build_grid(cells: Sequence[CellAnswers], *, title: str, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Computes every number of the grid, as plain JSON values.

    Keys: `title`, `synthetic`, `method`, and `cells`, a list in the given order. A cell has `name`, `changes`, `about`;
    where there are answers `overall`, `by`, `baselines`, `over` ({baseline: paired difference}), `nonsense` and
    `contradictions`, else `empty`, the reason; where the questions of an image are asked in a row also `held`, what the
    prompts hold of the earlier turns, and `turns`, by turn against the cell it is compared with; and `compared`
    ({`with`, and what `comparison.compare_overall` gives, with p by Holm over all cells, or `why_not`}), None in a
    cell that is not compared.

    Raises:
        ValueError: if there is no cell, or one is compared with a cell that the grid does not have.
    """
    if not cells:
        raise ValueError("A grid needs at least one cell, and it has none.")
    bootstrap = {"resamples": resamples, "seed": seed}
    by_name = {cell.name: cell for cell in cells}
    rows, compared = [], []
    for cell in cells:
        row: dict[str, Any] = {"name": cell.name, "changes": list(cell.changes), "about": dict(cell.about)}
        row |= {"empty": cell.empty} if not cell.records else _score(cell, **bootstrap)
        row["compared"] = None
        if cell.against:
            if cell.against not in by_name:
                raise ValueError(f"Cell {cell.name!r} is compared with {cell.against!r}, which is not in the grid.")
            row["compared"] = {"with": cell.against} | _compare(cell, by_name[cell.against], **bootstrap)
            if "difference" in row["compared"]:
                compared.append(row["compared"])
                if cell.in_a_row:
                    row["turns"] = turns.score_turns(cell.records, by_name[cell.against].records, **bootstrap)
        rows.append(row)
    comparison.correct_for_number(compared)
    return {
        "title": title,
        "synthetic": any("synthetic" in r.source.split() for cell in cells for r in cell.records),
        "method": {
            "scorer": f"radvqa {__version__} rules, first prediction, unparsed counts as not correct",
            "interval": f"{intervals.METHOD}; a question without an image counts as one",
            "tests": f"paired; p corrected by Holm over {len(compared)} comparisons",
            "resamples": resamples,
            "seed": seed,
        },
        "cells": rows,
        "groups": compare_groups(cells, **bootstrap),
    }


def _mean_correct(cells: Sequence[CellAnswers]) -> tuple[np.ndarray, np.ndarray]:
    """([cells, n] right or wrong, images) of cells with the same questions, in the order of the first cell."""
    first = cells[0].records
    found = [scoring.correct_answers(scoring.first_verdicts(scoring.pair(first, cell.records))) for cell in cells]
    return np.stack(found), scoring.image_ids(first)


def compare_groups(cells: Sequence[CellAnswers], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The mean over the seeds of each group, and its paired difference from the first group's.

    A row has `group`, `seeds` (cells), `values` (accuracy of each), `overall`, the mean with its interval over images,
    and `difference`, None in the first group. The interval is over images, for these seeds; `values` show what another
    seed changes. Groups with an empty cell, or about other questions, have no row.
    """
    groups: dict[str, list[CellAnswers]] = {}
    for cell in cells:
        if cell.group:
            groups.setdefault(cell.group, []).append(cell)
    full = {name: own for name, own in groups.items() if all(cell.records for cell in own)}
    rows: list[dict[str, Any]] = []
    reference: CellAnswers | None = None
    for name, own in full.items():
        reference = reference or own[0]
        if any(_questions(cell.records) != _questions(reference.records) for cell in own):
            continue
        correct, images = _mean_correct([reference, *own])
        mean = correct[1:].mean(axis=0)
        base = _mean_correct([reference, *full[reference.group]])[0][1:].mean(axis=0)
        bootstrap: dict[str, Any] = {"resamples": resamples, "seed": seed}
        difference = None if reference is own[0] else intervals.paired_difference(mean, base, images, **bootstrap)
        rows.append(
            {
                "group": name,
                "seeds": len(own),
                "values": [float(row.mean()) for row in correct[1:]],
                "overall": scoring.cell_to_json(intervals.mean_interval(mean, images, **bootstrap)),
                "difference": None if difference is None else scoring.cell_to_json(difference),
            }
        )
    return rows


def format_groups(grid: Mapping[str, Any]) -> list[str]:
    """The groups as lines of a table; no lines if no cell has a group."""
    rows = [
        [
            row["group"],
            str(row["seeds"]),
            format_cell(row["overall"]),
            "(reference)" if row["difference"] is None else format_cell(row["difference"], signed=True, n=False),
            " ".join(f"{value:.3f}" for value in row["values"]),
        ]
        for row in grid["groups"]
    ]
    return align([["mean over seeds", "seeds", "accuracy", "minus reference", "each seed"], *rows]) if rows else []


def _compare(cell: CellAnswers, other: CellAnswers, **bootstrap: int) -> dict[str, Any]:
    if not cell.records or not other.records:
        return {"why_not": "empty"}
    if _questions(cell.records) != _questions(other.records):
        return {"why_not": OTHER_QUESTIONS}
    return comparison.compare_overall(cell.records, other.records, **bootstrap)


def nonsense_line(row: Mapping[str, Any]) -> str:
    """One line on a cell's replies to questions that have no answer; empty if it has no such question."""
    found = row.get("nonsense")
    if not found:
        return ""
    sure = f"; of all, made up with a probability of at least 0.5 {format_cell(found['confident'])}"
    said = f"refused {format_cell(found['refused'])}; made something up {format_cell(found['made_up'])}"
    return f"{row['name']}, questions that have no answer: {said}{sure if 'confident' in found else ''}."


def _text_row(row: Mapping[str, Any]) -> list[str]:
    if "overall" not in row:
        return [row["name"], "-", "-", "-", "-", "-", "-", ""]
    blind = row["baselines"].get("question_only")
    cells = [
        row["name"],
        format_cell(row["overall"]),
        "-" if blind is None else f"{blind['value']:.3f}",
        format_cell(row["over"].get("question_only"), signed=True, n=False),
    ]
    compared = row["compared"]
    if compared is None:
        tests = ["(reference)", "", ""]
    elif "difference" not in compared:
        tests = ["-", "-", "-"]
    else:
        difference = format_cell(compared["difference"], signed=True, n=False)
        tests = [difference, format_p(compared["p_mcnemar_holm"]), format_p(compared["p_images_holm"])]
    return [*cells, *tests, str(row["overall"]["unparsed"])]


def format_grid(grid: Mapping[str, Any]) -> str:
    """The grid as a table for the terminal, and below it what each cell changes and why a cell is empty."""
    header = ["cell", "accuracy", "question only", "over question only", "minus reference", "p McNemar", "p images"]
    lines = align([[*header, "unparsed"], *map(_text_row, grid["cells"])])
    lines.append("[95 % interval over images.] Differences are paired; p is corrected by Holm over all comparisons.")
    for row in grid["cells"]:
        said = [*row["changes"]]
        if row.get("empty"):
            said.append(f"EMPTY: {row['empty']}")
        if row["compared"]:
            why, other = row["compared"].get("why_not"), row["compared"]["with"]
            said.append(f"not compared with {other}: {why}" if why else f"compared with {other}")
        lines.append(f"{row['name']}: {'; '.join(said) or 'the experiment as it is'}")
    lines += filter(None, map(nonsense_line, grid["cells"]))
    lines += format_groups(grid)
    lines += format_conversations(grid)
    if grid["synthetic"]:
        lines.append("Synthetic data: these figures say nothing about real radiographs.")
    return "\n".join(lines)
