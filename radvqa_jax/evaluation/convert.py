"""Answers of any other system, as CSV, into predictions.jsonl.

One row a question. Columns, by the names of `schema.Record`: `question_id`, `image_id`, `question`, `reference` and
`prediction` must be there; several answers go in `prediction_1`, `prediction_2`, …; `choices` are separated by `|`;
`answer_type`, `question_type`, `organ`, `modality`, `plane`, `prompt`, `image_used`, `run` and `source` are optional,
and so is `logprob` (`logprob_1`, …), the natural logarithm of an answer's probability. Other columns are refused unless
they are named as to be ignored: a typing error would lose data in silence.
"""

import csv
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from radvqa_jax.files import write_jsonl
from radvqa_jax.schema import Record
from radvqa_jax.trees import nearest

NEEDED = ("question_id", "image_id", "question", "reference")
OPTIONAL = tuple("answer_type question_type organ modality plane prompt image_used run source language".split())
_NUMBERED = re.compile(r"(prediction|logprob)(?:_([1-9]\d*))?")


def _check_header(header: list[str], ignored: Collection[str], path: Path) -> dict[str, list[str]]:
    """Returns {prediction: its columns in order, logprob: its columns in order}."""
    known = {*NEEDED, *OPTIONAL, "choices", *ignored}
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: the columns {repeated} occur twice.")
    numbered: dict[str, dict[int, str]] = {"prediction": {}, "logprob": {}}
    for name in header:
        if match := _NUMBERED.fullmatch(name):
            numbered[match[1]][int(match[2] or 0)] = name
        elif name not in known:
            near = nearest(name, [*NEEDED, *OPTIONAL, "choices", "prediction", "logprob"])
            raise ValueError(
                f"{path}: unknown column {name!r}.{near} To leave it out, give --ignore {name}; if it is one of ours, "
                f"say which: --column OURS={name}."
            )
    missing = [name for name in NEEDED if name not in header] + ["prediction"] * (not numbered["prediction"])
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {header}. Rename with --column NEEDED=YOURS.")
    if numbered["logprob"] and set(numbered["logprob"]) != set(numbered["prediction"]):
        raise ValueError(f"{path}: every prediction needs its logprob, or none; the columns are {header}.")
    for kind, found in numbered.items():
        if len(found) > 1 and set(found) != set(range(1, len(found) + 1)):
            raise ValueError(f"{path}: {kind} columns must be numbered 1, 2, …; they are {sorted(found.values())}.")
    return {kind: [found[number] for number in sorted(found)] for kind, found in numbered.items()}


def _logprob(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value <= 0:  # also catches NaN
        raise ValueError(f"{where}: a logprob must be a number not above 0 (ln of a probability); got {text!r}.")
    return value


def _record(row: Mapping[str, str], columns: dict[str, list[str]], *, run: str, where: str) -> Record:
    for name in ("question_id", "image_id", "reference"):
        if not row[name].strip():
            raise ValueError(f"{where}: {name} is empty. Fill it in or remove the row.")
    choices = [choice.strip() for choice in row.get("choices", "").split("|")] if row.get("choices") else []
    fields: Any = {"run": run} | {name: row[name].strip() for name in OPTIONAL if row.get(name)}
    return Record(
        question_id=row["question_id"].strip(),
        image_id=row["image_id"].strip(),
        question=row["question"],
        reference=row["reference"],
        predictions=[row[name] for name in columns["prediction"]],
        logprobs=[_logprob(row[name], where=where) for name in columns["logprob"]],
        choices=choices,
        **fields,
    )


def read_csv(
    path: Path, *, run: str = "", renamed: Mapping[str, str] | None = None, ignored: Collection[str] = ()
) -> list[Record]:
    """Returns the records of a CSV file, UTF-8 with or without a byte order mark.

    Args:
        path: the file; its first line names the columns.
        run: which system this is, where no column says so; the file's name if empty.
        renamed: name of a column as it should be -> as the file has it.
        ignored: columns to leave out.

    Raises:
        ValueError: naming the file, the line and the way out; no row is skipped.
    """
    back = {theirs: ours for ours, theirs in (renamed or {}).items()}
    records: list[Record] = []
    seen: dict[tuple[str, str, str], int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            theirs = [name.strip() for name in next(reader, [])]
            if absent := sorted(set(back) - set(theirs)):
                raise ValueError(f"{path} has no columns {absent}, which --column names; it has {theirs}.")
            header = [back.get(name, name) for name in theirs]
            columns = _check_header(header, ignored, path)
            for values in reader:
                where = f"{path}, line {reader.line_num}"
                if not values:
                    continue
                if len(values) != len(header):
                    raise ValueError(f"{where}: {len(values)} fields, but the header names {len(header)} columns.")
                row = dict(zip(header, values, strict=True))
                record = _record(row, columns, run=run or path.stem, where=where)
                key = (record.run, record.source, record.question_id)
                if key in seen:
                    raise ValueError(f"{where}: question_id {key[2]!r} was already in line {seen[key]}.")
                seen[key] = reader.line_num
                records.append(record)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}). Save it as CSV UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: {error}.") from error
    if not records:
        raise ValueError(f"{path} holds no row below its header.")
    return records


def convert(path: Path, out: Path, *, run: str, renamed: Mapping[str, str], ignored: Collection[str]) -> int:
    """Writes the records of a CSV file as jsonl, whole or not at all; returns how many there are."""
    if out.exists():
        raise ValueError(f"{out} exists and is not overwritten. Give another name or remove it.")
    records = read_csv(path, run=run, renamed=renamed, ignored=ignored)
    return write_jsonl(out, (record.to_json() for record in records))
