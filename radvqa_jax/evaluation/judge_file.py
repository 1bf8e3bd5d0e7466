"""Verdicts of a language model in a file next to the predictions: the content of a line, and the name of the file.

`<predictions>.judge-<prompt>-<hash>.jsonl` has one line for each distinct (question, reference, answer), found by its
hash, so an answer that has changed since has no verdict. If two lines have the same hash, the later one counts. The
file of the same name with suffix .json records the judge, its wording and its settings. Reading needs neither model nor
endpoint.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.schema import Record

CONTENT_LENGTH = 16  # hexadecimal digits of a sha256


class Judged(NamedTuple):
    """One line: a verdict, or the reason why there is none."""

    content: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # hash of question, options, reference and answer
    state: Literal["judged", "unjudged"]
    score: int | None  # on the judge's own scale; None if unjudged
    reason: str  # the judge's words
    why: str = ""  # unjudged: why; begins with `endpoint` if it should be asked again
    attempts: int = 0  # replies that it took
    question_id: str = ""  # of the first question with this content
    source: str = ""
    attack: str = ""  # name in evaluation/attacks.py; empty = a model's answer
    model: str = ""  # that gave the reply, as the endpoint calls itself; empty if it does not say
    reply_id: str = ""  # key of the reply in the chat cache
    attacked: str = ""  # attack: hash of the question, options and reference that it attacks; empty in older files

    @property
    def settled(self) -> bool:
        """Whether the item needs no further request."""
        return not self.why.startswith("endpoint")


class _About(NamedTuple):
    """The fields of a judge's file that reading verdicts needs; the file has more."""

    model: str
    prompt: str
    scores: Annotated[list[int], Field(min_length=1)]
    correct_from: int


class JudgeFile(NamedTuple):
    """The verdicts of one judge on one predictions file."""

    name: str  # medm-1a2b3c4d
    about: Mapping[str, Any]  # model, prompt, scale, settings
    answers: Mapping[str, Judged]  # content -> verdict
    attacks: Sequence[Judged]

    def find(self, record: Record) -> Judged | None:
        """The verdict on the record's first answer; None if it was never requested."""
        return self.answers.get(content_hash(record, record.predictions[0]))

    def correct(self, judged: Judged | None) -> bool | None:
        """Whether a verdict means right; None if there is no verdict."""
        if judged is None or judged.score is None:
            return None
        return judged.score >= self.about["correct_from"]


def judge_labels(about: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """{name of a judge: its label in tables}: model and prompt, or model and name if settings alone tell two apart.

    >>> judge_labels({"medm-1": {"model": "m", "prompt": "medm"}, "medm-2": {"model": "n", "prompt": "medm"}})
    {'medm-1': 'm (medm)', 'medm-2': 'n (medm)'}
    >>> judge_labels({"medm-1": {"model": "m", "prompt": "medm"}, "medm-2": {"model": "m", "prompt": "medm"}})
    {'medm-1': 'm (medm-1)', 'medm-2': 'm (medm-2)'}
    """
    labels = {name: f"{judge['model']} ({judge['prompt']})" for name, judge in about.items()}
    often = Counter(labels.values())
    return {name: f"{about[name]['model']} ({name})" if often[label] > 1 else label for name, label in labels.items()}


def content_hash(record: Record, prediction: str) -> str:
    """The hash of the content that a judge is shown."""
    shown = [record.question, record.reference, prediction]
    content = json.dumps([*shown, record.choices] if record.choices else shown)
    return hashlib.sha256(content.encode()).hexdigest()[:CONTENT_LENGTH]


def question_hash(record: Record) -> str:
    """The hash of the content that a judge is shown of a question, whatever the answer."""
    return content_hash(record, "")


def content_hashes(record: Record) -> set[str]:
    """The hashes of the record's first answer in a sheet: with or without the options, as old sheets hashed none."""
    return {content_hash(shown, record.predictions[0]) for shown in (record, record._replace(choices=[]))}


def judge_path(predictions: Path, name: str) -> Path:
    """The path of the verdicts of the judge `name` on a predictions file."""
    return predictions.with_name(f"{predictions.stem}.judge-{name}.jsonl")


def _check_scale(about: _About, path: Path) -> list[int]:
    """The scores that a judge may give, once `correct_from` is checked against them.

    Raises:
        ValueError: if a score is listed twice, or the limit would make every answer right, or every one wrong.
    """
    scores = about.scores
    if len(scores) < 2 or scores != sorted(set(scores)):
        raise ValueError(f"{path}: field `scores` must be at least two integers in ascending order; got {scores}.")
    if not scores[0] < about.correct_from <= scores[-1]:
        raise ValueError(
            f"{path}: field `correct_from` must be above {scores[0]} and not above {scores[-1]}, the ends of its "
            f"scale; got {about.correct_from}. With it every verdict would mean the same."
        )
    return scores


def read_lines(path: Path, *, scale: Sequence[int] = ()) -> list[Judged]:
    """The lines of a verdicts file, the last one for each content and attack; no lines if there is no file.

    An incomplete last line, left by an interruption, is ignored.

    Args:
        path: the file.
        scale: the scores that the judge gives; empty = any.

    Raises:
        ValueError: naming the line and the field, if a line is not a verdict or its score is not on the scale.
    """
    lines: dict[tuple[str, str], Judged] = {}
    for line in typed_json.iter_lines(path, Judged) if path.exists() else ():
        if line.error is not None:
            if not line.text.endswith(b"\n"):
                break
            raise line.error
        verdict = line.value
        assert verdict is not None
        if (verdict.state == "judged") != (verdict.score is not None):
            what = f"state={verdict.state!r} with score={verdict.score!r}; a verdict has both or neither"
            raise ValueError(f"{path}, line {line.number}: {what}.")
        if scale and verdict.score is not None and verdict.score not in scale:
            raise ValueError(
                f"{path}, line {line.number}: field `score` must be one of {list(scale)}, the judge's scale; got "
                f"{verdict.score}."
            )
        lines[verdict.attack, verdict.content] = verdict
    return list(lines.values())


def group(name: str, about: Mapping[str, Any], lines: Iterable[Judged]) -> JudgeFile:
    """The lines of one judge, with answers and attacks apart."""
    lines = list(lines)
    answers = {line.content: line for line in lines if not line.attack}
    return JudgeFile(name, about, answers, [line for line in lines if line.attack])


def find_judges(predictions: Path) -> list[JudgeFile]:
    """The verdicts of every judge on a predictions file, by the judge's name; says which are left out."""
    found = []
    start = f"{predictions.stem}.judge-"
    for lines in sorted(predictions.parent.glob("*.jsonl")):
        if lines.name.startswith(start) and not (described := lines.with_suffix(".json")).exists():
            print(f"{lines} is left out: {described.name}, which says which judge gave the verdicts, is missing.")
    for described in sorted(predictions.parent.glob("*.json")):
        if described.name.startswith(start):
            name = described.stem.removeprefix(start)
            about = typed_json.read(described, dict[str, Any])
            needed = {field: about[field] for field in _About._fields if field in about}
            scale = _check_scale(typed_json.check(needed, _About, where=str(described)), described)
            found.append(group(name, about, read_lines(described.with_suffix(".jsonl"), scale=scale)))
    return found
