"""Answers of an earlier run: found by question, and refused if they belong to another run.

Where several processes answer, each appends to a part of its own, `<name>.process<index>.jsonl`; the first process puts
the parts into the file and removes them. Answers that an interruption leaves in parts count like those in the file,
whatever the number of processes that continue.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import typed_json
from radvqa_jax.files import read_jsonl, write_json
from radvqa_jax.schema import Record
from radvqa_jax.trees import flatten


def settings_hash(fingerprint: dict[str, Any]) -> str:
    """The value of `Record.settings`: a short hash of all settings that the answers of a file share."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:12]


def part_of(path: Path, index: int) -> Path:
    """The path to which one of several processes appends its answers for a predictions file."""
    return path.with_name(f"{path.stem}.process{index}{path.suffix}")


def parts_of(path: Path) -> list[Path]:
    """The existing parts of a predictions file."""
    found = path.parent.glob(f"{glob.escape(path.stem)}.process*{path.suffix}")
    return sorted(part for part in found if part.name[len(path.stem) + 8 : -len(path.suffix)].isdigit())


def check_fingerprint(path: Path, fingerprint: dict[str, Any]) -> None:
    """Writes the description of a new file; refuses a file that was made with other settings.

    Raises:
        ValueError: naming the settings that differ, or the thing that is in the file's place.
    """
    described = path.with_suffix(".json")
    if not path.exists():
        write_json(described, fingerprint)
        return
    if not path.is_file():
        raise ValueError(f"{path} is not a file, but answers are kept there. Move it away, or give another --workdir.")
    if described.exists() and not described.is_file():
        raise ValueError(f"{described} is not a file, but it must describe the answers of {path.name}. Move it away.")
    if not described.exists():
        raise ValueError(
            f"{path} is there, but {described.name}, which holds the settings of its lines, is missing. Put it back, "
            f"or delete {path.name}, and its lines are made again."
        )
    found = flatten(typed_json.read(described, dict[str, Any]))
    wanted = flatten(json.loads(json.dumps(fingerprint)))  # as it is read back: tuples become lists
    if differing := sorted(name for name in found | wanted if found.get(name) != wanted.get(name)):
        raise ValueError(
            f"{path} holds lines made with other settings; these differ: {', '.join(differing)}. "
            f"Give another --workdir, or delete the file and {described.name}."
        )


def read_unfinished(path: Path, fingerprint: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of an interrupted run, or no lines for a new one; refuses a file made with other settings."""
    check_fingerprint(path, fingerprint)
    return read_jsonl(path, allow_cut=True) if path.is_file() else []


def check_texts(path: Path, records: Iterable[Record], decode: Callable[[Sequence[int]], str]) -> None:
    """Raises ValueError, naming the question, if an answer's text does not match its tokens, because one was edited.

    Args:
        path: the predictions file, for the error.
        records: of it.
        decode: gives the text of token ids.
    """
    for record in records:
        said = [decode(ids) for ids in record.token_ids]
        if said and said != record.predictions:
            raise ValueError(
                f"{path}: the answers to question {record.question_id!r} are {record.predictions}, but their tokens "
                f"say {said}. Remove that line, and the question is answered again."
            )


def read_kept(path: Path, question_ids: Collection[str], fingerprint: dict[str, Any]) -> dict[str, Record]:
    """{question_id: record} of an earlier run, in the order of its file, then of its parts; empty for a new run.

    An incomplete last line, left by an interruption, is ignored. A question that is both in the file and in a part,
    because an interruption came before the part was removed, counts once.

    Args:
        path: the predictions file.
        question_ids: of all questions.
        fingerprint: what the answers depend on.

    Raises:
        ValueError: with file and line, if a line is not a record, answers a question that is not asked or one a second
            time, or was made with other settings.
    """
    check_fingerprint(path, fingerprint)
    wanted, settings = set(question_ids), settings_hash(fingerprint)
    kept: dict[str, Record] = {}
    for file in ([path] if path.is_file() else []) + parts_of(path):
        for name, record in _read(file, wanted, settings):
            kept.setdefault(name, record)
    return kept


def _read(path: Path, wanted: Collection[str], settings: str) -> Iterator[tuple[str, Record]]:
    """Yields (question_id, record) of each line of one file; see `read_kept`."""
    seen: set[str] = set()
    for line in typed_json.iter_lines(path, Record):
        if line.error is not None:
            if not line.text.endswith(b"\n"):
                break
            raise line.error
        record = line.value
        assert record is not None
        name = record.question_id
        wrong = ""
        if name not in wanted:
            wrong = f"answers question {name!r}, which is not asked here"
        elif name in seen:
            wrong = f"answers question {name!r} a second time"
        elif record.settings != settings:
            wrong = f"was made with other settings ({record.settings!r}, not {settings!r})"
        if wrong:
            raise ValueError(
                f"{path}, line {line.number}: it {wrong}; was the file edited? Take the line out: its question is "
                "answered again. Or give another --workdir."
            )
        seen.add(name)
        yield name, record
