"""results.json of MedEvalKit: a list of samples with `answer` and `response` (utils/base_dataset.py, commit 9b12e3b).

The samples have no identifier of question or image: the position in the file is the question's, and the image is
unknown. SLAKE's have `lang` and `answer_type`, PMC-VQA's `choices` with a letter as `answer` and no question but
`prompt`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax.evaluation.readers.foreign_rows import Row, answer_type, optional, read_each, text_of

NAME = "medevalkit"


def fits(value: Any) -> bool:
    """Whether a JSON value looks like such a file."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and {"answer", "response"} <= set(first)


def source_of(path: Path) -> str:
    """The data set, which is the name of the file's folder in MedEvalKit: `slake`, `vqa_rad`."""
    return path.resolve().parent.name.lower()


def run_of(path: Path) -> str:
    """The model: the folder above that of the data set."""
    return path.resolve().parent.parent.name


def read(path: Path, value: Sequence[Any]) -> Iterator[Row]:
    """Yields the rows of a file's JSON value."""

    def take(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        choices = row.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise ValueError(f"choices must be a list of texts; got {str(choices)[:60]!r}")
        return {
            "question_id": f"{number:06d}",
            "image_id": optional(row, "image_id", "img_name", "image_name"),
            "question": optional(row, "question", "prompt"),
            "reference": text_of(row, "answer"),
            "predictions": [text_of(row, "response")],
            "answer_type": answer_type(row),
            "language": optional(row, "lang", "q_lang"),
            "question_type": optional(row, "content_type", "question_type"),
            "modality": optional(row, "modality"),
            "organ": optional(row, "location"),
            "choices": choices,
            "source": source_of(path),
        }

    return read_each(enumerate(value, 1), take, place="entry")
