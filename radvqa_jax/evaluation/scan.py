"""One pass over predictions files of any size: scores or names every line, on all cores, in constant memory.

Only numbers of a line are kept (about 0.3 kB, however long the answer is). Its verdicts go to verdicts.jsonl and
verdicts.csv at once; a line without a score goes to unscored.jsonl with its reason.
"""

import contextlib
import csv
import dataclasses
import json
import os
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from radvqa_jax import progress, spreadsheet, typed_json
from radvqa_jax.evaluation import line_scores, rules, tokens
from radvqa_jax.evaluation.line_scores import FIELDS, Scored, Unscored
from radvqa_jax.files import atomic_write
from radvqa_jax.schema import Record

LISTED = 10  # bad lines in the error of a file that is refused
_CHUNK_LINES, _CHUNK_BYTES = 500, 2 * 2**20
_ALONE = 4 * 2**20  # bytes of files below which starting other processes does not pay
_FILE, _RUNS = 1 << 40, 1 << 32  # more lines than a file has, and more runs: two numbers are one
_ABSENT = float("nan")  # in memory only: marks a metric that does not apply to a question

Chunk = tuple[str, list[tuple[int, bytes]], tuple[str, ...], str]  # file, numbered lines, published systems, run
Results = tuple[str, list[tuple[int, Scored | Unscored]], int]  # file, the result of each line, bytes of the lines


class Columns:
    """The scored lines of one run, as numbers; line i has the i-th of each."""

    def __init__(self) -> None:
        self.image = array("q")
        self.key = array("q")  # source and question_id
        self.answer, self.question, self.reference = array("Q"), array("Q"), array("Q")
        self.groups = {field: array("l") for field in FIELDS}
        self.outcomes = {column: array("b") for column in rules.COLUMNS}
        self.values: dict[str, array[float]] = {}
        self.derived = array("b")  # 1 = the answer type was derived
        self.shortened = array("b")  # 1 = the answer is longer than the part that is read
        self.without_image = array("b")  # 1 = the line does not name the question's image

    def __len__(self) -> int:
        return len(self.image)

    def value(self, name: str) -> np.ndarray:
        """A protocol's or published metric's values; NaN where it does not apply to the question."""
        found = np.asarray(self.values[name], np.float64)
        return np.concatenate([found, np.full(len(self) - len(found), _ABSENT)])


class Scan(NamedTuple):
    """The result of a pass over predictions files."""

    runs: dict[str, Columns]
    names: dict[str, list[str]]  # field of FIELDS -> its values, by number
    lines: dict[str, int]  # file -> lines that are not blank
    unscored: dict[str, list[int]]  # file -> numbers of the lines without a score
    reasons: dict[str, int]  # reason why lines have no score -> number of lines


class _Codes:
    """Numbers for texts, in order of appearance."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.number.setdefault(text, len(self.number))


def _chunks(paths: Sequence[Path], runs: Sequence[str], published: tuple[str, ...]) -> Iterator[Chunk]:
    for path, run in zip(paths, runs, strict=True):
        lines: list[tuple[int, bytes]] = []
        size = 0
        for number, text in typed_json.raw_lines(path):
            lines.append((number, text))
            size += len(text)
            if len(lines) == _CHUNK_LINES or size > _CHUNK_BYTES:
                yield str(path), lines, published, run
                lines, size = [], 0
        if lines:
            yield str(path), lines, published, run


def forget_texts() -> None:
    """Empties the caches of texts that the rules keep: tens of thousands, of any length. Tables and words stay."""
    for name, module in list(sys.modules.items()):
        if name.startswith("radvqa_jax.evaluation") and module is not tokens:
            for value in list(vars(module).values()):
                if hasattr(value, "cache_parameters") and value.cache_parameters()["maxsize"] is not None:
                    value.cache_clear()


def _score_chunk(chunk: Chunk) -> Results:
    """The file of a chunk, the result of each of its lines, and their size in bytes. Runs in a worker."""
    path, lines, published, run = chunk
    found: list[tuple[int, Scored | Unscored]] = []
    for number, text in lines:
        line = typed_json.parse_line(number, text, Record, path=path)
        if line.value is not None and run:
            line = dataclasses.replace(line, value=line.value._replace(run=run))
        found.append((number, line_scores.score_line(line, published=published)))
    size = sum(len(text) for _, text in lines)
    if size > _CHUNK_LINES * 1000:  # long answers: a cache would gain nothing
        forget_texts()
    return path, found, size


def _results(chunks: Iterator[Chunk], *, workers: int) -> Iterator[Results]:
    """Yields what `_score_chunk` returns, in order; no more than three chunks a worker are under way."""
    if workers == 1:
        yield from map(_score_chunk, chunks)
        return
    # Not a fork: JAX has threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: deque[Future[Results]] = deque()
        try:
            for chunk in chunks:
                running.append(pool.submit(_score_chunk, chunk))
                if len(running) >= 3 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Collector:
    """Collects the results of lines: numbers go into columns, verdicts and problems into their files."""

    def __init__(self, verdicts: IO[str], table: IO[str], unscored: IO[str]):
        self.verdicts, self.unscored_file = verdicts, unscored
        self.table = csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        self.header: list[str] = []
        self.runs: dict[str, Columns] = {}
        self.codes = {field: _Codes() for field in FIELDS}
        self.image, self.key = _Codes(), _Codes()
        # The place of the line of a run and key, as numbers alone: a million of them take little memory.
        self.run, self.places = _Codes(), dict[int, int]()
        self.answers: dict[tuple[str, str], tuple[int, str, int]] = {}  # run, data set -> answers, place of first line
        self.lines: Counter[str] = Counter()
        self.unscored: dict[str, list[int]] = {}
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, list[tuple[str, Unscored]]] = {}  # file -> the file that each line is in, and the line

    def take(self, path: str, number: int, found: Scored | Unscored) -> None:
        self.lines[path] += 1
        if isinstance(found, Scored) and (reason := self._other_number(path, number, found)):
            found = _refused(number, "predictions", reason, found)
        if isinstance(found, Scored) and (before := self._answered(path, number, found)) is not None:
            reason = f"was already answered by this run in {_place(path, *before)}"
            found = _refused(number, "question_id", reason, found)
        if isinstance(found, Unscored):
            self._problem(path, number, found, place=path)
        else:
            self._scored(found)

    def take_unread(self, path: str, original: str, found: Unscored) -> None:
        """Counts a row of the original of a converted file that could not be read."""
        self.lines[path] += 1
        self._problem(path, 0, found, place=original)  # no line of the converted file has the number 0

    def _other_number(self, path: str, number: int, found: Scored) -> str:
        """The reason if a line has another number of answers than the first one of its run and data set; else empty."""
        group = found.run, line_scores.dataset_of(found.row["source"])
        answers, file, line = self.answers.setdefault(group, (found.answers, path, number))
        if found.answers == answers:
            return ""
        own = "1 answer" if found.answers == 1 else f"{found.answers} answers"
        return f"has {own} instead of {answers} as in {_place(path, file, line)}"

    def _answered(self, path: str, number: int, found: Scored) -> tuple[str, int] | None:
        """The file and line that answered a line's question before, for the same run; keeps the place of a new one."""
        key = self.key(found.key[len(found.run) :]) * _RUNS + self.run(found.run)
        place = list(self.lines).index(path) * _FILE + number
        if (before := self.places.setdefault(key, place)) == place:
            return None
        file, line = divmod(before, _FILE)
        return list(self.lines)[file], line

    def _problem(self, path: str, number: int, found: Unscored, *, place: str) -> None:
        self.unscored.setdefault(path, []).append(number)
        if len(first := self.first.setdefault(path, [])) < LISTED:
            first.append((place, found))
        kind = "question_id was already answered" if "was already answered" in found.reason else found.reason
        self.reasons[f"{found.field} {kind}".strip()[:120]] += 1
        line = {"file": place, **found._asdict()}
        # ASCII: the text may contain characters that are not valid Unicode.
        self.unscored_file.write(json.dumps(line, ensure_ascii=True) + "\n")

    def _scored(self, found: Scored) -> None:
        columns = self.runs.setdefault(found.run, Columns())
        for name, value in found.values.items():
            values = columns.values.setdefault(name, array("f"))
            values.extend([_ABSENT] * (len(columns) - len(values)))
            values.append(value)
        columns.image.append(self.image(found.image))
        columns.key.append(self.key(found.key[len(found.run) :]))
        columns.answer.append(found.answer)
        columns.question.append(found.question)
        columns.reference.append(found.reference)
        for field, value in zip(FIELDS, found.groups, strict=True):
            columns.groups[field].append(self.codes[field](value))
        for column, outcome in zip(rules.COLUMNS, found.outcomes, strict=True):
            columns.outcomes[column].append(outcome)
        columns.derived.append(bool(found.row["answer_type_derived"]))
        columns.shortened.append(found.shortened)
        columns.without_image.append(not found.row["image_id"])
        if not self.header:
            self.header = list(found.row)
            self.table.writerow(self.header)
        self.verdicts.write(json.dumps(found.row, ensure_ascii=False, allow_nan=False) + "\n")
        self.table.writerow([spreadsheet.cell_text(value) for value in found.row.values()])


def _place(path: str, file: str, line: int) -> str:
    """A line as text for a message about `path`."""
    return f"line {line}" + (f" of {file}" if file != path else "")


def _refused(number: int, field: str, reason: str, found: Scored) -> Unscored:
    """A line that could be scored, but does not go with its run."""
    return Unscored(number, field, reason, str(found.row["question_id"]), json.dumps(found.row, ensure_ascii=False))


def check_share(collector: _Collector, *, max_unscored: float) -> None:
    """Raises ValueError, listing the first bad lines, if more than a share of a file's lines has no score."""
    for path, numbers in collector.unscored.items():
        total = collector.lines[path]
        if len(numbers) <= max_unscored * total:
            continue
        first = "\n".join(
            f"  {_place(path, file, found.line)}: {f'field `{found.field}` ' if found.field else ''}{found.reason}"
            for file, found in collector.first[path]
        )
        raise ValueError(
            f"{path}: {len(numbers)} of {total} lines cannot be scored, more than score.max_unscored={max_unscored:g} "
            f"allows. The first of them:\n{first}\nCorrect the file, or raise score.max_unscored to score the rest."
        )


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan(
    paths: Sequence[Path],
    folder: Path,
    *,
    runs: Sequence[str] = (),
    bad: Mapping[str, tuple[str, Sequence[Unscored]]] | None = None,
    published: Sequence[str] = (),
    max_unscored: float = 0.05,
    workers: int = 0,
) -> Scan:
    """Scores every line of predictions files, and writes verdicts.jsonl, verdicts.csv and unscored.jsonl to `folder`.

    Args:
        paths: predictions.jsonl of one or more runs.
        folder: where the three files go, each whole or not at all.
        runs: the name of each file's run; empty, or an empty name, keeps the names in the lines.
        bad: converted file -> its original, and the rows of it that could not be read; they count as lines without
            a score.
        published: systems of evaluation/published.py whose metrics are computed for every answer.
        max_unscored: the share of a file's lines that may be without a score.
        workers: processes; 0 = one for each core, 1 = this one.

    Raises:
        ValueError: if a file has no line, or more than `max_unscored` of a file's lines have no score; then
            only unscored.jsonl is written.
    """
    size = sum(path.stat().st_size for path in paths)
    workers = 1 if size < _ALONE else workers or cores()
    chunks = _chunks(paths, runs or [""] * len(paths), tuple(published))
    with contextlib.ExitStack() as stack:
        unscored = stack.enter_context(atomic_write(folder / "unscored.jsonl"))
        with atomic_write(folder / "verdicts.jsonl") as verdicts, atomic_write(folder / "verdicts.csv") as table:
            table.write("\ufeff")
            collector = _Collector(verdicts, table, unscored)
            for path, (original, rows) in (bad or {}).items():
                for row in rows:
                    collector.take_unread(path, original, row)
            with progress.bar(name="scores", total=size, unit="B", unit_scale=True) as bar:
                for path, found, length in _results(chunks, workers=workers):
                    for number, line in found:
                        collector.take(path, number, line)
                    bar.update(length)
                    bar.set_postfix(lines=sum(collector.lines.values()), refresh=False)
            stack.close()  # unscored.jsonl is kept even if the file is refused
            check_share(collector, max_unscored=max_unscored)
    if empty := [str(path) for path in paths if not collector.lines[str(path)]]:
        raise ValueError(f"{', '.join(empty)} has no answers. Give a predictions file as eval.predictions.")
    names = {field: list(codes.number) for field, codes in collector.codes.items()}
    return Scan(collector.runs, names, dict(collector.lines), collector.unscored, dict(collector.reasons.most_common()))
