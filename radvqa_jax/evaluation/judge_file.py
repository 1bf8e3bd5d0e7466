"""Verdicts of a language model in a file beside the predictions: what a line holds, and which file is whose.

`<predictions>.judge-<prompt>-<hash>.jsonl` has one line for each distinct (question, reference, answer), found by its
hash, so an answer that has changed since has no verdict; of two lines with one hash the later counts. The file of the
same name with suffix .json says who judged, with which wording and settings. Reading needs neither model nor endpoint.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.schema import Record

CONTENT_LENGTH = 16  # hexadecimal digits of a sha256


class Judged(NamedTuple):
    """One line: a verdict, or why there is none."""

    content: str  # hash of question, reference and answer
    state: Literal["judged", "unjudged"]
    score: int | None  # on the judge's own scale; None if unjudged
    reason: str  # the judge's words
    why: str = ""  # unjudged: why; begins with `endpoint` if it should be asked again
    attempts: int = 0  # replies that it took
    question_id: str = ""  # of the first question with this content
    source: str = ""
    attack: str = ""  # name in evaluation/attacks.py; empty = a model's answer

    @property
    def settled(self) -> bool:
        """Whether asking again would change nothing."""
        return not self.why.startswith("endpoint")


class JudgeFile(NamedTuple):
    """What one judge said about one predictions file."""

    name: str  # medm-1a2b3c4d
    about: Mapping[str, Any]  # model, prompt, scale, settings
    answers: Mapping[str, Judged]  # content -> verdict
    attacks: Sequence[Judged]

    def find(self, record: Record) -> Judged | None:
        """Returns the verdict on the record's first answer; None if it was never asked for."""
        return self.answers.get(content_hash(record, record.predictions[0]))

    def correct(self, judged: Judged | None) -> bool | None:
        """Returns whether a verdict means right; None if there is no verdict."""
        if judged is None or judged.score is None:
            return None
        return judged.score >= self.about["correct_from"]


def content_hash(record: Record, prediction: str) -> str:
    """Returns the hash of what a judge is shown."""
    content = json.dumps([record.question, record.reference, prediction])
    return hashlib.sha256(content.encode()).hexdigest()[:CONTENT_LENGTH]


def judge_path(predictions: Path, name: str) -> Path:
    """Returns the path of the verdicts that the judge `name` gives about a predictions file."""
    return predictions.with_name(f"{predictions.stem}.judge-{name}.jsonl")


def read_lines(path: Path) -> list[Judged]:
    """Returns the lines of a verdicts file, of each content and attack the last; none if there is no file."""
    rows = read_jsonl(path, allow_cut=True) if path.is_file() else []
    try:
        lines = [Judged(**row) for row in rows]
    except TypeError as error:
        raise ValueError(f"{path} holds a line that is no verdict: {error}.") from error
    return list({(line.attack, line.content): line for line in lines}.values())


def group(name: str, about: Mapping[str, Any], lines: Iterable[Judged]) -> JudgeFile:
    """Returns the lines of one judge, answers apart from attacks."""
    lines = list(lines)
    answers = {line.content: line for line in lines if not line.attack}
    return JudgeFile(name, about, answers, [line for line in lines if line.attack])


def find_judges(predictions: Path) -> list[JudgeFile]:
    """Returns what every judge said about a predictions file, by name."""
    found = []
    start = f"{predictions.stem}.judge-"
    for described in sorted(predictions.parent.glob("*.json")):
        if described.name.startswith(start):
            name = described.stem.removeprefix(start)
            found.append(group(name, read_json(described), read_lines(described.with_suffix(".jsonl"))))
    return found
