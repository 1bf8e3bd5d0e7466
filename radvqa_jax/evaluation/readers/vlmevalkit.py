"""Prediction files of VLMEvalKit: xlsx, tsv or csv with `index`, `answer` and `prediction` (commit e8e78f0).

The options of multiple choice are in columns A, B, C, …; `answer` is then a letter. The file is called
MODEL_DATASET.xlsx. Images are unknown unless there is a column `image_path`.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import python_calamine

from radvqa_jax.evaluation.readers.rows import Row, optional, read_each, text_of

NAME = "vlmevalkit"
SUFFIXES = (".xlsx", ".tsv", ".csv")
MAX_BYTES = 2**30  # of a table; more is no file of answers


def fits(header: list[str]) -> bool:
    """Returns whether the names of the columns look like such a file."""
    return {"index", "answer", "prediction"} <= set(header)


def read_table(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """Returns the names of the columns and the numbered rows of a table; the first data row is row 2, as it is shown.

    Raises:
        ValueError: if the file is no such table.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a table of answers may have {MAX_BYTES}.")
    if path.suffix.lower() == ".xlsx":
        try:
            with zipfile.ZipFile(path) as archive:
                if (size := sum(member.file_size for member in archive.infolist())) > MAX_BYTES:
                    raise ValueError(f"{path} unpacks to {size} bytes; a table of answers may have {MAX_BYTES}.")
            book = python_calamine.load_workbook(path)
            values = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
        except (python_calamine.CalamineError, zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path} is not a readable xlsx file: {error}.") from error
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            values = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}). Save it as UTF-8.") from error
        except csv.Error as error:
            raise ValueError(f"{path} is not a table: {error}.") from error
    header = [str(name).strip() for name in values[0]] if values else []

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in enumerate(values[1:], 2):
            if any(cell != "" for cell in row):
                yield number, {name: cell for name, cell in zip(header, row, strict=False) if cell != ""}

    return header, rows()


def read(path: Path) -> Iterator[Row]:
    """Yields the rows of a file."""
    header, rows = read_table(path)
    letters = [letter for letter in ascii_uppercase if letter in header]

    def take(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        choices = [str(text_of(row, letter)) for letter in letters if letter in row]
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

    return read_each(rows, take, place="row")


def _names(path: Path) -> tuple[str, str]:
    """Returns model and data set of MODEL_DATASET.xlsx; a folder above may be called as the model, which may hold _."""
    for folder in path.resolve().parents[:3]:
        if folder.name and path.stem.startswith(f"{folder.name}_"):
            return folder.name, path.stem.removeprefix(f"{folder.name}_").lower()
    model, _, dataset = path.stem.partition("_")
    return model, dataset.lower()


def run_of(path: Path) -> str:
    """Returns the model in the name of a file."""
    return _names(path)[0]


def _dataset(path: Path) -> str:
    return _names(path)[1]
