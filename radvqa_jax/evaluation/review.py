"""A sheet for clinicians: answers without any verdict, as CSV; and the readings that come back.

No cell runs as a formula, and ids are kept as text (spreadsheet.py). The sheet shows neither the verdicts of rules and
judges nor which answers belong together; `content` ties a row to the answer that was read.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.evaluation import intervals, scoring
from radvqa_jax.evaluation.agreement import cohen_kappa
from radvqa_jax.evaluation.judge_file import JudgeFile, content_hash, content_hashes, judge_labels
from radvqa_jax.schema import Record
from radvqa_jax.spreadsheet import id_cell, is_filled, original_id, read_rows, write_csv

COLUMNS = ("run", "source", "question_id", "image_id", "content", "question", "reference", "prediction")
FILLED = ("reader", "correct", "comment")
_ANSWERS = {"yes": True, "y": True, "1": True, "true": True, "no": False, "n": False, "0": False, "false": False}


class Reading(NamedTuple):
    """One reader's verdict on one answer."""

    reader: str
    run: str
    source: str
    question_id: str
    content: str
    correct: bool
    comment: str


def write_sheet(path: Path, runs: dict[str, Sequence[Record]], *, rows: int, seed: int) -> int:
    """Writes a sheet with the first answers of all runs to drawn questions, in random order; gives the number of rows.

    A sheet that a person has filled in is kept, with a message; then 0 rows are written.

    Args:
        path: of the CSV, UTF-8 with a byte order mark, so that spreadsheets read accents.
        runs: answers to the same questions.
        rows: the most to draw.
        seed: of the draw and the order.
    """
    if is_filled(path, FILLED):
        print(f"{path} is filled in, and is kept as it is. For a new sheet, move it away.", flush=True)
        return 0
    rng = np.random.default_rng(seed)
    per_run = -(-rows // len(runs))
    chosen = []
    draw = rng.permutation(len(next(iter(runs.values()))))[:per_run]
    for name, records in runs.items():
        chosen += [(name, records[i]) for i in draw]
    order = rng.permutation(len(chosen))[:rows]
    sheet = []
    for name, record in (chosen[i] for i in order):
        prediction = record.predictions[0]
        cells = [name, record.source, record.question_id, record.image_id, content_hash(record, prediction)]
        sheet.append([*map(id_cell, cells), record.question, record.reference, prediction, *[""] * len(FILLED)])
    return write_csv(path, [*COLUMNS, *FILLED], sheet)


def read_sheet(path: Path) -> list[Reading]:
    """Reads a filled sheet; a row without an answer in `correct` is left out.

    Raises:
        ValueError: naming the line, if a column is missing or occurs twice, `correct` is neither yes nor no, or a row
            has more or fewer cells than the header; or if the file is not CSV in UTF-8.
    """
    needed = ("run", "source", "question_id", "content", "correct")
    readings = []
    for line, row in read_rows(path, needed=needed, what="a review sheet of ours"):
        said = row["correct"].strip().lower()
        if not said:
            continue
        if said not in _ANSWERS:
            raise ValueError(f"{path}, line {line}: correct={said!r} must be yes, no or empty.")
        name = row.get("reader", "").strip() or path.stem
        run, source, question_id, content = (original_id(row[column]) for column in needed[:4])
        comment = row.get("comment", "").strip()
        readings.append(Reading(name, run, source, question_id, content, _ANSWERS[said], comment))
    return readings


def read_sheets(paths: Sequence[Path]) -> list[Reading]:
    """Reads several filled sheets.

    Raises:
        ValueError: as `read_sheet`; or naming the sheets, if a reader judged an answer twice.
    """
    places: dict[tuple[str, ...], Path] = {}
    readings = []
    for path in paths:
        for reading in read_sheet(path):
            key = (reading.reader, reading.run, reading.source, reading.question_id, reading.content)
            if key in places:
                where = "twice" if places[key] == path else f"here and in {places[key]}"
                raise ValueError(
                    f"{path}: reader {reading.reader!r} judged question {reading.question_id!r} of {reading.run} "
                    f"{where}. Keep one row."
                )
            places[key] = path
            readings.append(reading)
    return readings


class Matched(NamedTuple):
    """The readings of some answers, and the number of the others."""

    read: list[tuple[Reading, Record]]
    stale: int  # about other answers to questions that are there
    unknown: int  # about questions that are not there


def match_readings(readings: Sequence[Reading], records: Sequence[Record]) -> Matched:
    """Finds the answer that each reading is about, by its question and `content`.

    If there is no such question, `content` alone decides where it names one answer: a spreadsheet saves the id 000013
    as 13. Of several such answers, one whose id differs in leading zeros alone is taken.
    """
    by_question: dict[tuple[str, str], list[Record]] = {}
    by_content: dict[str, dict[tuple[str, str], Record]] = {}
    for record in records if readings else ():
        if record.predictions:
            key = (record.source, record.question_id)
            by_question.setdefault(key, []).append(record)
            for content in content_hashes(record):
                by_content.setdefault(content, {}).setdefault(key, record)
    read: list[tuple[Reading, Record]] = []
    stale = 0
    for reading in readings:
        given = by_question.get((reading.source, reading.question_id))
        if given is None:
            same = list(by_content.get(reading.content, {}).values())
            number = reading.question_id.lstrip("0")
            same = [record for record in same if record.question_id.lstrip("0") == number] or same
            read += [(reading, record) for record in same if len(same) == 1]
        elif found := [record for record in given if reading.content in content_hashes(record)]:
            read.append((reading, found[0]))
        else:
            stale += 1
    return Matched(read, stale, len(readings) - len(read) - stale)


def score_readings(
    readings: Sequence[Reading],
    run: str,
    records: Sequence[Record],
    judges: Sequence[JudgeFile],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """The scores of one run by its readers; None if they read none of its answers.

    Keys: `readers` (reader -> accuracy as read), `agreement` (list of `a`, `b` and kappa: readers with each other, the
    rules and judges, over the answers that both judged), `stale`: rows about answers that have changed since, and
    `unknown`: rows about questions that are not there; neither count.

    Raises:
        ValueError: if a reader judged an answer twice.
    """
    bootstrap: dict[str, Any] = {"resamples": resamples, "seed": seed}
    by_key = {(record.source, record.question_id): record for record in records}
    said: dict[str, dict[tuple[str, str], bool]] = {}
    matched = match_readings([reading for reading in readings if reading.run == run], records)
    for reading, record in matched.read:
        key = (record.source, record.question_id)
        if key in said.setdefault(reading.reader, {}):
            raise ValueError(f"Reader {reading.reader!r} judged question {key[1]!r} of {run} twice. Keep one row.")
        said[reading.reader][key] = reading.correct
    others_read = {"stale": matched.stale, "unknown": matched.unknown}
    if not said:
        return {"readers": {}, "agreement": [], **others_read} if any(others_read.values()) else None
    images = {key: record.cluster for key, record in by_key.items()}
    readers = {
        name: scoring.cell_to_json(
            intervals.mean_interval(
                np.array(list(found.values()), np.float64), [images[key] for key in found], **bootstrap
            )
        )
        for name, found in said.items()
    }
    verdicts = scoring.first_verdicts(records)
    rules = {k: v.outcome == "correct" for k, v in zip(by_key, verdicts, strict=True) if v.outcome != "unparsed"}
    others = {"rules": rules}
    labels = judge_labels({judge.name: judge.about for judge in judges})
    for judge in judges:
        found = {key: judge.correct(judge.find(record)) for key, record in by_key.items()}
        others[f"judge {labels[judge.name]}"] = {key: value for key, value in found.items() if value is not None}
    pairs = [*combinations(said, 2), *((reader, other) for reader in said for other in others)]
    everyone = said | others
    agreement = []
    for a, b in pairs:
        both = [key for key in everyone[a] if key in everyone[b]]
        first, second = ([everyone[name][key] for key in both] for name in (a, b))
        if found := cohen_kappa(first, second, [images[key] for key in both], **bootstrap):
            agreement.append({"a": a, "b": b} | found.to_json())
    return {"readers": readers, "agreement": agreement, **others_read}
