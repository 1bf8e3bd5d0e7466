"""The main job: everything in order, from data to report."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from radvqa_jax import __version__
from radvqa_jax.config import Config
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder
from radvqa_jax.evaluation import baselines, report
from radvqa_jax.runners.audit import refuse_leaks
from radvqa_jax.runners.data import all_sources, prepare_all
from radvqa_jax.runners.evaluate import answer, is_synthetic, write_scores
from radvqa_jax.runners.ground import Ground, inspect_model, load_ground
from radvqa_jax.runners.saliency import maps
from radvqa_jax.runners.train import train_stages
from radvqa_jax.schema import Record
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.stage import Trained


def _provenance(
    ground: Ground, rows: RowSource, found: dict[str, Any], runs: Mapping[str, list[Record]]
) -> dict[str, Any]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "sentencepiece")
    settings = json.dumps(dataclasses.asdict(ground.config), sort_keys=True)
    return {
        "synthetic": is_synthetic(runs),
        "config_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "checkpoint": {"name": ground.base.name, "sha256": ground.base.sha256},
        "tokenizer_sha256": ground.tokenizer.sha256,
        "evaluated_on": rows.fingerprint,
        "shared_between_splits": [
            {key: value for key, value in pair.items() if key not in ("near_pairs", "suspects")}
            for pair in found["shared"]
        ],
        "accepted_leaks": list(ground.config.audit.accept),
        "prompt": ground.config.data.prompt,
        "decoding": dataclasses.asdict(ground.config.decode),
        "seed": ground.config.seed,
        "device": jax.devices()[0].device_kind,
        "versions": {"radvqa_jax": __version__} | {name: importlib.metadata.version(name) for name in packages},
    }


def job(config: Config, workdir: Path) -> None:
    """The main job: data, audit, base model, every stage, answers with baselines, maps, report."""
    for source in all_sources(config):
        make_builder(source.dataset, builder_config=source.builder_config, data_dir=config.data.data_dir)
    inspect_model(config)
    prepare_all(config)
    found = refuse_leaks(config, workdir)
    ground = load_ground(config, workdir)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    train_rows = load_rows(config.eval.train_source, config.data, seed=config.seed)
    others = rows.with_images_of(baselines.swap_images(rows.texts(), seed=config.seed)) if config.eval.swapped else None
    runs: dict[str, list[Record]] = {}
    swapped: dict[str, list[Record]] = {}

    def evaluate(name: str, trained: Trained) -> None:
        runs[name] = answer(ground, trained, rows, run=name)
        if others is not None:
            swapped[name] = answer(ground, trained, others, run=name, name=f"{name}_swapped")

    evaluate("base", Trained.nothing())
    trained = train_stages(ground, after=evaluate)
    overlays = maps(ground, trained, rows, runs[config.stages[-1]])
    experiment = report.Experiment(
        f"{rows.name}: {', '.join(config.stages)} of {config.model.variant}",
        runs,
        question_only=baselines.question_only(train_rows.texts(), rows.texts()),
        majority=baselines.majority(train_rows.texts(), rows.texts()),
        swapped=swapped,
        losses={name: read_losses(workdir / name) for name in config.stages},
        overlays=overlays,
        provenance=_provenance(ground, rows, found, runs),
    )
    write_scores(config, workdir, experiment)
