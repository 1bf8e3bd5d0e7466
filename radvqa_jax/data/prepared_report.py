"""The records in a prepared data set's folder: rows left out or changed, counts, and the data set's origin."""

import collections
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.data.prepared_files import PreparedFile
from radvqa_jax.data.written import ABOUT_FILE, read_about
from tfds_builders.builder import COUNTS_FILE
from tfds_builders.images import LOW_BITS, depth_advice
from tfds_builders.origin import FILE_NAME as ORIGIN_FILE
from tfds_builders.rejects import FILE_NAME as REJECTS_FILE
from tfds_builders.table.table_dataset_builder import FACTS_FILE

Number = Annotated[int, Field(ge=0)]
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]


@dataclasses.dataclass(frozen=True)
class _Counts:
    """counts.json: {split: {figure: number}}, and the differences from the official release."""

    __pydantic_config__ = typed_json.STRICT
    found: dict[str, dict[str, Number]]
    expected: dict[str, dict[str, Number | Range]]
    differences: list[str]


@dataclasses.dataclass(frozen=True)
class _File:
    __pydantic_config__ = typed_json.STRICT
    bytes: Number
    changed: int  # nanoseconds since 1970
    sha256: str


@dataclasses.dataclass(frozen=True)
class _Origin:
    """origin.json, as tfds_builders/origin.py describes it."""

    __pydantic_config__ = typed_json.STRICT
    prepared: str
    kind: Literal["folder", "download", "builder"]
    builder: str
    config: str
    version: str
    options: dict[str, Any]
    suffixes: list[str]
    bytes: Number
    files: dict[str, _File]
    # None in older records.
    prepared_files: dict[str, PreparedFile] = dataclasses.field(default_factory=dict)
    content: dict[str, str] = dataclasses.field(default_factory=dict)  # {split: sha256 of its rows}


def read_counts(folder: Path) -> _Counts:
    """The counts.json of a prepared folder, without figures if there is none; ValueError names a wrong field."""
    path = folder / COUNTS_FILE
    return typed_json.read(path, _Counts) if path.exists() else _Counts({}, {}, [])


def read_origin(folder: Path) -> dict[str, Any] | None:
    """The origin.json of a prepared folder, or None if it was not recorded; ValueError names a wrong field."""
    path = folder / ORIGIN_FILE
    return dataclasses.asdict(typed_json.read(path, _Origin)) if path.exists() else None


def read_record(folder: Path) -> dict[str, Any]:
    """The record of how a data set was prepared: its origin.json, or the written.json of written questions; else {}."""
    return read_about(folder) if (folder / ABOUT_FILE).is_file() else read_origin(folder) or {}


def read_report(folder: Path) -> dict[str, Any]:
    """`dropped` and `repaired` ({reason: number}), `counts` of the official files, `differences`, `warnings`.

    `differences` are those from the official release; `warnings` need a person's attention. The data set `table` also
    has
    `table`: its builder's report.
    """
    lines = typed_json.read_lines(folder / REJECTS_FILE, dict[str, Any]) if (folder / REJECTS_FILE).exists() else []
    counts = read_counts(folder)
    # A reason names the file or the value after its colon; the list itself has these details.
    pairs = [(str(line.get("action")), str(line.get("reason")).split(": ")) for line in lines]
    reasons = {
        action: dict(collections.Counter(reason[0] for done, reason in pairs if done == action).most_common())
        for action in ("dropped", "repaired")
    }
    low = [int(reason[1]) for _, reason in pairs if reason[0] == LOW_BITS and reason[-1].isdecimal()]
    warnings = [f"{len(low)} images of 16 bits: the brightest {depth_advice(max(low))}"] if low else []
    facts = folder / FACTS_FILE
    table = {"table": typed_json.read(facts, dict[str, Any])} if facts.exists() else {}
    if table:
        warnings += typed_json.check(table["table"].get("warnings", []), list[str], where=f"{facts}: warnings")
    said = {"counts": counts.found, "differences": counts.differences, "warnings": warnings}
    return reasons | said | table
