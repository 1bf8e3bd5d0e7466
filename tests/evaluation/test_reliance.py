"""The measures of a run's answers to its own images compared with those to other images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.evaluation import intervals, reliance
from radvqa_jax.evaluation.scan import scan
from radvqa_jax.files import write_jsonl
from radvqa_jax.schema import Record

# Own and other right: 30 both, 20 only own, 10 only other, 40 neither; two questions to an image.
OWN = np.array([True] * 50 + [False] * 50)
OTHER = np.array([True] * 30 + [False] * 20 + [True] * 10 + [False] * 40)
CHANGED = np.array([False] * 30 + [True] * 35 + [False] * 35)
IMAGES = np.random.default_rng(3).permutation(np.repeat(np.arange(50), 2))


def test_the_measures_are_their_definitions() -> None:
    found = reliance.measure(OWN, OTHER, CHANGED, IMAGES)
    assert {name: cell["value"] for name, cell in found.items()} == pytest.approx(
        {"survival": 30 / 50, "retained": 40 / 50, "drop": 0.5 - 0.4, "changed": 0.35}
    )
    assert found["survival"]["n"] == 50 and {found[name]["n"] for name in ("retained", "drop", "changed")} == {100}
    for name, cell in found.items():
        low, high = cell["interval"]
        assert low < cell["value"] < high, name


def test_the_intervals_are_those_of_paired_resampling_of_images() -> None:
    found = reliance.measure(OWN, OTHER, CHANGED, IMAGES, resamples=4000, seed=1)
    rng = np.random.default_rng(7)
    draws = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(image == IMAGES) for image in rng.integers(0, 50, 50)])
        draws.append((OWN[rows].mean() - OTHER[rows].mean(), OTHER[rows].sum() / OWN[rows].sum(), CHANGED[rows].mean()))
    for name, wanted in zip(("drop", "retained", "changed"), np.transpose(draws), strict=True):
        assert found[name]["interval"] == pytest.approx(np.quantile(wanted, intervals.PERCENTILES), abs=0.025), name


def test_without_a_right_answer_there_is_nothing_to_survive() -> None:
    found = reliance.measure(~OWN & False, OTHER, CHANGED, IMAGES)
    assert set(found) == {"drop", "changed"} and found["drop"]["value"] == pytest.approx(-0.4)


def test_records_are_paired_by_question_and_answers_compared_by_what_they_say() -> None:
    def record(number: int, answer: str) -> Record:
        return Record(f"q{number}", f"i{number}", "Is there a mass?", "yes", [answer], [], source="s")

    own = [record(0, "Yes."), record(1, "Yes, a mass."), record(2, "no"), record(3, "unsure")]
    other = [record(3, "who knows"), record(2, "No mass is seen."), record(1, "no"), record(0, "Answer: yes")]
    found = reliance.of_records(own, other, resamples=100)
    assert found["survival"]["value"] == 0.5 and found["changed"]["value"] == 0.25
    with pytest.raises(ValueError, match="the same questions in both; 1 are in one only"):
        reliance.of_records(own, other[1:])


def test_lines_of_a_file_that_were_asked_something_else_are_no_pairs(tmp_path: Path) -> None:
    """In files without ids of their own the place is the id, and another order gives other pairs."""

    def scanned(order: list[int]) -> tuple[dict[str, Any], list[list[str]]]:
        own = [Record(f"{n}", f"i{n}", f"Is {n} seen?", "yes", ["yes"], source="s", run="m") for n in range(8)]
        other = [own[n]._replace(question_id=f"{place}", image_used="x") for place, n in enumerate(order)]
        path = tmp_path / "predictions.jsonl"
        write_jsonl(path, [record.to_json() for record in (*own, *other)])
        (cells,) = (by_image for by_image in reliance.of_scan(scan([path], tmp_path), resamples=50).values())
        return next(iter(cells.values())), reliance.reliance_rows({"m": cells})

    found, _ = scanned(list(range(8)))
    assert found["survival"]["n"] == 8 and found["n_unpaired"] == 0
    found, rows = scanned([0, 1, 2, 3, 5, 4, 7, 6])
    assert found["survival"]["n"] == 4 and found["n_unpaired"] == 8
    assert rows[1][1].endswith("; 8 answers without a partner")
    left_out = [Record("0", "i", "", "Yes", ["no"], source="s", run="m", image_used=used) for used in ("i", "x")]
    path = tmp_path / "left_out.jsonl"
    write_jsonl(path, [left_out[0]._replace(question="Is it seen?", reference="yes").to_json(), left_out[1].to_json()])
    (cells,) = (by_image for by_image in reliance.of_scan(scan([path], tmp_path), resamples=50).values())
    assert next(iter(cells.values()))["n_unpaired"] == 0  # a file may leave out the question
    found, rows = scanned([1, 0, 3, 2, 5, 4, 7, 6])
    assert found == {"n_unpaired": 16} and rows[1][2:] == ["-"] * 4


def test_the_table_names_the_measures_and_marks_the_sign() -> None:
    cells = reliance.measure(OWN, OTHER, CHANGED, IMAGES, resamples=100)
    head, row = reliance.reliance_rows({"model": {"a blank image": cells}})
    assert head == ["run", "with", *reliance.MEASURES] and row[:2] == ["model", "a blank image"]
    assert row[2].startswith("0.600 [") and row[4].startswith("+0.100 [")
    assert reliance.reliance_rows({}) == [head]
