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
