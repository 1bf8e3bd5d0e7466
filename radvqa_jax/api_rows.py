"""Images and questions in memory as rows, so that they take the way of every data set."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from radvqa_jax.api_checks import check_text
from radvqa_jax.config import SourceConfig
from radvqa_jax.data.opened import Opened, encode_png, open_any
from radvqa_jax.data.rows import RowSource
from radvqa_jax.saliency.targets import find_target
from tfds_builders.features import YES_NO, common_row, is_yes_no

NAME = "asked"


def asked_rows(opened: Sequence[Opened], questions: Sequence[str], *, task: Literal["vqa", "caption"]) -> RowSource:
    """Returns a row for each question: with one image for all, with one question for all, or with one image each.

    Raises:
        ValueError: for none, a question without a letter, or numbers that do not fit.
    """
    if not opened or not questions:
        raise ValueError(f"Give at least one image and one question; got {len(opened)} and {len(questions)}.")
    count = max(len(opened), len(questions))
    if len(opened) not in (1, count) or len(questions) not in (1, count):
        raise ValueError(
            f"{len(opened)} images and {len(questions)} questions do not pair: give one of either, or equal numbers."
        )
    if task == "vqa" and (empty := [number for number, text in enumerate(questions) if not text.strip()]):
        raise ValueError(f"Question {empty[0] + 1} is empty.")
    files = [encode_png(item.image) for item in opened]
    rows = []
    for number in range(count):
        which = number if len(files) > 1 else 0
        question = questions[number if len(questions) > 1 else 0]
        rows.append(
            common_row(files[which], image_id=f"image {which}", question_id=str(number), question=question, source=NAME)
        )
    return _source(rows, task=task)


def rows_of_table(table: Sequence[Mapping[str, Any]]) -> RowSource:
    """Returns rows of dicts with image, question, answer and, if there, other common features.

    Raises:
        ValueError: naming the row and the key, if one lacks what it needs.
    """
    rows = []
    for number, given in enumerate(table):
        if missing := [key for key in ("image", "question", "answer") if not _there(given.get(key))]:
            raise ValueError(f"Row {number + 1} lacks {', '.join(missing)}.")
        check_text(given["question"], f"Row {number + 1}, question")
        if not isinstance(given["answer"], str):
            raise ValueError(f"Row {number + 1}: answer must be text; got {given['answer']!r}.")
        if (kind := given.get("answer_type", "")) not in ("", "closed", "open"):
            raise ValueError(f"Row {number + 1}: answer_type must be closed or open; got {kind!r}.")
        if (language := given.get("language") or "en") not in YES_NO:
            raise ValueError(f"Row {number + 1}: language must be one of {', '.join(YES_NO)}; got {language!r}.")
        fields = {key: value for key, value in given.items() if key != "image"}
        ids = {"image_id": f"image {number}", "question_id": str(number), "source": NAME, "language": "en"}
        answer, language = str(given["answer"]), str(given.get("language") or "en")
        closed = bool(given.get("choices")) or is_yes_no(answer, language=language)
        made = {"yes_no": is_yes_no(answer, language=language), "answer_type": "closed" if closed else "open"}
        image = encode_png(open_any(given["image"]).image)
        rows.append(common_row(image, **(ids | made | fields)))
    if not rows:
        raise ValueError("There are no rows to score.")
    return _source(rows, task="vqa")


def mask_of(row: Mapping[str, Any]) -> Bool[np.ndarray, "h w"] | None:
    """Marks where a map of a row's question should lie, on the original pixels; None if the row does not say."""
    height, width = open_any(row["image"]).image.shape[:2]
    return find_target(row, height=height, width=width)[0]


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _source(rows: list[dict[str, Any]], *, task: Literal["vqa", "caption"]) -> RowSource:
    return RowSource(
        rows,
        indices=range(len(rows)),
        source=SourceConfig(dataset=NAME, split="memory", task=task),
        fingerprint={"dataset": NAME, "builder_config": "", "rows": len(rows)},
    )
