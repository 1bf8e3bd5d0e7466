"""CSV with our names of columns, one row a question.

Columns, by the names of `schema.Record`: `question_id`, `image_id`, `question`, `reference` and `prediction` must be
there; several answers go in `prediction_1`, `prediction_2`, …; `choices` are separated by `|`; `answer_type`,
`question_type`, `organ`, `modality`, `plane`, `language`, `prompt`, `image_used`, `run` and `source` are optional, and
so is `logprob` (`logprob_1`, …), the natural logarithm of an answer's probability. Other columns are refused unless
the user names them to be ignored, because a typing error would lose data silently.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import spreadsheet
from radvqa_jax.evaluation.readers.foreign_rows import Row
from radvqa_jax.spreadsheet import shown
from radvqa_jax.trees import nearest

NAME = "csv"

NEEDED = ("question_id", "image_id", "question", "reference")
OPTIONAL = tuple("answer_type question_type organ modality plane prompt image_used run source language".split())
_NUMBERED = re.compile(r"(prediction|logprob)(?:_([1-9]\d*))?")


def _check_header(header: list[str], ignored: Collection[str], path: Path) -> dict[str, list[str]]:
    """{prediction: its columns in order, logprob: its columns in order}."""
    known = {*NEEDED, *OPTIONAL, "choices", *ignored}
    if absent := sorted(set(ignored) - set(header)):
        raise ValueError(f"{path} has no column {absent[0]!r} to ignore.{nearest(absent[0], header)}")
    if repeated := spreadsheet.repeated_of(header):
        raise ValueError(f"{path}: the columns {repeated} occur twice.")
    numbered: dict[str, dict[int, str]] = {"prediction": {}, "logprob": {}}
    for name in header:
        if match := _NUMBERED.fullmatch(name):
            numbered[match[1]][int(match[2] or 0)] = name
        elif name not in known:
            near = nearest(name, [*NEEDED, *OPTIONAL, "choices", "prediction", "logprob"])
            raise ValueError(
                f"{path}: unknown column {name!r}.{near} Remove or rename it, or convert the file with "
                f"scripts/to_predictions.py: --ignore {name} leaves it out, --column OURS={name} names ours."
            )
    missing = [name for name in NEEDED if name not in header] + ["prediction"] * (not numbered["prediction"])
    if missing:
        raise ValueError(
            f"{path} lacks the columns {missing}; it has {shown(header)}. Rename them, or convert the file with "
            "scripts/to_predictions.py: --column NEEDED=YOURS."
        )
    if numbered["logprob"] and set(numbered["logprob"]) != set(numbered["prediction"]):
        raise ValueError(
            f"{path}: either every prediction or no prediction needs a logprob; the columns are {shown(header)}."
        )
    for kind, found in numbered.items():
        if len(found) > 1 and set(found) != set(range(1, len(found) + 1)):
            raise ValueError(
                f"{path}: {kind} columns must be numbered 1, 2, …; they are {shown(sorted(found.values()))}."
            )
    return {kind: [found[number] for number in sorted(found)] for kind, found in numbered.items()}


def _logprob(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value <= 0:  # also catches NaN
        raise ValueError(f"a logprob must be a number not above 0 (ln of a probability); got {text!r}.")
    return value


def _fields(row: Mapping[str, str], columns: dict[str, list[str]]) -> dict[str, Any]:
    for name in ("question_id", "image_id", "reference"):
        if not row[name].strip():
            raise ValueError(f"{name} is empty. Fill it in or remove the row.")
    choices = [choice.strip() for choice in row.get("choices", "").split("|")] if row.get("choices") else []
    return {
        "question_id": row["question_id"].strip(),
        "image_id": row["image_id"].strip(),
        "question": row["question"],
        "reference": row["reference"],
        "predictions": [row[name] for name in columns["prediction"]],
        "logprobs": [_logprob(row[name]) for name in columns["logprob"]],
        "choices": choices,
        **{name: row[name].strip() for name in OPTIONAL if row.get(name)},
    }


def read_header(path: Path) -> list[str]:
    """The names of the columns of a CSV file, from its first line."""
    return next(spreadsheet.read_csv(path))[1]


def read(path: Path, *, renamed: Mapping[str, str], ignored: Collection[str]) -> Iterator[Row]:
    """Yields the rows of a CSV file, UTF-8 with or without a byte order mark.

    Args:
        path: the file; its first line names the columns.
        renamed: our name of a column -> the file's name.
        ignored: columns to leave out.

    Raises:
        ValueError: if the file as a whole cannot be read: its encoding, its header, its quotes.
    """
    back = {theirs: ours for ours, theirs in renamed.items()}
    rows = spreadsheet.read_csv(path)
    theirs = next(rows)[1]
    if absent := sorted(set(back) - set(theirs)):
        raise ValueError(f"{path} has no columns {absent}, which --column names; it has {shown(theirs)}.")
    header = [back.get(name, name) for name in theirs]
    columns = _check_header(header, ignored, path)
    for line, values in rows:
        try:
            fields = _fields(spreadsheet.named(header, values), columns)
        except ValueError as error:
            yield Row(line, f"line {line}", {}, str(error).rstrip("."))
        else:
            yield Row(line, f"line {line}", fields, "")
