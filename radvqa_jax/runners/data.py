"""The modes that need data and no model."""

import json
from pathlib import Path
from typing import Any

from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.sources import make_builder
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.files import write_json
from radvqa_jax.runners.check_questions import UNCHECKED
from radvqa_jax.runners.write_questions import write_questions

QUESTIONS = "questions"  # the folder of a job's workdir in which questions are written and checked


def build_data(config: Config, workdir: Path) -> None:
    """Prepares one data set and says what is in it."""
    built = prepare(config.dataset, builder_config=config.builder_config, data=config.data)
    write_json(workdir / "data.json", built)
    print(json.dumps(built, indent=1))
    _warn(built)


def _warn(built: dict[str, Any]) -> None:
    for text in built["warnings"]:
        print(f"warning: {built['dataset']}: {text}", flush=True)


def stage_sources(config: Config) -> list[SourceConfig]:
    return [source for name in config.stages for source in config.stage(name).sources]


def all_sources(config: Config) -> list[SourceConfig]:
    """Returns every source that the job names, each once."""
    validated = [config.stage(name).eval_source for name in config.stages]
    evaluated = [config.eval.source, *config.audit.also_evaluate, *validated, config.eval.train_source]
    return [source for source in dict.fromkeys([*stage_sources(config), *evaluated]) if source.dataset]


def write_missing(config: Config, workdir: Path) -> None:
    """Writes, checks and prepares the questions that the job trains or is evaluated on, if config.synthesis makes them.

    Questions that are prepared already, or that config.synthesis does not make, are left alone.
    """
    own = config.synthesis
    wanted = {source.builder_config for source in all_sources(config) if source.dataset == WRITTEN}
    ours = wanted & {own.name, own.name + UNCHECKED} if own.name and own.sources else set()
    if all(make_builder(WRITTEN, builder_config=name, data=config.data).is_prepared() for name in ours):
        return
    for source in own.sources:
        prepare(source.dataset, builder_config=source.builder_config, data=config.data)
    write_questions(config, workdir / QUESTIONS)


def prepare_all(config: Config, workdir: Path) -> None:
    """Prepares every set of the job; questions are written first where config.synthesis says how."""
    write_missing(config, workdir)
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in all_sources(config)):
        built = prepare(dataset, builder_config=builder_config, data=config.data)
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}, {built['origin']}", flush=True)
        _warn(built)
