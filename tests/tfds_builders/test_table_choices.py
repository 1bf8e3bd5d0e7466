"""The choices of a row of a table: read from one cell, and refused where their letters may mean others."""

from pathlib import Path
from typing import Any

import pytest

from tfds_builders.table.columns import Columns, split_choices

from .table_case import ROW, all_rows, build, write_csv


def test_choices_in_one_cell_are_read() -> None:
    assert split_choices({"A": "CT", "B": 2}) == ["CT", "2"]
    with pytest.raises(ValueError, match="not JSON"):
        split_choices("[CT")
    with pytest.raises(ValueError, match="one choice"):
        split_choices("CT")
    assert split_choices({"B": "MRI", "A": "CT"}) == ["CT", "MRI"]
    assert split_choices("CT|MRI|") == split_choices(["CT", "MRI", None]) == ["CT", "MRI"]  # rows of fewer options


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("left||right", "option 2 of 3 is empty"),
        ("|left|right", "option 1 of 3 is empty"),
        ('["left", "", "right"]', "option 2 of 3 is empty"),
        (["left", None, "right"], "option 2 of 3 is empty"),
        ({"A": "left", "C": "right"}, "lettered A, C instead of A, B"),
    ],
)
def test_options_whose_letters_may_mean_others_are_refused(cell: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_choices(cell)
    if isinstance(cell, str) and "|" in cell:
        with pytest.raises(ValueError, match=message):
            columns = Columns(["image", "question", "answer", "a", "b", "c"], mapped=[("choices", c) for c in "abc"])
            columns.choices(dict(zip("abc", cell.split("|"), strict=False)))


def test_choices_with_the_letters_of_other_places_are_left_out(folder: Path, tmp_path: Path) -> None:
    good = ROW | {"choices": '["A. left", "B. right"]', "answer": "B"}
    write_csv(folder / "t.csv", [good, good | {"image": "images/b.png", "choices": '["B. left", "A. right"]'}])
    built = build(folder, tmp_path / "data")
    assert [row["answer"] for row in all_rows(built)] == ["B. right"]
    (reason,) = built.of("dropped").values()
    assert "another order than their letters" in str(reason)


@pytest.mark.parametrize("index", ["1.0", "1", "B", "1.00"])
def test_an_index_with_the_decimals_of_a_column_with_a_gap_is_read(index: str, folder: Path, tmp_path: Path) -> None:
    row = ROW | {"choices": "CT | MRI | US", "answer": "", "split": "test"}
    write_csv(folder / "t.csv", [row | {"answer_index": index}, row | {"answer_index": "1.5"}])
    built = build(folder, tmp_path / "data")
    assert [(row["answer"], row["answer_index"]) for row in all_rows(built)] == [("MRI", 1)]
    assert built.of("dropped") == {"row 2": ["the right choice is none of them"]}


@pytest.mark.parametrize(
    ("answer", "index", "place"),
    [
        ("Focal uptake", "B", 1),
        ("focal  uptake", "", 1),  # the text alone
        ("B:Focal uptake", "B", 1),
        ("None", "C", 2),
        ("B", "B", 1),
        ("No uptake", "B", -1),  # the text of another one than the letter's
        ("A:No uptake", "B", -1),
        ("A", "1", -1),
    ],
)
def test_options_with_their_letters_are_named_by_their_texts_too(
    answer: str, index: str, place: int, folder: Path, tmp_path: Path
) -> None:
    choices = ["A:No uptake", "B:Focal uptake", "C: None"]
    row = ROW | {"choices": " | ".join(choices), "split": "test"}
    write_csv(
        folder / "t.csv", [row | {"answer": "A", "answer_index": "0"}, row | {"answer": answer, "answer_index": index}]
    )
    built = build(folder, tmp_path / "data")
    assert [row["answer"] for row in all_rows(built)] == [choices[0], *([choices[place]] if place >= 0 else [])]
    assert [reason[0].endswith("name different choices") for reason in built.of("dropped").values()] == [True] * (
        place < 0
    )
    assert "none of the choices" not in str(built.of("repaired"))
