"""Rows to ask: from a prepared data set, or made of images and questions in memory."""

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from radvqa_jax.api_checks import check_flag, check_integer, check_mapping, check_text, is_integer
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.config.bounds import LARGEST
from radvqa_jax.config.check import change_part
from radvqa_jax.data.opened import Opened, encode_png, open_any
from radvqa_jax.data.preparing import prepare as prepare_data
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.saliency.marked_regions import find_region
from tfds_builders.features import TEXT_FEATURES, YES_NO, common_row, is_yes_no
from tfds_builders.table.columns import language_of

NAME = "asked"


def is_many(value: Any) -> bool:
    """Whether a value is a sequence of images or questions, rather than a single one."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | Opened)


def as_list(value: Any) -> list[Any]:
    """The given value, one or several, as a list."""
    return list(value) if is_many(value) else [value]


def asked_rows(
    opened: Sequence[Opened], questions: Sequence[str], *, task: Literal["vqa", "caption"], caption_prompt: str = ""
) -> RowSource:
    """One row for each pair of image and question; a single image or question goes with all of the others.

    `caption_prompt` asks for captions; empty = "caption en".

    Raises:
        ValueError: if there is no image or question, a question has no letter or digit, or the numbers do not match.
    """
    if not opened or not questions:
        raise ValueError(f"Give at least one image and one question; got {len(opened)} and {len(questions)}.")
    count = max(len(opened), len(questions))
    if len(opened) not in (1, count) or len(questions) not in (1, count):
        raise ValueError(
            f"{len(opened)} images and {len(questions)} questions do not match: give one of either, or equal numbers."
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
    return _source(rows, task=task, prompt=caption_prompt)


def rows_of_table(table: Sequence[Mapping[str, Any]], *, bit_depth: int = 0) -> RowSource:
    """Rows from dicts with image, question, answer and optionally other common features.

    Args:
        table: the dicts.
        bit_depth: bits in use in 16-bit grey images; 0 = all.

    Raises:
        ValueError: naming the row and the key, if a key is missing or its value is not valid.
    """
    if isinstance(table, str | bytes | Mapping) or not isinstance(table, Sequence):
        raise ValueError(f"rows must be a list of dicts, or those of read_rows; got {type(table).__name__}.")
    rows = [_row_of(number, given, bit_depth=bit_depth) for number, given in enumerate(table)]
    shown: dict[str, tuple[int, bytes]] = {}
    for number, row in enumerate(rows, 1):
        first, image = shown.setdefault(row["image_id"], (number, row["image"]))
        if image != row["image"]:
            raise ValueError(
                f"Rows {first} and {number} have image_id {row['image_id']!r} and different images: they would count "
                "as one image. Give each image an id of its own, or none."
            )
    if not rows:
        raise ValueError("There are no rows to score.")
    return _source(rows, task="vqa")


def _row_of(number: int, given: Any, *, bit_depth: int) -> dict[str, Any]:
    """A row of common features from a dict; a value that is absent (None, NaN) is filled in."""
    where = f"Row {number + 1}"
    given = {key: value for key, value in check_mapping(given, where).items() if _there(value)}
    if missing := [key for key in ("image", "question", "answer") if key not in given]:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    check_text(given["question"], f"{where}, question")
    for key in given.keys() & TEXT_FEATURES.keys():
        if key in ("image_id", "question_id", "case_id") and is_integer(given[key]):
            given[key] = str(given[key])  # an index of a data frame
        if not isinstance(given[key], str):
            raise ValueError(f"{where}: {key} must be text; got {given[key]!r}.")
    if (kind := given.get("answer_type", "")) not in ("", "closed", "open"):
        raise ValueError(f"{where}: answer_type must be closed or open; got {kind!r}.")
    choices = given.get("choices", ())
    listed = isinstance(choices, list | tuple) or (isinstance(choices, np.ndarray) and choices.ndim == 1)
    if not (listed and all(isinstance(choice, str) for choice in choices)):
        raise ValueError(f"{where}: choices must be a list of texts; got {choices!r:.100}.")
    if not isinstance(given.get("yes_no", False), bool | np.bool_):
        raise ValueError(f"{where}: yes_no must be True or False; got {given['yes_no']!r:.100}.")
    language = given.get("language") or language_of(given["question"], given["answer"])
    if language not in YES_NO:
        raise ValueError(f"{where}: language must be one of {', '.join(YES_NO)}; got {language!r}.")
    yes_no = is_yes_no(given["answer"], language=language)
    closed = yes_no or len(choices) > 0
    made = {"yes_no": yes_no, "answer_type": "closed" if closed else "open", "language": language}
    image = encode_png(open_any(given["image"], bit_depth=bit_depth).image)
    # Rows that show the same pixels are about one image, and their answers are not independent.
    ids = {"image_id": f"image {sha256(image).hexdigest()[:16]}", "question_id": str(number), "source": NAME}
    row = common_row(image, **(ids | made | {key: value for key, value in given.items() if key != "image"}))
    _check_choice(row, where)
    return row


def _check_choice(row: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless answer_index, if given, is the place of the answer among the choices."""
    choices, index = row["choices"], row["answer_index"]
    if not is_integer(index):
        raise ValueError(f"{where}: answer_index must be an integer; got {index!r}.")
    if index == -1:
        return
    if not 0 <= index < len(choices):
        raise ValueError(f"{where}: answer_index={index} is not the place of one of {len(choices)} choices, from 0.")
    if choices[index] != row["answer"]:
        raise ValueError(
            f"{where}: answer_index={index} is {choices[index]!r}, and answer is {row['answer']!r}. Give one of them."
        )


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
        data_dir: the folder of prepared data sets; empty = the default of `config.data`.
        limit: number of rows to keep, drawn with seed 0; 0 = all.
        prepare: prepare the data set first, if it is not prepared yet.
        fields: of `config.data`, such as manual_dir="FOLDER" for your own files or columns=(("image", "file"),).

    Raises:
        ValueError, FileNotFoundError: if a name is unknown or a file is missing, with the way out.
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
    """The mask of the region that a row's question is about, at the size of the original image; None without one."""
    if "image" not in check_mapping(row, "row"):
        raise ValueError(f"row has no image; it has {', '.join(row) or 'nothing'}. Give a row of read_rows.")
    height, width = open_any(row["image"]).image.shape[:2]
    return find_region(row, height=height, width=width)[0]


def _there(value: Any) -> bool:
    """Whether a value is given: not None, not the NaN of a data frame, not blank text."""
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    return not absent and not (isinstance(value, str) and not value.strip())


def _source(rows: list[dict[str, Any]], *, task: Literal["vqa", "caption"], prompt: str = "") -> RowSource:
    return RowSource(
        rows,
        indices=range(len(rows)),
        source=SourceConfig(dataset=NAME, split="memory", task=task, prompt=prompt),
        fingerprint={"dataset": NAME, "builder_config": "", "rows": len(rows)},
    )
