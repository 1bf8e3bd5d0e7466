"""CSV tables with a quote that is not closed: it costs its own row, and no other one."""

import io
import itertools
from pathlib import Path

import pytest

from tfds_builders.csv_quotes import UNCLOSED, csv_rows, holds_rows

from .table_case import all_rows, build

HEAD = "image,question,answer\n"


def read(text: str, *, columns: int = 3) -> list[tuple[int, list[str], str]]:
    return list(csv_rows(list(io.StringIO(HEAD + text, newline="")), columns=columns, mark=","))


def table(cells: dict[int, str], *, rows: int = 12, end: str = "\n") -> str:
    return "".join(f"{row}.png,q{row}?,{cells.get(row, f'a{row}')}{end}" for row in range(1, rows + 1))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "cells",
    [
        {3: '"5 cm mass'},
        {3: '"5 cm mass', 4: 'about 5"'},
        {3: '"5 cm mass', 9: 'about 5"'},
        {3: '"5 cm mass', 9: 'a 5" mass'},
        {3: '"5 cm" mass'},
    ],
    ids=["to the end", "to the next row", "to a later row", "to a quote within a cell", "in its own row"],
)
def test_a_quote_that_is_not_closed_costs_its_own_row(cells: dict[int, str], end: str) -> None:
    found = read(table(cells, end=end))
    assert [number for number, _, _ in found] == list(range(2, 14))
    assert [number for number, _, fault in found if fault] == [4]
    assert [row[0] for _, row, fault in found if not fault] == [f"{row}.png" for row in range(1, 13) if row != 3]


def test_a_quote_in_an_earlier_column_costs_its_own_row() -> None:
    assert holds_rows(["1.png", "q one,a1\n2.png,q2", "a2"], columns=3, mark=",")
    assert holds_rows(["5 cm mass,1.png\nabout 5", "2.png"], columns=2, mark=",")
    rows = "\n".join(f"{row},what is it,a {row}" for row in "abcde")
    assert holds_rows(["z", "what", f"so\n{rows}"], columns=3, mark=",")  # no identifiers, but many rows
    assert not holds_rows(["z", "what", f"so\n{rows}\nand more"], columns=3, mark=",")


@pytest.mark.parametrize(
    "cell",
    [
        "Chest, PA.\nNo effusion, no mass",
        "Chest.\nNo effusion, no mass.\n\nImpression: normal",
        "1. left, right\n2. up, down, none",
        "WBC,5.0,x\nRBC,4.1,y\nHb,13,z\nPlt,200,w",
        "The following levels:\nL4, L5, S1",
        "The following levels:\nL4, L5",
        "Sequence and finding:\nT2, hyperintense",
        "X-ray,\nwell-defined, left",
        "Nodules, mm:\n12, 5\n8, 3",
        "Sizes:\n13, 5, 7",
        "Sizes:\n13, 5",
        "a\nb",
        "\n",
    ],
)
@pytest.mark.parametrize("row_id", ["1.png", "q1", "12", "img1", "X-ray"])
def test_a_text_of_several_lines_stays(cell: str, row_id: str) -> None:
    for columns, place in itertools.product((2, 3, 4), (0, 1)):
        cells = [row_id, *["yes"] * (columns - 1)]
        cells[place] = cell
        text = ",".join(f'"{one}"' for one in cells) + "\n"
        assert read(text + text, columns=columns) == [
            (2, cells, ""),
            (2 + text.count("\n"), cells, ""),
        ]


def test_rows_that_are_numbered_or_have_a_delimiter_behind_the_quote_are_recognised() -> None:
    assert holds_rows(["1", "size?", "5 cm\n2,side,left\n3,mass,"], columns=3, mark=",")
    assert holds_rows(["a.png", "5 cm mass, left\nb.png,no mass\nc.png,"], columns=2, mark=",")


def test_empty_lines_and_numbers_of_any_length_are_read() -> None:
    assert holds_rows(["1.png", "size?", "5 cm\n\n2.png,side,left\n\n3.png,mass,"], columns=3, mark=",")
    assert not holds_rows(["9" * 5000, "size?", f"5 cm\n{'9' * 4999}8,side,left"], columns=3, mark=",")


def test_the_build_lists_the_row_with_its_line(folder: Path, tmp_path: Path) -> None:
    rows = [f"images/{'ab'[number % 2]}.png,what {number}?,x" for number in range(18)]
    rows[5] = rows[5].removesuffix("x") + '"5 cm'
    (folder / "t.csv").write_text(HEAD + "\n".join(rows) + "\n")
    built = build(folder, tmp_path / "data")
    assert len(all_rows(built)) == 17
    assert built.of("dropped") == {"row 6": [f"line 7 cannot be read: {UNCLOSED}"]}
