"""The modes that need data and no model."""

import json
from pathlib import Path
from typing import Any

from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.files import write_json


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
    evaluated = [config.eval.source, *config.audit.also_evaluate]
    return list(dict.fromkeys([*stage_sources(config), *evaluated, config.eval.train_source]))


def prepare_all(config: Config) -> None:
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in all_sources(config)):
        built = prepare(dataset, builder_config=builder_config, data=config.data)
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}, {built['origin']}", flush=True)
        _warn(built)
