"""The prepared data that mode=score knows the answered questions from: checked before an answer is scored."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import typed_json
from radvqa_jax.config import Config
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder
from radvqa_jax.evaluation.comparison import renamed_images
from radvqa_jax.evaluation.scoring import same_question
from radvqa_jax.schema import Record

Rows = Mapping[tuple[str, str], Mapping[str, Any]]  # (source, question_id) -> texts of the row


def check_data(config: Config) -> RowSource | None:
    """The rows of eval.source, all of its split; None if none are named or prepared.

    Raises:
        ValueError: for a data set, variant, split or condition of eval.source or eval.train_source that cannot be.
    """
    found: dict[str, RowSource] = {}
    for field, source in (
        ("source", dataclasses.replace(config.eval.source, limit=0)),
        ("train_source", config.eval.train_source),
    ):
        if not source.dataset:
            continue
        builder = make_builder(source.dataset, builder_config=source.builder_config, data=config.data)
        if builder.is_prepared():
            try:
                found[field] = load_rows(source, config.data, seed=config.seed)
            except ValueError as error:
                raise ValueError(f"eval.{field}: {error}") from error
    return found.get("source")


def check_answered(rows: RowSource, files: Sequence[Path]) -> list[str]:
    """Compares the images and questions of predictions files with the rows that they answer; returns what to say.

    Raises:
        ValueError: naming file, line and both values, if an answer is to another question or about another image.
    """
    known: Rows = {(row["source"], row["question_id"]): row for row in rows.texts()}
    if rows.source.task == "caption":  # the questions of the rows are not asked
        known = {key: {**row, "question": ""} for key, row in known.items()}
    return [note for path in files if (note := _check_file(path, known, rows.name))]


def _check_file(path: Path, known: Rows, name: str) -> str:
    found = _answered(path, known, name)
    named = ((record.source, record.question_id, row["image_id"], record.image_id) for record, row in found)
    return renamed_images(named, mine=name, theirs=str(path))


def _answered(path: Path, known: Rows, name: str) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    """Yields the records that answer a known row, and the row; raises ValueError if the question is another one."""
    for line in typed_json.iter_lines(path, Record):
        record = line.value
        row = known.get((record.source, record.question_id)) if record is not None else None
        if record is None or row is None:
            continue
        if record.question and row["question"] and not same_question(record.question, row["question"]):
            raise ValueError(
                f"{path}, line {line.number}: question_id {record.question_id!r} asks {record.question!r:.200}, but in "
                f"{name} it asks {row['question']!r:.200}. Use one release of the data, or leave eval.source.dataset "
                "empty to score without the data set."
            )
        yield record, row
