"""The questions of a cell of the grid: its rows, the images shown with them, and the answers of blind baselines."""

import dataclasses
from typing import NamedTuple

import numpy as np

from radvqa_jax.config import CellConfig, Config, SourceConfig
from radvqa_jax.data.fitting import leave_out, overlong
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder, not_prepared
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation import baselines
from radvqa_jax.evaluation.scorable import check_not_asked, scorable
from radvqa_jax.runners.evaluate import blind_guesses, show_other
from radvqa_jax.schema import Record

Guesses = dict[str, list[Record]]  # baseline -> answers


class Asked(NamedTuple):
    """The questions of a cell, and the answers of blind baselines to them."""

    rows: RowSource
    guesses: Guesses


def missing(source: SourceConfig, config: Config) -> str:
    """The reason why the data of a source are missing, with the command that prepares them; empty if they exist.

    Raises:
        ValueError: if there cannot be such data.
    """
    if not source.dataset:
        return ""
    builder = make_builder(source.dataset, builder_config=source.builder_config, data=config.data)
    return "" if builder.is_prepared() else not_prepared(builder, source, config.data)


def for_cell(cell: CellConfig, config: Config) -> Config:
    """The experiment with the prompt and the length of a cell's questions."""
    prompt, seq_len = cell.prompt or config.data.prompt, cell.seq_len or config.data.seq_len
    history = cell.history or ("none" if "{history}" not in prompt else config.data.history)
    data = dataclasses.replace(config.data, prompt=prompt, seq_len=seq_len, history=history)
    return dataclasses.replace(config, data=data)


def rows_to_ask(config: Config, tokenizer: Tokenizer) -> dict[SourceConfig, RowSource]:
    """The rows of every data set that is prepared, without those that cannot be scored or are too long for some cell.

    So all cells with the same data set ask the same questions, and can be compared pair by pair.

    Raises:
        ValueError: naming the cell, if one of its questions is too long and the policy is `error`, or if all are; or if
            blind baselines would learn from questions that they are asked.
    """
    found: dict[SourceConfig, RowSource] = {}
    unfit: dict[SourceConfig, set[int]] = {}
    shortest: dict[SourceConfig, int] = {}
    checked: set[tuple[SourceConfig, SourceConfig]] = set()
    for cell in config.ablations.cells:
        source, learn = _source_of(cell, config)
        if missing(source, config):
            continue
        if source not in found:
            found[source] = scorable(load_rows(source, config.data, seed=config.seed))
        if source.task != "caption" and learn.dataset and (source, learn) not in checked and not missing(learn, config):
            checked.add((source, learn))
            try:
                check_not_asked(load_rows(learn, config.data, seed=config.seed), found[source])
            except ValueError as error:
                raise ValueError(f"Cell {cell.name!r}: {error}") from error
        data = for_cell(cell, config).data
        try:
            unfit.setdefault(source, set()).update(overlong(found[source], data=data, tokenizer=tokenizer))
        except ValueError as error:
            raise ValueError(f"Cell {cell.name!r}, seq_len={data.seq_len}: {error}") from error
        shortest[source] = min(shortest.get(source, data.seq_len), data.seq_len)
    for source, rows in found.items():
        if len(unfit[source]) == len(rows):
            raise ValueError(f"{rows.name}: every question is too long for some cell; raise data.seq_len.")
    return {source: leave_out(rows, sorted(unfit[source]), seq_len=shortest[source]) for source, rows in found.items()}


def questions_of(
    cell: CellConfig,
    config: Config,
    asked: dict[SourceConfig, RowSource],
    guessed: dict[tuple[SourceConfig, SourceConfig], Guesses],
) -> Asked | str:
    """The questions of a cell, or the reason why it stays empty; `guessed` keeps answers of baselines.

    Raises:
        ValueError: if its data cannot be.
    """
    source, learn = _source_of(cell, config)
    if why := missing(source, config) or missing(learn, config):
        return why
    rows = asked[source]
    if (source, learn) not in guessed:
        guessed[source, learn] = _guess(rows, learn, config)
    if cell.image == "borrowed":
        rows = _lend(rows, load_rows(config.eval.source, config.data, seed=config.seed), seed=config.seed)
    elif cell.image != "own":
        rows = show_other(rows, cell.image, seed=config.seed)
    return Asked(rows, guessed[source, learn])


def _source_of(cell: CellConfig, config: Config) -> tuple[SourceConfig, SourceConfig]:
    """The questions of a cell, and the training rows of its blind baselines."""
    return (cell.source, cell.train_source) if cell.source.dataset else (config.eval.source, config.eval.train_source)


def _guess(rows: RowSource, learn: SourceConfig, config: Config) -> Guesses:
    """The answers of blind baselines; without training rows, only of those that do not need them."""
    if rows.source.task == "caption":
        return {}  # a caption answers no question
    guesses: Guesses = {"longest_option": baselines.longest_option(rows.texts())}
    if learn.dataset:
        found = blind_guesses(load_rows(learn, config.data, seed=config.seed), rows)
        guesses = {"question_only": found["question_only"], "majority": found["majority"], **found["guesses"]}
    return {name: records for name, records in guesses.items() if records}


def _lend(rows: RowSource, lender: RowSource, *, seed: int) -> RowSource:
    """The rows, each with an image of another data set, drawn evenly over its images."""
    first: dict[str, int] = {}
    for number, image_id in enumerate(lender.column("image_id")):
        first.setdefault(image_id, number)
    numbers = np.random.default_rng(seed).choice(list(first.values()), size=len(rows))
    return rows.with_images_of(numbers.tolist(), lender=lender)
