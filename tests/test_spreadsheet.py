"""CSV for spreadsheets: nothing runs, nothing is lost."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radvqa_jax.evaluation.convert import detect
from radvqa_jax.spreadsheet import DELIMITERS, MOST_COLUMNS, is_filled, original_cell, read_csv, safe_cell, write_csv

from .hostile.limits import survives

EVIL = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "|calc",
    "%x",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
]


@pytest.mark.parametrize("text", EVIL)
def test_no_cell_is_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@given(st.text())
def test_what_was_written_is_read_back(text: str) -> None:
    assert original_cell(safe_cell(text)) == text


def test_a_table_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert write_csv(path, ["=a", "b"], [["=1+1", -1.5], ['x\n"y"', None], ["\ud800", True]]) == 3
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [["'=a", "b"], ["'=1+1", "-1.5"], ['x\n"y"', ""], ["?", "True"]]
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")

    def broken() -> list[list[str]]:
        raise RuntimeError("half")

    with pytest.raises(RuntimeError):
        write_csv(path, ["z"], (row for row in broken()))
    assert path.read_bytes().startswith(b'\xef\xbb\xbf"\'=a"')


@pytest.mark.parametrize("names", ["," * 1_000_004, ",".join(map(str, range(100_000))), '"\n",' * 200_000])
def test_too_many_columns_are_refused_at_once(tmp_path: Path, names: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{names}\n{',' * 1_000_004}\n")
    survives(lambda: detect(path))
    with pytest.raises(ValueError, match=r"t\.csv.*; a table may have 16,384( columns)?\. Leave out"):
        detect(path)


def test_as_many_columns_as_a_sheet_has_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    names = [f"column {number}" for number in range(MOST_COLUMNS)]
    write_csv(path, names, [range(MOST_COLUMNS)])
    survives(lambda: list(read_csv(path)))
    assert [len(row) for _, row in read_csv(path)] == [MOST_COLUMNS] * 2
    write_csv(path, ["a", "b", "", "a", ""], [])
    with pytest.raises(ValueError, match=r"the columns \['a'\] occur twice"):
        next(read_csv(path))


@pytest.mark.parametrize("mark", DELIMITERS)
@pytest.mark.parametrize("first", ["", "sep={}\r\n"])
def test_the_delimiter_of_any_country_is_read(tmp_path: Path, mark: str, first: str) -> None:
    """Spreadsheets write semicolons in countries with a decimal comma."""
    rows = [["run", "note, if any", "x"], ["a", "left; right\tor, both", "1,5"], ["b", "two\nlines", ""]]
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.write(first.format(mark))
        csv.writer(file, delimiter=mark).writerows(rows)
    numbers, found = zip(*read_csv(path), strict=True)
    assert list(found) == rows and numbers == tuple(n + bool(first) for n in (1, 2, 4))


def test_a_sheet_that_was_saved_with_semicolons_counts_as_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("run;correct;comment\na;;\n")
    assert not is_filled(path, ["correct", "comment"])
    path.write_text("run;correct;comment\na;yes;\n")
    assert is_filled(path, ["correct", "comment"])
