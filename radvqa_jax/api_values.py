"""The results of a model: answers, choices between answers, scores. Notebooks show each as a table."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
from jaxtyping import UInt8

from radvqa_jax.config import Config
from radvqa_jax.data.opened import Opened
from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.schema import Record

NOTE = "Research software, not for clinical use."


class AnswerOptions(TypedDict, total=False):
    """The options of an answer; `Model.answer` describes each. None = as configured."""

    samples: int | None
    temperature: float | None
    max_new_tokens: int
    seed: int | None
    frame: int
    window: str


ANSWER_OPTIONS: dict[str, Any] = {
    "samples": None, "temperature": None, "max_new_tokens": 0, "seed": None, "frame": 0, "window": "",
}  # fmt: skip


def answer_options(given: AnswerOptions, config: Config) -> dict[str, Any]:
    """All options of an answer; those that are not given are as configured.

    `decode.samples` counts all answers to a question, so that 1 asks for none but the greedy one. At a
    `decode.temperature` of 0 answers are greedy; samples then have 1.
    """
    decode = config.decode
    samples = decode.samples if decode.samples > 1 else 0
    configured = {"samples": samples, "temperature": decode.temperature or 1.0, "seed": config.seed}
    return ANSWER_OPTIONS | configured | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """One answer to one question about one image."""

    text: str
    question: str  # empty for a caption
    logprob: float  # log p of the answer's tokens, its end included
    ended: bool  # False = the answer was cut at max_new_tokens
    samples: tuple[str, ...] = ()  # further answers, drawn at `temperature`
    sample_logprobs: tuple[float, ...] = ()
    agreement: float | None = None  # share of the samples equal to `text` after normalisation; None without samples
    prompt: str = ""  # the text that the model read
    token_ids: tuple[int, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()  # of a DICOM file: window, frame, allowed tags
    notes: tuple[str, ...] = ()  # warnings about the image
    image: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False, compare=False)  # original pixels

    def __str__(self) -> str:
        return self.text

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("question", self.question)] if self.question else []
        rows += [("answer", self.text or "(nothing)"), ("log-probability", f"{self.logprob:.3f}")]
        if self.agreement is not None:
            rows.append(("agreement", f"{self.agreement:.0%} of {len(self.samples)} samples"))
            rows.append(("samples", "; ".join(self.samples)))
        cut = () if self.ended else (f"The answer was cut after {len(self.token_ids)} tokens.",)
        return [*rows, *self.facts, *(("note", note) for note in (*self.notes, *cut, NOTE))]

    def _repr_html_(self) -> str:
        return _table(self._rows())


@dataclass(frozen=True)
class Choice:
    """The likelihood of each of the given answers."""

    question: str
    logprobs: Mapping[str, float]  # answer -> log p of its tokens, its end included
    probabilities: Mapping[str, float]  # answer -> its share among these answers; the shares sum to one

    @classmethod
    def of(cls, question: str, logprobs: Mapping[str, float]) -> "Choice":
        """Makes a choice from log-probabilities."""
        shares = np.exp(np.array(list(logprobs.values())) - max(logprobs.values()))
        return cls(question, logprobs, dict(zip(logprobs, (shares / shares.sum()).tolist(), strict=True)))

    @property
    def best(self) -> str:
        """The most likely of the answers."""
        return max(self.logprobs, key=lambda answer: self.logprobs[answer])

    def _repr_html_(self) -> str:
        rows = [(answer, f"{share:.3f} ({self.logprobs[answer]:.2f})") for answer, share in self.probabilities.items()]
        return _table([("question", self.question), *rows, ("note", NOTE)])


@dataclass(frozen=True, repr=False)
class Scores:
    """Accuracy of a model's answers by the rules `exact` and `radvqa`, with n and an interval."""

    table: str  # the printed table
    values: Mapping[str, Any]  # all numbers, as in scores.json
    records: tuple[Record, ...] = field(repr=False, default=())  # the answers, as in predictions.jsonl

    def __repr__(self) -> str:
        return self.table

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table)}</pre>"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (f"<tr><th style='text-align:left'>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{''.join(cells)}</table>"


def agreement(answer: str, samples: Sequence[str]) -> float:
    """The share of samples that equal the answer after normalisation.

    >>> agreement("Yes", ["yes", "Yes.", "no", "yes"])
    0.75
    """
    return sum(normalize(sample) == normalize(answer) for sample in samples) / len(samples)


def make_answer(opened: Opened, question: str, greedy: Record, drawn: Record | None) -> Answer:
    """The greedy answer to a question about an opened image, with its samples; `question` is empty for a caption."""
    text, samples = greedy.predictions[0], list(drawn.predictions) if drawn else []
    return Answer(
        text=text,
        question=question,
        logprob=greedy.logprobs[0],
        ended=greedy.ended[0],
        samples=tuple(samples),
        sample_logprobs=tuple(drawn.logprobs) if drawn else (),
        agreement=agreement(text, samples) if samples else None,
        prompt=greedy.prompt,
        token_ids=tuple(greedy.token_ids[0]),
        facts=tuple(opened.facts),
        notes=tuple(opened.notes),
        image=opened.image,
    )
