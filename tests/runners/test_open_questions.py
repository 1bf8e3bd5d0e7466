"""MedM's open questions that are grids, in shortened form: every kind of cell is trained and answered."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import paper_row
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners import RUNNERS, reproduce
from radvqa_jax.runners.shorten import shorten
from tests.runners.shared import MakeConfig

STAND_IN = "phantom_rad/tiny"


def run_short(micro_config: MakeConfig, folder: Path, form: str, names: tuple[str, ...]) -> dict[str, Any]:
    """ablations.json of these cells of configs/ablations.py:<form>, shortened."""
    given = micro_config({"mode": "reproduce", "eval.bootstrap": 20, "decode.batch_size": 4})
    recipe = shorten(reproduce.read_recipe(given, paper_row("", "", f"ablations.py:{form}")), STAND_IN)
    cells = {cell.name: shorten(cell, STAND_IN) for cell in recipe.ablations.cells}
    grid = dataclasses.replace(recipe.ablations, cells=tuple(cells[name] for name in names))
    decode = dataclasses.replace(recipe.decode, batch_size=4)  # one shape
    RUNNERS["ablations"](dataclasses.replace(recipe, ablations=grid, decode=decode), folder)
    return read_json(folder / "ablations.json")


@pytest.mark.slow
def test_shares_of_annealing_have_learning_curves_and_are_compared(micro_config: MakeConfig, tmp_path: Path) -> None:
    grid = run_short(micro_config, tmp_path, "annealing", ("0%, seed 0", "25%, seed 0"))
    assert [row["group"] for row in grid["groups"]] == ["0%", "25%"] and grid["groups"][1]["difference"] is not None
    curves = [read_jsonl(path) for path in tmp_path.glob("trained/*/stage2/losses.jsonl")]
    assert len(curves) == 2 and all("eval/loss_per_token" in curve[-1] for curve in curves)


@pytest.mark.slow
def test_questions_are_asked_in_a_row(micro_config: MakeConfig, tmp_path: Path) -> None:
    names = ("trained in a row, asked alone", "trained in a row, own answers", "trained alone, asked alone")
    grid = run_short(micro_config, tmp_path, "turns", names)
    found = {row["name"]: row for row in grid["cells"]}
    assert found[names[1]]["turns"] and found[names[1]]["about"]["history"] == "own"
    assert found[names[0]]["about"]["trained"] != found[names[2]]["about"]["trained"]
