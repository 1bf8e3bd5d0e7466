"""Written question-answer pairs before they are checked: one line of candidates.jsonl each, with its provenance.

The evidence (caption and case fields) is not repeated in a line. It is in the prepared set, in the row that
`dataset`, `builder_config`, `prepared_split` and `image_id` name; `caption_sha256` shows whether it is unchanged.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from radvqa_jax import typed_json
from radvqa_jax.files import append_jsonl
from radvqa_jax.typed_json import STRICT

FILE_NAME = "candidates.jsonl"
ID_LENGTH = 16  # hexadecimal digits of a sha256

Writer = Literal["case", "literature", "caption", "templates"]
Kind = Literal["closed", "open", "multiple_choice"]
AnswerType = Literal["closed", "open"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One written pair. Missing texts are empty; nothing here has been checked against the evidence."""

    __pydantic_config__ = STRICT

    candidate_id: str  # see candidate_id()
    dataset: str
    builder_config: str
    prepared_split: str  # of the prepared set, where the row with the evidence is
    split: str  # the split of the pair: train, validation or test, the same for every pair of a case
    case_id: str  # the image id if the data set names no case
    image_id: str
    caption_sha256: str  # of the caption as the prepared set has it, UTF-8
    writer: Writer
    prompt_sha256: str  # of the writer's wording, without the evidence; of the template for `templates`
    model: str  # as the server names it; empty for `templates`
    seed: int  # sent with the request that gave this pair; for `templates`, the seed of the draw
    sampling: dict[str, Any] = field(default_factory=dict)  # temperature, max_tokens, response_format, attempt
    reply_id: str  # key of the raw reply in the chat cache; empty for `templates`
    question: str
    answer: str
    kind: Kind
    answer_type: AnswerType  # `closed` for the kinds closed and multiple_choice
    question_type: str = ""  # topic of the question: modality, plane, location, findings, diagnosis, …
    choices: list[str] = field(default_factory=list)  # options of a multiple-choice question; `answer` is one of them
    support: str = ""  # words of the caption that support the answer, according to the writer
    answerable_from_image: bool = True  # False for the writer `literature`
    line_sha256: str = ""  # of all other fields; only in a file, where it shows whether the line was edited

    def to_json(self) -> dict[str, Any]:
        """A dict for one line of jsonl."""
        return dict(vars(self)) | {"line_sha256": _line_hash(self)}


def _line_hash(candidate: Candidate) -> str:
    content = json.dumps(dict(vars(candidate)) | {"line_sha256": ""}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]


def candidate_id(
    *, dataset: str, builder_config: str, image_id: str, writer: str, question: str, answer: str, choices: Iterable[str]
) -> str:
    """The id of a pair: a hash of the image, the writer and the words, equal on every machine."""
    content = json.dumps([dataset, builder_config, image_id, writer, question, answer, list(choices)])
    return hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]


def make_id(candidate: Candidate) -> str:
    """The id that follows from a candidate's content."""
    return candidate_id(
        dataset=candidate.dataset,
        builder_config=candidate.builder_config,
        image_id=candidate.image_id,
        writer=candidate.writer,
        question=candidate.question,
        answer=candidate.answer,
        choices=candidate.choices,
    )


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a file, in its order; if two lines have the same id, the first one counts.

    An incomplete last line, left by an interruption, is ignored.

    Raises:
        ValueError: naming the line and the field, if a line is not a candidate; OSError if the file cannot be read.
    """
    found: dict[str, Candidate] = {}
    for line in typed_json.iter_lines(path, Candidate):
        if line.error is not None:
            if not line.text.endswith(b"\n"):
                break
            raise line.error
        candidate = line.value
        assert candidate is not None
        if candidate.candidate_id != make_id(candidate):
            what = f"candidate_id={candidate.candidate_id!r} is not the id of its content; was it edited?"
            raise ValueError(f"{path}, line {line.number}: {what}")
        if candidate.line_sha256 not in ("", _line_hash(candidate)):
            what = "the line is not the one that was written; was it edited? Put it back, or write the questions again"
            raise ValueError(f"{path}, line {line.number}: {what}")
        candidate = dataclasses.replace(candidate, line_sha256="")
        found.setdefault(candidate.candidate_id, candidate)
    return list(found.values())


def append_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Appends candidates to a file; they are on the disk when this returns."""
    append_jsonl(path, [candidate.to_json() for candidate in candidates])
