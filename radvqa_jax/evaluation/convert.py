"""Converts answers of other systems to predictions.jsonl: finds files, formats and runs, and reports every bad row.

Formats (evaluation/readers/, one file each): our own `radvqa` (jsonl), `csv`, plain `json`, and the result files of
`medevalkit`, `vlmevalkit` and `lmms_eval`.
"""

import contextlib
import glob
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from radvqa_jax import typed_json
from radvqa_jax.evaluation.line_scores import Unscored, run_of
from radvqa_jax.evaluation.readers import csv_rows, json_rows, lmms_eval, medevalkit, vlmevalkit
from radvqa_jax.evaluation.readers.foreign_rows import Row
from radvqa_jax.files import file_name, read_json, write_jsonl
from radvqa_jax.schema import Record
from radvqa_jax.spreadsheet import repeated_of
from radvqa_jax.trees import nearest

Format = Literal["radvqa", "csv", "json", "medevalkit", "vlmevalkit", "lmms_eval"]
FORMATS: tuple[Format, ...] = get_args(Format)
MOST_BAD = 100_000  # rows; a file with more is not kept in memory row by row
LISTED = 20  # bad rows in an error


class Converted(NamedTuple):
    """The result of reading a foreign file: its records, and the rows that could not be read."""

    records: list[Record]
    bad: list[Unscored]


def find_files(spec: str) -> list[Path]:
    """The files that eval.predictions names: one, several separated by commas, or patterns with *.

    Raises:
        ValueError: if a name is not a regular file, a pattern matches no file, or a file is named twice.
    """
    if Path(spec).expanduser().is_file():  # its name may hold a comma or a bracket
        return [Path(spec).expanduser()]
    found: list[Path] = []
    for name in filter(None, (part.strip() for part in spec.split(","))):
        path = Path(name).expanduser()
        matched = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
        if not path.is_file() and not matched:
            raise ValueError(
                f"eval.predictions names {name}, {_absent(path)} Give files, with commas between several, or a pattern "
                "such as 'runs/*/predictions/base.jsonl'."
            )
        found += [path] if path.is_file() else matched
    if twice := repeated_of(str(path.resolve()) for path in found):
        raise ValueError(f"eval.predictions names {twice[0]} twice. Name each file once.")
    return found


def one_file(spec: str, field: str, *, needs: str) -> Path:
    """The one file that a field names.

    Args:
        spec: what the field holds.
        field: its name, for the error.
        needs: what the mode requires, for the error.

    Raises:
        ValueError: if it names no file or several, or a file in another format, which must be converted first.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        kind: Format = "radvqa"
        with contextlib.suppress(ValueError):  # the reader says better what is wrong with the file
            kind = detect(path)
        if kind != "radvqa":
            made = path.with_name(f"{path.stem}.predictions.jsonl").name
            raise ValueError(
                f"{field} names {path}, a file in the format {kind}; this mode reads predictions as JSON Lines. "
                f"Convert it first: {shlex.join(['python', 'scripts/to_predictions.py', str(path), made])}"
            )
        return path
    if "," in spec or glob.has_magic(spec):
        raise ValueError(f"{field}={spec!r} names several files; {needs}. mode=score takes several files at once.")
    raise ValueError(f"{field} names {spec}, {_absent(path)}")


def _absent(path: Path) -> str:
    """The reason why a path is not a readable file, as the end of a sentence."""
    if path.exists():
        return "which is a folder." if path.is_dir() else "which is not a regular file."
    beside = [other.name for other in path.parent.iterdir() if other.is_file()] if path.parent.is_dir() else []
    return f"and there is no such file.{nearest(path.name, beside)}"


def detect(path: Path) -> Format:
    """The format of a file, by its ending and its first row.

    Raises:
        ValueError: if its format is unknown.
    """
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".tsv"):
        return "vlmevalkit"
    if suffix == ".csv":
        return "vlmevalkit" if vlmevalkit.fits(csv_rows.read_header(path)) else "csv"
    if suffix == ".json":
        return "medevalkit" if medevalkit.fits(read_json(path)) else "json"
    if suffix in (".jsonl", ".ndjson"):
        for _, text in islice(typed_json.raw_lines(path), 20):  # the first lines may be bad
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                continue  # the reader itself counts it among the bad lines
            if lmms_eval.fits(row):
                return "lmms_eval"
            if isinstance(row, dict) and ("predictions" in row or "prediction" not in row):
                return "radvqa"
            return "json"
        return "radvqa"
    raise ValueError(
        f"{path}: no known format ends in {suffix or 'nothing'!r}. Known: .jsonl, .json, .csv, .tsv, .xlsx "
        f"({', '.join(FORMATS)}); see evaluation/convert.py."
    )


def _rows(path: Path, kind: Format, *, renamed: Mapping[str, str], ignored: Collection[str]) -> Iterator[Row]:
    if (renamed or ignored) and kind not in ("csv", "json"):
        raise ValueError(f"{path} is a file of {kind}, whose fields are known. Leave out --column and --ignore.")
    match kind:
        case "csv":
            return csv_rows.read(path, renamed=renamed, ignored=ignored)
        case "vlmevalkit":
            return vlmevalkit.read(path)
        case "lmms_eval":
            return lmms_eval.read(path)
        case "medevalkit" | "json" if path.suffix.lower() == ".json":
            value = read_json(path)
            if not isinstance(value, list):
                raise ValueError(f"{path} must hold a list of objects; it holds {type(value).__name__}.")
            if kind == "medevalkit":
                return medevalkit.read(path, value)
            return json_rows.read(json_rows.items_of(value), place="entry", renamed=renamed, ignored=ignored)
        case "json" | "radvqa":
            return json_rows.read(json_rows.items_of_lines(path), place="line", renamed=renamed, ignored=ignored)
    raise ValueError(f"{path} cannot be read as {kind}.")


def _named_rows(path: Path, kind: Format, *, renamed: Mapping[str, str], ignored: Collection[str]) -> Iterator[Row]:
    """Yields the rows of a file; an error of a reader names the file."""
    try:
        yield from _rows(path, kind, renamed=renamed, ignored=ignored)
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def read_rows(
    path: Path,
    *,
    kind: Format | None = None,
    run: str = "",
    renamed: Mapping[str, str] | None = None,
    ignored: Collection[str] = (),
) -> Converted:
    """The records of a file and its bad rows: unreadable, of a wrong type, or repeated.

    Args:
        path: the file.
        kind: its format; None detects it (`detect`).
        run: the name of the system, for rows that do not give one; the file's name if empty.
        renamed: our name of a field -> the file's, for csv and json.
        ignored: fields to leave out, for csv and json.

    Raises:
        ValueError: if the file as a whole cannot be read, or holds no row.
    """
    records: list[Record] = []
    bad: list[Unscored] = []
    seen: dict[tuple[str, str, str], str] = {}
    for row in _named_rows(path, kind or detect(path), renamed=renamed or {}, ignored=ignored):
        question, problem, field = str(row.fields.get("question_id", "")), row.problem, ""
        if not problem:
            try:
                fields = {"run": run or path.stem} | {k: v for k, v in row.fields.items() if k != "run" or v}
                record = typed_json.check(fields, Record, where=row.place)
            except typed_json.JsonError as error:
                problem, field = error.problem, error.field
            else:
                key = (record.run, record.source, record.question_id)
                before = seen.setdefault(key, row.place)
                if before == row.place:
                    records.append(record)
                    continue
                problem = f"question_id {record.question_id!r} was already in {before}"
        bad.append(Unscored(row.number, field, problem, question, ""))
        if len(bad) > MOST_BAD:
            told = describe_file(path, bad)
            raise ValueError(f"{path}: more than {MOST_BAD:,} rows are bad, so it has another format.\n{told}")
    if not records and not bad:
        raise ValueError(f"{path} holds no row.")
    return Converted(records, bad)


def describe_file(path: Path, bad: Sequence[Unscored]) -> str:
    """The bad rows of a file as text, the first `LISTED` of them."""
    lines = [
        f"{path}, line {found.line}: {f'field `{found.field}` ' if found.field else ''}{found.reason}."
        for found in bad[:LISTED]
    ]
    if len(bad) > LISTED:
        lines.append(f"… and {len(bad) - LISTED} more")
    return "\n".join(lines)


def convert(
    path: Path,
    out: Path,
    *,
    run: str = "",
    renamed: Mapping[str, str] | None = None,
    ignored: Collection[str] = (),
    kind: Format | None = None,
    skip_bad: bool = False,
) -> Converted:
    """Writes the records of a file as jsonl, whole or not at all.

    With `skip_bad` rows that cannot be read are left out and listed in `<out>.rejects.jsonl`.

    Raises:
        ValueError: naming the rows that cannot be read, unless `skip_bad`; or if `out` exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists and is not overwritten. Give another name or remove it.")
    found = read_rows(path, kind=kind, run=run, renamed=renamed, ignored=ignored)
    if found.bad and not (skip_bad and found.records):
        raise ValueError(
            f"{describe_file(path, found.bad)}\n{len(found.bad)} rows cannot be read; nothing was written."
        )
    rejects = out.with_name(f"{out.name}.rejects.jsonl")
    if found.bad:
        write_jsonl(rejects, (bad._asdict() for bad in found.bad))
    else:
        rejects.unlink(missing_ok=True)  # of an earlier form of the file
    write_jsonl(out, (record.to_json() for record in found.records))
    return found


def name_runs(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The name of each file's run: the given names, or the shortest ends of paths that distinguish them.

    >>> name_runs([Path("a/x/results.json"), Path("b/x/results.json")], [])
    ['a', 'b']
    """
    if names:
        if len(names) != len(paths):
            raise ValueError(f"eval.names={tuple(names)} must be {len(paths)} names, one for each file.")
        return list(names)
    parts = [[*path.resolve().parent.parts[1:], path.stem] for path in paths]
    while len(parts[0]) > 1 and len({found[-1] for found in parts}) < len(parts):
        if len({found[-1] for found in parts}) == 1 and all(len(found) > 1 for found in parts):
            parts = [found[:-1] for found in parts]  # all are called results: their folders differ
        else:
            parts = [[*found[:-2], "/".join(found[-2:])] if len(found) > 1 else found for found in parts]
    return [found[-1] for found in parts]


def names_run(path: Path) -> bool:
    """Whether the lines of a file say which run they are of. Files of other tools get one when they are converted."""
    return detect(path) != "radvqa" or bool(_first_run(path))


def _first_run(path: Path) -> str:
    """The run of the first line, with the kind of another image that it was shown; empty if the line names none."""
    first = next((line.value for line in typed_json.iter_lines(path, Record) if line.value), None)
    return run_of(first) if first and first.run else ""


def propose_run(path: Path) -> str:
    """The model's name according to the tool that wrote the file; for our own files, that of the first line."""
    match detect(path):
        case "radvqa":
            return _first_run(path) or path.stem
        case "medevalkit":
            return medevalkit.run_of(path)
        case "vlmevalkit":
            return vlmevalkit.run_of(path)
        case "lmms_eval":
            return path.parent.name
        case _:
            return path.stem


class Predictions(NamedTuple):
    """A file to score, and the rows of its original that could not be read."""

    path: Path
    original: Path
    bad: list[Unscored]


def to_predictions(path: Path, folder: Path, *, run: str) -> Predictions:
    """A predictions file: `path` itself if it is one, else its conversion in `folder`."""
    if (kind := detect(path)) == "radvqa":
        return Predictions(path, path, [])
    found = read_rows(path, kind=kind, run=run)
    if not found.records:
        raise ValueError(f"{describe_file(path, found.bad)}\n{path}: no row can be read as {kind}.")
    out = folder / f"{file_name(run)}.jsonl"
    write_jsonl(out, (record.to_json() for record in found.records))
    print(
        f"{path} is a file of {kind}: {len(found.records)} answers are in {out}, {len(found.bad)} rows are unreadable."
    )
    return Predictions(out, path, found.bad)
