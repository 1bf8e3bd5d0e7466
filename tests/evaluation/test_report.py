"""The report: the figures of scores.json and of the table, and files that read back the same."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.evaluation.report import ShownMap, build_scores, format_table
from radvqa_jax.evaluation.report_page import write_report
from radvqa_jax.evaluation.tables import format_cell
from radvqa_jax.files import read_json

from .report_case import experiment, png, records


def test_scores_have_every_run_next_to_its_baselines() -> None:
    scores: Any = build_scores(experiment(), resamples=200)
    stage2 = scores["runs"]["stage2"]
    assert stage2["overall"]["value"] == 0.9 and stage2["overall"]["n"] == 80 and stage2["overall"]["n_images"] == 20
    assert stage2["unseen"]["swapped"]["overall"]["value"] == 0.45
    assert stage2["over"]["question_only"]["overall"]["value"] == pytest.approx(0.4)
    assert stage2["over"]["swapped"]["overall"]["value"] == pytest.approx(0.45)
    low, high = stage2["over"]["question_only"]["overall"]["interval"]
    assert 0 < low < 0.4 < high
    assert "unseen" not in scores["runs"]["base"] and "reliance" not in scores["runs"]["base"]
    relied = stage2["reliance"]["another case's image"]
    assert relied["survival"]["value"] == 0.5 and relied["drop"]["value"] == pytest.approx(0.45)
    assert set(scores["baselines"]) == {"question_only", "majority"}
    closed, opened = (stage2["by"]["answer_type"][kind] for kind in ("closed", "open"))
    assert closed["n"] + opened["n"] == 80
    assert "plane" not in stage2["by"] and "modality" not in stage2["by"]


def test_scores_read_back_the_same(tmp_path: Path) -> None:
    made = experiment()
    scores = build_scores(made, resamples=200)
    write_report(tmp_path, made, scores=scores)
    assert read_json(tmp_path / "scores.json") == scores


def test_a_cell() -> None:
    assert format_cell({"value": 0.873, "interval": [0.85, 0.893], "n": 600}) == "0.873 [0.85, 0.89] n=600"
    assert format_cell({"value": -0.1, "interval": [-0.2, 0.0], "n": 6}, signed=True) == "-0.100 [-0.20, +0.00] n=6"
    assert format_cell({"value": 1.0, "interval": None, "n": 2}) == "1.000 [no interval] n=2"
    assert format_cell(None) == "-"


def test_table_for_the_terminal() -> None:
    table = format_table(build_scores(experiment(), resamples=200))
    lines = table.splitlines()
    assert [line.split("  ")[0] for line in lines if re.match(r"(before|after|question|majority)", line)] == [
        "before",
        "after stage 1",
        "after stage 2",
        "question only (no image)",
        "majority answer (no image)",
    ]
    assert re.search(
        r"^after stage 2 +0\.900 \[0\.\d\d, \S+\] n=80 +\S+ \[\S+ \S+\] n=40 +\S+ \[\S+ \S+\] n=40", table, re.M
    )
    assert re.search(r"^  over question only +\+0\.400 \[\+0\.\d\d, \+0\.\d\d\] n=80", table, re.M)
    assert "Synthetic data" in table and "80 questions on 20 images" in table
    assert max(map(len, lines)) <= 130


def test_contradictory_experiments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs runs with records"):
        build_scores(experiment(runs={}))
    with pytest.raises(ValueError, match=r"\['stage9'\], which are not among the runs"):
        build_scores(experiment(unseen={"swapped": {"stage9": records(0.5, run="stage9")}}))
    with pytest.raises(ValueError, match="1 are in only one of 'base' and 'stage2, swapped'"):
        build_scores(experiment(unseen={"swapped": {"stage2": records(0.5, run="stage2")[1:]}}))
    made = experiment(maps=[ShownMap("", "", "", "correct", png(), b"GIF89a", "")])
    with pytest.raises(ValueError, match=r"maps\[0\]\.map .*b'GIF89a'"):
        write_report(tmp_path, made, scores=build_scores(made, resamples=50))
    assert not list(tmp_path.iterdir())


def test_calibration_of_answers_with_known_probabilities(tmp_path: Path) -> None:
    sure = [r._replace(logprobs=[math.log(0.9 if i % 2 else 0.3)]) for i, r in enumerate(records(0.5, run="base"))]
    scores: Any = build_scores(experiment(runs={"base": sure}, unseen={}), resamples=50)
    found = scores["runs"]["base"]["calibration"]
    assert [round(each["confidence"], 3) for each in found["bins"]] == [0.3, 0.9] and found["n"] == 80
    accuracy = [each["accuracy"]["value"] for each in found["bins"]]
    assert found["ece"] == pytest.approx(sum(abs(a - p) for a, p in zip(accuracy, (0.3, 0.9), strict=True)) / 2)
    expected = np.mean([a * (p - 1) ** 2 + (1 - a) * p**2 for a, p in zip(accuracy, (0.3, 0.9), strict=True)])
    assert found["brier"]["value"] == pytest.approx(expected)
    assert "calibration" not in build_scores(experiment(), resamples=50)["runs"]["base"]
    unknown = [record._replace(image_id="") for record in sure]
    alone: Any = build_scores(experiment(runs={"base": unknown}, unseen={}), resamples=50)
    assert alone["runs"]["base"]["calibration"]["brier"]["n_images"] == 80


def test_cut_answers_are_counted_and_reported(tmp_path: Path) -> None:
    cut = [r._replace(ended=[i % 4 > 0]) for i, r in enumerate(records(0.5, run="stage1"))]
    made = experiment(runs={"base": records(0.3, run="base"), "stage1": cut}, unseen={})
    scores: Any = build_scores(made, resamples=50)
    assert scores["runs"]["stage1"]["cut"] == {"cut": 20, "of": 80} and "cut" not in scores["runs"]["base"]
    line = "after stage 1: decode.max_new_tokens cut 20 of 80 answers before they ended."
    assert line in format_table(scores)
    assert line in write_report(tmp_path, made, scores=scores).read_text(encoding="utf-8")
