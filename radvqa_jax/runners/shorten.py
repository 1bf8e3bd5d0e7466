"""An experiment in shortened form: one data set stands in for every other, and each stage takes one step."""

import dataclasses
from typing import Any, TypeVar

from radvqa_jax.config import CellConfig, Config, SourceConfig, StageConfig

T = TypeVar("T", Config, CellConfig)

ROWS = 4  # of every source
SEQ_LEN = 96  # text tokens: the prompts of the recipes with questions of phantoms
NEW_TOKENS = 4


def _source(source: SourceConfig, stand_in: str, **changed: Any) -> SourceConfig:
    if not source.dataset:
        return source
    dataset, _, builder_config = stand_in.partition("/")
    return dataclasses.replace(
        source, dataset=dataset, builder_config=builder_config, where=(), count=0, limit=ROWS, **changed
    )


def _stage(stage: StageConfig, stand_in: str) -> StageConfig:
    return dataclasses.replace(
        stage,
        sources=tuple(_source(source, stand_in) for source in stage.sources),
        eval_source=_source(stage.eval_source, stand_in),
        total_steps=1,
        epochs=0.0,
        batch_size=2,
        accumulate=1,
        optim=dataclasses.replace(stage.optim, warmup_steps=0),
    )


def shorten(experiment: T, stand_in: str) -> T:
    """The experiment, or one cell of it, on another data set and with one step for each stage.

    Stages, adapters, rounding, schedules, mixtures and prompts do not change: they are the content of a recipe.

    Args:
        experiment: a configuration or a cell.
        stand_in: the data set, as dataset/builder_config.
    """
    if isinstance(experiment, CellConfig):
        return dataclasses.replace(
            experiment,
            source=_source(experiment.source, stand_in, split="test"),  # some sets have only one split
            train_source=_source(experiment.train_source, stand_in),
            stage_sources=tuple(_source(source, stand_in) for source in experiment.stage_sources),
            stage_steps=min(1, experiment.stage_steps),
            seq_len=0,
        )
    decode, evaluated, model = experiment.decode, experiment.eval, experiment.model
    # A step of two examples does not need a way of storing less.
    remat = "none" if model.remat == "auto" else model.remat
    return dataclasses.replace(
        experiment,
        stages={name: _stage(stage, stand_in) for name, stage in experiment.stages.items()},
        data=dataclasses.replace(experiment.data, seq_len=SEQ_LEN),
        model=dataclasses.replace(model, resolution=0, remat=remat),
        decode=dataclasses.replace(decode, samples=min(2, decode.samples), max_new_tokens=NEW_TOKENS),
        eval=dataclasses.replace(
            evaluated,
            source=_source(evaluated.source, stand_in),
            train_source=_source(evaluated.train_source, stand_in),
        ),
        audit=dataclasses.replace(experiment.audit, accept=()),
    )
