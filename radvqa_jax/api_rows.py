"""Rows to ask: those of a prepared data set, or images and questions in memory, which are handled alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8

from radvqa_jax.api_checks import check_flag, check_integer, check_mapping, check_text
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.config.bounds import LARGEST
from radvqa_jax.config.check import change_part
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.opened import Opened, encode_png, open_any
from radvqa_jax.data.preparing import prepare as prepare_data
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.saliency.marked_regions import find_region
from radvqa_jax.schema import Batch
from tfds_builders.features import YES_NO, common_row, is_yes_no

NAME = "asked"


def is_many(value: Any) -> bool:
    """Whether a person gave several images or questions, and not one."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | Opened)


def as_list(value: Any) -> list[Any]:
    """The given value, one or several, as a list."""
    return list(value) if is_many(value) else [value]


def asked_rows(opened: Sequence[Opened], questions: Sequence[str], *, task: Literal["vqa", "caption"]) -> RowSource:
    """A row for each question: with one image for all, with one question for all, or with one image each.

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
    if task == "vqa":
        for number, text in enumerate(questions, 1):
            check_text(text, f"Question {number}")
    files = [encode_png(item.image) for item in opened]
    rows = []
    for number in range(count):
        which = number if len(files) > 1 else 0
        question = questions[number if len(questions) > 1 else 0]
        rows.append(
            common_row(files[which], image_id=f"image {which}", question_id=str(number), question=question, source=NAME)
        )
    return _source(rows, task=task)


def rows_of_table(table: Sequence[Mapping[str, Any]], *, bit_depth: int = 0) -> RowSource:
    """Rows of dicts with image, question, answer and, if there, other common features.

    Args:
        table: the dicts.
        bit_depth: of grey images of 16 bits; 0 = all bits.

    Raises:
        ValueError: naming the row and the key, if one lacks what it needs.
    """
    rows = []
    if isinstance(table, str | bytes | Mapping) or not isinstance(table, Sequence):
        raise ValueError(f"rows must be a list of dicts, or those of read_rows; got {type(table).__name__}.")
    for number, given in enumerate(table):
        check_mapping(given, f"Row {number + 1}")
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
        image = encode_png(open_any(given["image"], bit_depth=bit_depth).image)
        rows.append(common_row(image, **(ids | made | fields)))
    if not rows:
        raise ValueError("There are no rows to score.")
    return _source(rows, task="vqa")


def read_rows(
    dataset: str,
    *,
    split: str = "test",
    builder_config: str = "",
    data_dir: str = "",
    limit: int = 0,
    prepare: bool = False,
    **fields: Any,
) -> RowSource:
    """Reads the rows of a data set, for `Model.score` and `Model.saliency_quality`.

    Args:
        dataset: its name, such as vqa_rad.
        split: train, validation or test.
        builder_config: a variant of the data set; empty = its first.
        data_dir: where it is prepared; empty = as configured.
        limit: number of rows to keep, drawn with seed 0; 0 = all.
        prepare: prepares the data set first, if that is not done.
        fields: of `config.data`, such as manual_dir="FOLDER" for files of your own or columns=(("image", "file"),).

    Raises:
        ValueError, FileNotFoundError: naming what is unknown or missing, and the way out.
    """
    check_text(dataset, "dataset")
    check_text(split, "split")
    check_integer(limit, "limit", low=0, high=LARGEST)
    check_flag(prepare, "prepare")
    asked = {"dataset": dataset, "builder_config": builder_config, "split": split, "limit": limit}
    source = change_part(SourceConfig(), "source", asked)
    given = {key: str(value) if isinstance(value, Path) else value for key, value in fields.items()}
    data = change_part(Config().data, "data", given | ({"data_dir": data_dir} if data_dir else {}))
    if prepare:
        prepare_data(dataset, builder_config=builder_config, data=data)
    return load_rows(source, data)


def mask_of(row: Mapping[str, Any]) -> Bool[np.ndarray, "h w"] | None:
    """Marks the region that a map of a row's question should mark, on the original pixels; None if the row has none."""
    if "image" not in check_mapping(row, "row"):
        raise ValueError(f"row has no image; it has {', '.join(row) or 'nothing'}. Give a row of read_rows.")
    height, width = open_any(row["image"]).image.shape[:2]
    return find_region(row, height=height, width=width)[0]


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _source(rows: list[dict[str, Any]], *, task: Literal["vqa", "caption"]) -> RowSource:
    return RowSource(
        rows,
        indices=range(len(rows)),
        source=SourceConfig(dataset=NAME, split="memory", task=task),
        fingerprint={"dataset": NAME, "builder_config": "", "rows": len(rows)},
    )


def batch_about(
    image: UInt8[np.ndarray, "h w 3"], packed: Sequence[Mapping[str, np.ndarray]], *, resolution: int
) -> Batch:
    """A batch of packed texts about one image."""
    pixels = resize_image(image, resolution)
    return Batch(
        image=np.repeat(pixels[None], len(packed), axis=0),
        mask_example=np.ones(len(packed), bool),
        **{name: np.stack([row[name] for row in packed]) for name in packed[0]},
    )
