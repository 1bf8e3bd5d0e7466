"""The modes that need data and no model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.audit import audit, format_report
from radvqa_jax.data.sources import load_rows, prepare
from radvqa_jax.files import write_json


def build_data(config: Config, workdir: Path) -> None:
    """Prepares one data set and says what is in it."""
    built = prepare(
        config.dataset,
        builder_config=config.builder_config,
        data_dir=config.data.data_dir,
        manual_dir=config.data.manual_dir,
        allow_count_mismatch=config.data.allow_count_mismatch,
    )
    write_json(workdir / "data.json", built)
    print(json.dumps(built, indent=1))


def stage_sources(config: Config) -> list[SourceConfig]:
    return [source for name in config.stages for source in config.stage(name).sources]


def all_sources(config: Config) -> list[SourceConfig]:
    """Returns every source that the job names, each once."""
    return list(dict.fromkeys([*stage_sources(config), config.eval.source, config.eval.train_source]))


def prepare_all(config: Config) -> None:
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in all_sources(config)):
        built = prepare(
            dataset,
            builder_config=builder_config,
            data_dir=config.data.data_dir,
            manual_dir=config.data.manual_dir,
            allow_count_mismatch=config.data.allow_count_mismatch,
        )
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}", flush=True)


def audit_all(config: Config, workdir: Path) -> dict[str, Any]:
    """Compares what is trained on with what is evaluated, and says what they share."""
    whole = [dataclasses.replace(s, task="vqa", limit=0, weight=1.0) for s in all_sources(config)]
    splits = {rows.name: rows for rows in (load_rows(source, config.data) for source in dict.fromkeys(whole))}
    found = audit(splits)
    write_json(workdir / "audit.json", found)
    print(format_report(found), flush=True)
    return found
