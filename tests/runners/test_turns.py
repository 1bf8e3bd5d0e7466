"""A grid whose questions are asked in a row: training, own answers, the blank twin, the tables; and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import CellConfig, Config, configs_folder, load_experiment
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.config.history import check_history
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json
from radvqa_jax.runners import RUNNERS, ablations, cell_questions
from radvqa_jax.training.stage import Trained
from tests.runners.shared import MakeConfig

IN_A_ROW = {
    "mode": "train",
    "decode.batch_size": 4,  # one shape
    "decode.max_new_tokens": 2,
    "data.prompt": "{history} answer en {question}",
    "data.history": "references",
    "data.seq_len": 64,
}
CELLS = (
    CellConfig("alone", history="none"),
    CellConfig("references"),
    CellConfig("own", history="own"),
    CellConfig("own, blank", history="own", image="blank", against="own"),
    CellConfig("trained alone", train_prompt="answer en {question}", history="own"),
)


def grid_of(config: Config, cells: tuple[CellConfig, ...] = CELLS) -> Config:
    grid = dataclasses.replace(config.ablations, cells=cells)
    return dataclasses.replace(config, mode="ablations", run_stages=("stage2",), ablations=grid)


@pytest.mark.slow
def test_a_grid_has_turns_contradictions_and_what_the_prompts_held(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[str, str]] = []
    train = ablations.train_stages

    def watched(loaded: Any) -> Trained:
        taught.append((loaded.config.data.prompt, loaded.config.data.history))
        return train(loaded)

    monkeypatch.setattr(ablations, "train_stages", watched)
    RUNNERS["ablations"](grid_of(micro_config(IN_A_ROW)), tmp_path)
    assert taught == [("{history} answer en {question}", "references"), ("answer en {question}", "none")]
    found = {row["name"]: row for row in read_json(tmp_path / "ablations.json")["cells"]}
    assert "turns" not in found["alone"] and "held" not in found["alone"]
    for name in ("references", "own", "own, blank", "trained alone"):
        rows = found[name]["turns"]
        assert sum(row["difference"]["n"] for row in rows) == found[name]["overall"]["n"] == 10
        assert found[name]["held"]["questions"] == 10 and found[name]["held"]["shown"] > 0
    for name, row in found.items():
        assert row["contradictions"]["rule"] == "contradictions 1"
        records = read_records(tmp_path / row["about"]["predictions"])
        assert any(record.history for record in records) == (name != "alone")
    page, text = ((tmp_path / f"ablations.{kind}").read_text() for kind in ("html", "txt"))
    assert "Questions in a row" in page and "the model&#39;s own answers" in page
    assert "own, blank: the prompts hold" in text and "trained alone  1 " in text


@pytest.mark.parametrize(
    ("changed", "cells", "message"),
    [
        (
            {"data.history": "own"},
            (),
            r"data\.history='own' fills \{history\}, which data\.prompt='answer en .* does not contain",
        ),
        (IN_A_ROW | {"mode": "job"}, (), "mode=job asks each question on its own"),
        ({}, (CellConfig("a", history="own"),), r"ablations\.cells\[0\] \(a\): history='own' fills \{history\}"),
        (IN_A_ROW, (CellConfig("a", image="swapped"),), "image='swapped' changes the image within a conversation"),
    ],
)
def test_questions_that_cannot_be_asked_in_a_row_are_refused(
    micro_config: MakeConfig, changed: dict[str, Any], cells: tuple[CellConfig, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config = micro_config({"mode": "train"} | changed)
        check_history(grid_of(config, cells) if cells else config)


def test_a_cell_whose_prompt_has_no_history_is_asked_alone(micro_config: MakeConfig) -> None:
    config = grid_of(micro_config(IN_A_ROW), (CellConfig("a", prompt="Q {question}"),))
    check_history(config)
    assert cell_questions.for_cell(config.ablations.cells[0], config).data.history == "none"


@pytest.mark.parametrize("form", ["turns", "turns_tiny"])
def test_every_cell_of_the_recipe_has_its_twin_without_an_image(form: str) -> None:
    config = from_config_dict(load_experiment(str(configs_folder() / f"ablations.py:{form}")))
    cells = {cell.name: cell for cell in config.ablations.cells}
    assert len(cells) == 12 and {cell.history for cell in cells.values()} == {"none", "references", "own"}
    for name, cell in cells.items():
        assert cells[cell.against].history == "none" and cells[cell.against].image == cell.image
        twin = cells[f"{name}, blank image" if cell.image == "own" else name.removesuffix(", blank image")]
        assert (twin.history, twin.train_prompt) == (cell.history, cell.train_prompt) and twin.image != cell.image
