"""Samples of lmms-eval: jsonl with `doc_id`, `target`, `filtered_resps` and one object a metric (commit 75571cf).

The file is called DATE_samples_TASK.jsonl. Samples do not keep the question's own row, so images are unknown; the
metrics of SLAKE keep its identifier, language, answer type, modality and content type.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import typed_json
from radvqa_jax.evaluation.readers.foreign_rows import Row, answer_type, optional, read_each, text_of

NAME = "lmms_eval"


def fits(row: Any) -> bool:
    """Whether a line looks like a line of such a file."""
    return (
        isinstance(row, Mapping) and {"doc_id", "target"} <= set(row) and bool({"filtered_resps", "resps"} & set(row))
    )


def _answers(row: Mapping[str, Any]) -> list[str]:
    """The replies: `filtered_resps` is a text or a list, `resps` is left out where it would be the same."""
    found = row.get("filtered_resps", row.get("resps"))
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    answers = found if isinstance(found, list) else [found]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(f"filtered_resps must be text or a list of texts; got {str(found)[:60]!r}")
    return answers


def _task(path: Path) -> str:
    """The task in the name of a file."""
    return path.stem.partition("_samples_")[2] or path.stem


def read(path: Path) -> Iterator[Row]:
    """Yields the rows of a file."""

    def items() -> Iterator[tuple[int, Any]]:
        for line in typed_json.iter_lines(path, Any):
            yield line.number, line.value if line.error is None else None

    def take(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = dict(row["doc"]) if isinstance(row.get("doc"), Mapping) else {}
        for value in row.values():  # the objects of metrics
            told |= {k: v for k, v in value.items() if k not in told} if isinstance(value, Mapping) else {}
        return {
            "question_id": text_of(row, "doc_id"),
            "image_id": optional(told, "img_name", "image_id", "img_id"),
            "question": optional(told, "question") or optional(row, "input"),
            "reference": text_of(row, "target"),
            "predictions": _answers(row),
            "answer_type": answer_type(told),
            "language": optional(told, "language", "q_lang"),
            "question_type": optional(told, "content_type"),
            "modality": optional(told, "modality"),
            "source": _task(path),
        }

    return read_each(items(), take, place="line")
