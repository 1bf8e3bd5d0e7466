"""Written question-answer pairs before they are checked: one line of candidates.jsonl each, with where it came from.

The evidence (caption and case fields) is not repeated in a line. It stands in the prepared set, in the row that
`dataset`, `builder_config`, `prepared_split` and `image_id` name; `caption_sha256` tells whether it is still the same.
"""

import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from radvqa_jax.files import append_jsonl, read_jsonl

FILE_NAME = "candidates.jsonl"
ID_LENGTH = 16  # hexadecimal digits of a sha256

Writer = Literal["case", "literature", "caption", "templates"]
Kind = Literal["closed", "open", "multiple_choice"]
AnswerType = Literal["closed", "open"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One written pair. Missing texts are empty; nothing here has been checked against the evidence."""

    candidate_id: str  # see candidate_id()
    dataset: str
    builder_config: str
    prepared_split: str  # of the prepared set, where the row with the evidence is
    split: str  # where the pair belongs: train, validation or test, the same for every pair of a case
    case_id: str  # the image id where the data set names no case
    image_id: str
    caption_sha256: str  # of the caption as the prepared set has it, UTF-8
    writer: Writer
    prompt_sha256: str  # of the writer's wording, without the evidence; of the template for `templates`
    model: str  # as the server names it; empty for `templates`
    seed: int  # sent with the request that gave this pair; of the draw for `templates`
    sampling: Mapping[str, Any] = field(default_factory=dict)  # temperature, max_tokens, response_format, attempt
    reply_id: str  # key of the raw reply in the chat cache; empty for `templates`
    question: str
    answer: str
    kind: Kind
    answer_type: AnswerType  # `closed` for the kinds closed and multiple_choice
    question_type: str = ""  # what is asked about: modality, plane, location, findings, diagnosis, …
    choices: list[str] = field(default_factory=list)  # options of a multiple-choice question; `answer` is one of them
    support: str = ""  # words of the caption that support the answer, as the writer gives them
    answerable_from_image: bool = True  # False for the writer `literature`

    def to_json(self) -> dict[str, Any]:
        """Returns a dict for one line of jsonl."""
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> "Candidate":
        """Returns the candidate of one line.

        Raises:
            ValueError: naming the fields that are unknown, missing or of another type than the line may hold.
        """
        known = {item.name for item in fields(Candidate)}
        unknown, missing = sorted(set(row) - known), sorted(known - set(row))
        if unknown or missing:
            raise ValueError(f"A candidate has unknown fields {unknown} and lacks {missing}.")
        wrong = [name for name, kind in _TYPES.items() if not _is_a(row[name], kind)]
        if wrong:
            shown = ", ".join(f"{name}={str(row[name])[:40]!r}" for name in wrong)
            raise ValueError(f"A candidate has values that its fields may not hold: {shown}.")
        candidate = Candidate(**row)
        if candidate.candidate_id != make_id(candidate):
            raise ValueError(f"candidate_id={candidate.candidate_id!r} is not the id of its content; was it edited?")
        return candidate


_TYPES = typing.get_type_hints(Candidate)


def _is_a(value: Any, kind: Any) -> bool:
    """Returns whether a JSON value is of the type of a field."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return value in typing.get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(kind, types.GenericAlias) or origin is not None:
        return isinstance(value, dict)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def candidate_id(
    *, dataset: str, builder_config: str, image_id: str, writer: str, question: str, answer: str, choices: Iterable[str]
) -> str:
    """Returns the id of a pair: a hash of the image, the writer and the words, the same on every machine."""
    content = json.dumps([dataset, builder_config, image_id, writer, question, answer, list(choices)])
    return hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]


def make_id(candidate: Candidate) -> str:
    """Returns the id that a candidate's content gives."""
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
    """Returns the candidates of a file, in its order; of two lines with one id the first.

    Raises:
        ValueError: naming the file and the candidate, if a line is not one; OSError if the file cannot be read.
    """
    found: dict[str, Candidate] = {}
    for row in read_jsonl(path, allow_cut=True):
        try:
            candidate = Candidate.from_json(row)
        except ValueError as error:
            raise ValueError(f"{path}, candidate {str(row.get('candidate_id', 'without id'))[:40]}: {error}") from error
        found.setdefault(candidate.candidate_id, candidate)
    return list(found.values())


def append_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Appends candidates to a file; they are on the disk when this returns."""
    append_jsonl(path, [candidate.to_json() for candidate in candidates])
