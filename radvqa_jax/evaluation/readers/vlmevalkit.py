"""Prediction files of VLMEvalKit: xlsx, tsv or csv with `index`, `answer` and `prediction` (commit e8e78f0).

The options of multiple choice are in columns A, B, C, …; `answer` is then a letter. The file is called
MODEL_DATASET.xlsx. Images are unknown unless there is a column `image_path`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from radvqa_jax import spreadsheet
from radvqa_jax.evaluation.readers import xlsx_cells
from radvqa_jax.evaluation.readers.foreign_rows import Row, optional, read_each, text_of

NAME = "vlmevalkit"
SUFFIXES = (".xlsx", ".tsv", ".csv")


def fits(header: list[str]) -> bool:
    """Whether the names of the columns look like such a file."""
    return {"index", "answer", "prediction"} <= set(header)


def read_table(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any], str]]]:
    """The names of the columns; and for each row its number, its cells and its fault, if it has one.

    The first data row is row 2, as spreadsheets show it.

    Raises:
        ValueError: if the file is not such a table, or names a column twice.
    """
    if path.suffix.lower() == ".xlsx":
        values: list[Any] = xlsx_cells.read_cells(path)
        header = [str(name).strip() for name in values[0]] if values else []
        spreadsheet.check_header(path, header)
        numbered: Iterator[tuple[int, Any]] = iter(enumerate(values[1:], 2))
    else:
        lines = spreadsheet.read_csv(path, delimiter="\t" if path.suffix.lower() == ".tsv" else "")
        header = next(lines)[1]
        numbered = ((number, row) for number, (_, row) in enumerate(lines, 2))

    def rows() -> Iterator[tuple[int, dict[str, Any], str]]:
        for number, row in numbered:
            if any(cell != "" for cell in row[len(header) :]):
                yield number, {}, f"has {len(row)} cells, but the header names {len(header)} columns"
            elif any(cell != "" for cell in row):
                yield number, {name: cell for name, cell in zip(header, row, strict=False) if cell != ""}, ""

    return header, rows()


def read(path: Path) -> Iterator[Row]:
    """Yields the rows of a file."""
    _, rows = read_table(path)

    def take(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        given = [letter for letter in ascii_uppercase if letter in row]
        if gaps := sorted(set(ascii_uppercase[: len(given)]) - set(given)):
            raise ValueError(f"option {gaps[0]} is empty, and {given[-1]} is not: what would the letters mean?")
        choices = [str(text_of(row, letter)) for letter in given]
        return {
            "question_id": text_of(row, "index"),
            "image_id": optional(row, "image_path", "image_id"),
            "question": optional(row, "question"),
            "reference": text_of(row, "answer"),
            "predictions": [optional(row, "prediction")],  # an empty cell is an empty answer
            "question_type": optional(row, "category", "l2-category"),
            "choices": choices,
            "source": optional(row, "dataset") or _dataset(path),
        }

    for number, row, problem in rows:
        if problem:
            yield Row(number, f"row {number}", {}, problem)
        else:
            yield from read_each([(number, row)], take, place="row")


def _names(path: Path) -> tuple[str, str]:
    """Model and data set of MODEL_DATASET.xlsx; a parent folder may bear the model's name, which may contain _."""
    for folder in path.resolve().parents[:3]:
        if folder.name and path.stem.startswith(f"{folder.name}_"):
            return folder.name, path.stem.removeprefix(f"{folder.name}_").lower()
    model, _, dataset = path.stem.partition("_")
    return model, dataset.lower()


def run_of(path: Path) -> str:
    """The model in the name of a file."""
    return _names(path)[0]


def _dataset(path: Path) -> str:
    return _names(path)[1]
