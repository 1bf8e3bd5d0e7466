"""One function a mode, and the only place where everything meets."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from radvqa_jax import __version__
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.audit import audit, format_report
from radvqa_jax.data.loader import TrainLoader, make_train_loader
from radvqa_jax.data.packing import describe
from radvqa_jax.data.sources import RowSource, find_prepared, load_rows, make_builder, prepare
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation import baselines, report
from radvqa_jax.evaluation.predict import predict, read_records
from radvqa_jax.files import sha256, write_json, write_text
from radvqa_jax.models.paligemma import abstract_params
from radvqa_jax.models.variants import get_variant
from radvqa_jax.saliency.gallery import write_cases
from radvqa_jax.schema import Record
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.stage import Base, Trained, assemble, identify, load_trained, run_stage, trained_names
from radvqa_jax.trees import Flat


class Ground(NamedTuple):
    """What every mode with a model needs."""

    config: Config
    workdir: Path
    tokenizer: Tokenizer
    base: Base


def inspect_model(config: Config) -> tuple[Tokenizer, Flat]:
    """Returns the tokenizer, and the shape and dtype that each leaf of the base will have, without loading a weight.

    Raises:
        FileNotFoundError, ValueError: if the checkpoint, the tokenizer or an adapter is not there or is none, the
            tokenizer has too many tokens, or the rules of a stage do not fit the model.
    """
    tokenizer = Tokenizer(config.model.tokenizer)
    big_vision.read_shapes(config.model.checkpoint)
    variant = get_variant(config.model.variant).at(config.model.resolution)
    if tokenizer.vocab_size > variant.llm.vocab_size:
        raise ValueError(
            f"model.tokenizer={config.model.tokenizer} has {tokenizer.vocab_size} tokens, but {config.model.variant} "
            f"embeds {variant.llm.vocab_size}. Give the tokenizer that belongs to the checkpoint."
        )
    stages = config.stages if config.mode in ("train", "job") else ()
    for adapter in [config.stage(name).init_from for name in stages] if stages else [config.adapter]:
        if adapter:
            load_adapter(adapter)
    abstract = abstract_params(variant)
    trained = trained_names(config, stages, abstract)
    frozen_dtype = jnp.dtype(config.model.param_dtype)
    return tokenizer, {
        name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32 if name in trained else frozen_dtype)
        for name, leaf in abstract.items()
    }


def load_ground(config: Config, workdir: Path) -> Ground:
    """Loads the tokenizer and the base checkpoint, each leaf straight into the dtype it will have."""
    tokenizer, wanted = inspect_model(config)
    params, loaded = big_vision.load(
        config.model.checkpoint,
        wanted,
        allow_missing=config.model.allow_missing,
        allow_extra=config.model.allow_extra,
        seed=config.seed,
    )
    print(loaded.text(), flush=True)
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
    position = loader.get_state()
    batch = next(loader)
    loader.set_state(position)
    row = {name: getattr(batch, name)[0] for name in ("tokens", "mask_ar", "mask_loss", "mask_input")}
    print("The first training row:\n" + describe(ground.tokenizer, row), flush=True)


def train_stages(ground: Ground, *, after: Callable[[str, Trained], None] = lambda name, trained: None) -> Trained:
    """Trains the configured stages in order and returns what the last one leaves; `after` sees each.

    A stage starts from `init_from`, or from the stage before it in this run, or from the base.
    """
    config = ground.config
    # Loaded before the first stage trains, so that one which does not fit is not found hours later.
    given = {name: load_trained(path, ground.base) for name in config.stages if (path := config.stage(name).init_from)}
    trained = Trained.nothing()
    for name in config.stages:
        loader = _make_loader(ground, name)
        for entry in loader.report:
            source = entry["source"]
            kept = f"{entry['kept']} rows kept, rejected {entry['rejected']}"
            print(f"{name}: {source['dataset']}:{source['split']} {kept}")
        _show_example(ground, loader)
        data = {str(i): entry["source"] | {"weight": entry["weight"]} for i, entry in enumerate(loader.report)}
        try:
            trained = run_stage(
                name,
                config,
                base=ground.base,
                start=given.get(name, trained),
                batches=loader,
                rows_per_epoch=loader.rows_per_epoch,
                data=data | {"tokenizer": ground.tokenizer.sha256},
                folder=ground.workdir / name,
            )
        finally:
            loader.close()
        write_json(ground.workdir / name / "data.json", loader.report)
        after(name, trained)
    return trained


def train(config: Config, workdir: Path) -> None:
    """Trains the configured stages."""
    for source in _stage_sources(config):
        find_prepared(source, config.data)
    train_stages(load_ground(config, workdir))
    print(f"What was trained is in {workdir / config.stages[-1]}/adapter.npz")


def answer(ground: Ground, trained: Trained, rows: RowSource, *, run: str, name: str = "") -> list[Record]:
    """Returns the answers of the base with what was trained, kept in workdir/predictions/<name or run>.jsonl."""
    config = ground.config
    model, params = assemble(config, ground.base, trained)
    fingerprint = identify(config, ground.base) | {
        "tokenizer": ground.tokenizer.sha256,
        "trained": trained.sha256(),
        "decode": dataclasses.asdict(config.decode),
        "data": rows.fingerprint,
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
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    ground = load_ground(config, workdir)
    run, trained = _adapter(ground)
    records = answer(ground, trained, rows, run=run, name="predictions")
    print(f"{len(records)} answers are in {workdir / 'predictions' / 'predictions.jsonl'}")


def score_mode(config: Config, workdir: Path) -> None:
    """Scores a predictions file without a model, beside the blind baselines if the configured data hold its questions.

    Answers to another case's image count as a run of their own.
    """
    path = Path(config.eval.predictions).expanduser()
    runs: dict[str, list[Record]] = {}
    for record in read_records(path):
        swapped = record.image_used not in ("", record.image_id)
        runs.setdefault(f"{record.run}, another case's image" if swapped else record.run, []).append(record)
    if not runs:
        raise ValueError(f"{path} holds no answer. Give a predictions file as eval.predictions.")
    question_only, majority = _blind_baselines(config, next(iter(runs.values())))
    experiment = report.Experiment(
        f"Scores of {path.name}",
        runs,
        question_only=question_only,
        majority=majority,
        provenance={"synthetic": _is_synthetic(runs), "predictions": {"name": path.name, "sha256": sha256(path)}},
    )
    write_scores(config, workdir, experiment)


def _is_synthetic(runs: Mapping[str, list[Record]]) -> bool:
    """Returns whether a question is about a drawn image; such data sets say `synthetic` in their rows' source."""
    return any("synthetic" in record.source.split() for records in runs.values() for record in records)


def _blind_baselines(config: Config, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Returns (question-only, majority) answers to the questions of the records; none without data, and says why.

    Raises:
        ValueError: if the configuration names data that there cannot be.
    """
    test, train = config.eval.source, config.eval.train_source
    for source, field in ((test, "eval.source"), (train, "eval.train_source")):
        if not source.dataset:
            print(f"No blind baselines: {field}.dataset is empty.")
            return [], []
        builder = make_builder(source.dataset, builder_config=source.builder_config, data_dir=config.data.data_dir)
        if not builder.is_prepared():
            print(f"No blind baselines: {source.dataset} is not prepared in {config.data.data_dir}.")
            return [], []
    asked = {(record.source, record.question_id) for record in records}
    rows = load_rows(dataclasses.replace(test, limit=0), config.data)
    rows = rows.select([i for i, row in enumerate(rows) if (row["source"], row["question_id"]) in asked])
    if len(rows) != len(asked):
        print(f"No blind baselines: {rows.name} holds {len(rows)} of the {len(asked)} questions that were answered.")
        return [], []
    train_rows = load_rows(train, config.data, seed=config.seed)
    return baselines.question_only(train_rows, rows), baselines.majority(train_rows, rows)


def write_scores(config: Config, workdir: Path, experiment: report.Experiment) -> dict[str, Any]:
    """Scores an experiment, prints its table, and writes scores.json and report.html."""
    scores = report.build_scores(experiment, resamples=config.eval.bootstrap, seed=config.seed)
    path = report.write_report(workdir, experiment, scores=scores, seed=config.seed)
    table = report.format_table(scores)
    write_text(workdir / "table.txt", table + "\n")
    print(table)
    print(f"The report is {path}")
    return scores


def saliency_mode(config: Config, workdir: Path) -> None:
    """Writes attention maps for a few questions of config.eval.source."""
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    ground = load_ground(config, workdir)
    run, trained = _adapter(ground)
    records = answer(ground, trained, rows, run=run, name="predictions")
    maps(ground, trained, rows, records)


def maps(ground: Ground, trained: Trained, rows: RowSource, records: list[Record]) -> list[dict[str, Any]]:
    """Writes maps for `saliency.cases` questions under workdir/saliency and returns what the report shows of them."""
    model, params = assemble(ground.config, ground.base, trained)
    return write_cases(
        model,
        params,
        rows,
        records=records,
        tokenizer=ground.tokenizer,
        config=ground.config,
        folder=ground.workdir / "saliency",
    )


def _stage_sources(config: Config) -> list[SourceConfig]:
    return [source for name in config.stages for source in config.stage(name).sources]


def _all_sources(config: Config) -> list[SourceConfig]:
    """Returns every source that the job names, each once."""
    return list(dict.fromkeys([*_stage_sources(config), config.eval.source, config.eval.train_source]))


def _prepare_all(config: Config) -> None:
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in _all_sources(config)):
        built = prepare(
            dataset, builder_config=builder_config, data_dir=config.data.data_dir, manual_dir=config.data.manual_dir
        )
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}", flush=True)


def _audit(config: Config, workdir: Path) -> dict[str, Any]:
    """Compares what is trained on with what is evaluated, and says what they share."""
    whole = [dataclasses.replace(s, task="vqa", limit=0, weight=1.0) for s in _all_sources(config)]
    splits = {rows.name: rows for rows in (load_rows(source, config.data) for source in dict.fromkeys(whole))}
    found = audit(splits)
    write_json(workdir / "audit.json", found)
    print(format_report(found), flush=True)
    return found


def _provenance(
    ground: Ground, rows: RowSource, found: dict[str, Any], runs: Mapping[str, list[Record]]
) -> dict[str, Any]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "sentencepiece")
    settings = json.dumps(dataclasses.asdict(ground.config), sort_keys=True)
    return {
        "synthetic": _is_synthetic(runs),
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
    for source in _all_sources(config):
        make_builder(source.dataset, builder_config=source.builder_config, data_dir=config.data.data_dir)
    inspect_model(config)
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
        provenance=_provenance(ground, rows, found, runs),
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
