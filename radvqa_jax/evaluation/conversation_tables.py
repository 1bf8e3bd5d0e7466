"""Tables of questions that are asked in a row, and of answers about one image that contradict each other."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from radvqa_jax.evaluation.tables import align, format_cell

TURNS = ("cell", "turn", "accuracy", "compared with", "its accuracy", "difference")
PAIRS = ("cell", "which pairs", "contradictory", "images", "of the references")


class TurnLine(NamedTuple):
    """One turn of one cell: cells as plain values."""

    name: str
    turn: str
    overall: Mapping[str, Any]
    against: str
    other: Mapping[str, Any]
    difference: Mapping[str, Any]


class PairLine(NamedTuple):
    """The pairs of one kind of one cell."""

    name: str
    kind: str
    found: Mapping[str, Any]
    references: Mapping[str, Any]  # empty but for all kinds together


def turn_lines(grid: Mapping[str, Any]) -> list[TurnLine]:
    """One line for each turn of each cell whose questions are asked in a row."""
    return [
        TurnLine(row["name"], each["turn"], each["overall"], row["compared"]["with"], each["other"], each["difference"])
        for row in grid["cells"]
        for each in row.get("turns", ())
    ]


def pair_lines(grid: Mapping[str, Any]) -> list[PairLine]:
    """A line for all pairs of each cell that has one, and for each kind of them."""
    found = []
    for row in grid["cells"]:
        pairs = row.get("contradictions")
        if pairs and pairs["overall"]:
            found.append(PairLine(row["name"], "all", pairs["overall"], pairs["references"]))
            found += [PairLine(row["name"], kind, cell, {}) for kind, cell in pairs["by"].items()]
    return found


def held_lines(grid: Mapping[str, Any]) -> list[str]:
    """One sentence for each cell on the earlier turns in its prompts."""
    return [
        f"{row['name']}: the prompts hold {held['shown']:,} of {held['turns']:,} earlier turns of "
        f"{held['questions']:,} questions; {held['too_long']:,} of the oldest did not fit the text length, "
        f"{held['repeated']:,} were the question itself."
        for row in grid["cells"]
        if (held := row.get("held"))
    ]


def _of(cell: Mapping[str, Any]) -> str:
    return f"{cell['contradictory']} of {cell['n']}" if cell else "-"


def format_conversations(grid: Mapping[str, Any]) -> list[str]:
    """Both tables for the terminal; a table without a line is left out."""
    by_turn: Iterable[list[str]] = (
        [
            line.name,
            line.turn,
            format_cell(line.overall),
            line.against,
            format_cell(line.other),
            format_cell(line.difference, signed=True, n=False),
        ]
        for line in turn_lines(grid)
    )
    by_kind: Iterable[list[str]] = (
        [
            line.name,
            line.kind,
            f"{format_cell(line.found, n=False)} {_of(line.found)}",
            str(line.found["n_images"]),
            _of(line.references),
        ]
        for line in pair_lines(grid)
    )
    lines: list[str] = []
    for head, rows in ((TURNS, list(by_turn)), (PAIRS, list(by_kind))):
        if rows:
            lines += ["", *align([list(head), *rows])]
    return [*lines, *held_lines(grid)]
