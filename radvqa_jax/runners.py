"""One function a mode, and the only place where everything meets."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from radvqa_jax import __version__
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.audit import audit, format_report
from radvqa_jax.data.loader import TrainLoader, make_train_loader
from radvqa_jax.data.packing import describe
from radvqa_jax.data.sources import RowSource, load_rows, prepare
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation import baselines, report
from radvqa_jax.evaluation.predict import predict, read_records
from radvqa_jax.files import write_json
from radvqa_jax.models.paligemma import abstract_params
from radvqa_jax.models.variants import get_variant
from radvqa_jax.saliency.runner import write_maps
from radvqa_jax.schema import Record
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.stage import Base, Trained, assemble, load_trained, run_stage, trained_names


class Ground(NamedTuple):
    """What every mode with a model needs."""

    config: Config
    workdir: Path
    tokenizer: Tokenizer
    base: Base


def load_ground(config: Config, workdir: Path) -> Ground:
    """Loads the tokenizer and the base checkpoint, each leaf straight into the dtype it will have."""
    tokenizer = Tokenizer(config.model.tokenizer)
    variant = get_variant(config.model.variant).at(config.model.resolution)
    abstract = abstract_params(variant)
    stages = config.stages if config.mode in ("train", "job") else ()
    trained = trained_names(config, stages, abstract)
    frozen_dtype = jnp.dtype(config.model.param_dtype)
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32 if name in trained else frozen_dtype)
        for name, leaf in abstract.items()
    }
    params, loaded = big_vision.load(
        config.model.checkpoint,
        wanted,
        allow_missing=config.model.allow_missing,
        allow_extra=config.model.allow_extra,
        seed=config.seed,
    )
    print(loaded.text(), flush=True)
    if tokenizer.vocab_size > variant.llm.vocab_size:
        raise ValueError(
            f"model.tokenizer={config.model.tokenizer} has {tokenizer.vocab_size} tokens, but the checkpoint embeds "
            f"{variant.llm.vocab_size}. Give the tokenizer that belongs to the checkpoint."
        )
    return Ground(config, workdir, tokenizer, Base(params, Path(config.model.checkpoint).name, loaded.sha256))


def build_data(config: Config, workdir: Path) -> None:
    """Prepares one data set and says what is in it."""
    built = prepare(
        config.dataset,
        builder_config=config.builder_config,
        data_dir=config.data.data_dir,
        manual_dir=config.data.manual_dir,
    )
    write_json(workdir / "data.json", built)
    print(json.dumps(built, indent=1))


def _make_loader(ground: Ground, name: str) -> TrainLoader:
    config, stage = ground.config, ground.config.stage(name)
    sources = [load_rows(source, config.data, seed=config.seed) for source in stage.sources]
    return make_train_loader(
        sources,
        data=config.data,
        tokenizer=ground.tokenizer,
        resolution=get_variant(config.model.variant).at(config.model.resolution).resolution,
        batch_size=stage.batch_size * stage.accumulate,
        seed=config.seed + int(name.removeprefix("stage")),
    )


def _show_example(ground: Ground, loader: TrainLoader) -> None:
    """Prints the first row of the first batch; the loader is put back."""
    batch = next(loader)
    loader.set_state({"batches_drawn": 0})
    row = {name: getattr(batch, name)[0] for name in ("tokens", "mask_ar", "mask_loss", "mask_input")}
    print("The first training row:\n" + describe(ground.tokenizer, row), flush=True)


def train_stages(ground: Ground, *, after: Callable[[str, Trained], None] = lambda name, trained: None) -> Trained:
    """Trains the configured stages in order and returns what the last one leaves; `after` sees each.

    A stage starts from `init_from`, or from the stage before it in this run, or from the base.
    """
    trained = Trained.nothing()
    for name in ground.config.stages:
        stage = ground.config.stage(name)
        if stage.init_from:
            trained = load_trained(stage.init_from, ground.base)
        loader = _make_loader(ground, name)
        write_json(ground.workdir / name / "data.json", loader.report)
        for entry in loader.report:
            source = entry["source"]
            print(f"{name}: {source['dataset']}:{source['split']} {entry['kept']} rows kept, rejected {entry['rejected']}")
        _show_example(ground, loader)
        try:
            trained = run_stage(
                name,
                ground.config,
                base=ground.base,
                start=trained,
                batches=loader,
                rows_per_epoch=loader.rows_per_epoch,
                data_report=[entry["source"] | {"weight": entry["weight"]} for entry in loader.report],
                folder=ground.workdir / name,
            )
        finally:
            loader.close()
        after(name, trained)
    return trained


def train(config: Config, workdir: Path) -> None:
    """Trains the configured stages."""
    train_stages(load_ground(config, workdir))
    print(f"What was trained is in {workdir / config.stages[-1]}/adapter.npz")


def answer(ground: Ground, trained: Trained, rows: RowSource, *, run: str, name: str = "") -> list[Record]:
    """Returns the answers of the base with what was trained, kept in workdir/predictions/<name or run>.jsonl."""
    config = ground.config
    model, params = assemble(config, ground.base, trained)
    digest = hashlib.sha256()
    for leaf in sorted(trained.leaves):
        digest.update(leaf.encode() + jax.device_get(trained.leaves[leaf]).tobytes())
    fingerprint = {
        "base": ground.base.sha256,
        "trained": digest.hexdigest(),
        "decode": dataclasses.asdict(config.decode),
        "prompt": config.data.prompt,
        "data": rows.fingerprint,
        "seed": config.seed,
    }
    return predict(
        model,
        params,
        rows,
        tokenizer=ground.tokenizer,
        data=config.data,
        config=config.decode,
        seed=config.seed,
        run=run,
        path=ground.workdir / "predictions" / f"{name or run}.jsonl",
        fingerprint=fingerprint,
    )


def _adapter(ground: Ground) -> tuple[str, Trained]:
    """Returns (name of the run, what was trained) of config.adapter, or the base."""
    if not ground.config.adapter:
        return "base", Trained.nothing()
    return "adapted", load_trained(ground.config.adapter, ground.base)


def predict_mode(config: Config, workdir: Path) -> None:
    """Answers the questions of config.eval.source with one model."""
    ground = load_ground(config, workdir)
    run, trained = _adapter(ground)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    records = answer(ground, trained, rows, run=run, name="predictions")
    print(f"{len(records)} answers are in {workdir / 'predictions' / 'predictions.jsonl'}")


def score_mode(config: Config, workdir: Path) -> None:
    """Scores a predictions file without a model, beside the blind baselines of the configured data."""
    records = read_records(Path(config.eval.predictions))
    runs = {run: [r for r in records if r.run == run] for run in dict.fromkeys(r.run for r in records)}
    experiment = report.Experiment(f"Scores of {Path(config.eval.predictions).name}", runs)
    write_scores(config, workdir, experiment)


def write_scores(config: Config, workdir: Path, experiment: report.Experiment) -> dict[str, Any]:
    """Scores an experiment, prints its table, and writes scores.json and report.html."""
    scores = report.build_scores(experiment, resamples=config.eval.bootstrap, seed=config.seed)
    path = report.write_report(workdir, experiment, scores=scores, seed=config.seed)
    table = report.format_table(scores)
    (workdir / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(table)
    print(f"The report is {path}")
    return scores


def saliency_mode(config: Config, workdir: Path) -> None:
    """Writes attention maps for a few questions of config.eval.source."""
    ground = load_ground(config, workdir)
    run, trained = _adapter(ground)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    records = answer(ground, trained, rows, run=run, name="predictions")
    maps(ground, trained, rows, records)


def maps(ground: Ground, trained: Trained, rows: RowSource, records: list[Record]) -> list[dict[str, Any]]:
    """Writes maps for `saliency.cases` questions under workdir/saliency and returns what the report shows of them."""
    model, params = assemble(ground.config, ground.base, trained)
    return write_maps(model, params, rows, records, tokenizer=ground.tokenizer, config=ground.config,
                      folder=ground.workdir / "saliency")


def _all_sources(config: Config) -> list[SourceConfig]:
    """Returns every source that the job names, each once."""
    named = [s for name in config.stages for s in config.stage(name).sources]
    return list(dict.fromkeys([*named, config.eval.source, config.eval.train_source]))


def _prepare_all(config: Config) -> None:
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in _all_sources(config)):
        built = prepare(dataset, builder_config=builder_config, data_dir=config.data.data_dir,
                        manual_dir=config.data.manual_dir)
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}", flush=True)


def _audit(config: Config, workdir: Path) -> dict[str, Any]:
    """Compares what is trained on with what is evaluated, and says what they share."""
    splits = {}
    for source in _all_sources(config):
        rows = load_rows(dataclasses.replace(source, limit=0, weight=1.0), config.data)
        splits.setdefault(rows.name, rows)
    found = audit(splits)
    write_json(workdir / "audit.json", found)
    print(format_report(found), flush=True)
    return found


def _provenance(ground: Ground, rows: RowSource, found: dict[str, Any]) -> dict[str, Any]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "sentencepiece")
    settings = json.dumps(dataclasses.asdict(ground.config), sort_keys=True)
    return {
        "synthetic": ground.config.eval.source.dataset == "phantom_rad",
        "config_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "checkpoint": {"name": ground.base.name, "sha256": ground.base.sha256},
        "tokenizer_sha256": ground.tokenizer.sha256,
        "evaluated_on": rows.fingerprint,
        "shared_between_splits": found["shared"],
        "prompt": ground.config.data.prompt,
        "decoding": dataclasses.asdict(ground.config.decode),
        "seed": ground.config.seed,
        "device": jax.devices()[0].device_kind,
        "versions": {"radvqa_jax": __version__} | {name: importlib.metadata.version(name) for name in packages},
    }


def job(config: Config, workdir: Path) -> None:
    """The main job: data, audit, base model, every stage, answers with baselines, maps, report."""
    _prepare_all(config)
    found = _audit(config, workdir)
    ground = load_ground(config, workdir)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    train_rows = load_rows(config.eval.train_source, config.data, seed=config.seed)
    others = rows.with_images_of(baselines.swap_images(rows, seed=config.seed)) if config.eval.swapped else None
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
        question_only=baselines.question_only(train_rows, rows),
        majority=baselines.majority(train_rows, rows),
        swapped=swapped,
        losses={name: read_losses(workdir / name) for name in config.stages},
        overlays=overlays,
        provenance=_provenance(ground, rows, found),
    )
    write_scores(config, workdir, experiment)


RUNNERS: dict[str, Callable[[Config, Path], None]] = {
    "build_data": build_data,
    "train": train,
    "predict": predict_mode,
    "score": score_mode,
    "saliency": saliency_mode,
    "job": job,
}
