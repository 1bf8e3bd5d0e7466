"""The modes that answer questions, and that score answers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax.config import Config
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder
from radvqa_jax.evaluation import baselines, report
from radvqa_jax.evaluation.predict import predict, read_records
from radvqa_jax.files import sha256, write_text
from radvqa_jax.runners.ground import Ground, configured_adapter, load_ground
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble, identify


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


def predict_mode(config: Config, workdir: Path) -> None:
    """Answers the questions of config.eval.source with one model."""
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    ground = load_ground(config, workdir)
    run, trained = configured_adapter(ground)
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
        provenance={"synthetic": is_synthetic(runs), "predictions": {"name": path.name, "sha256": sha256(path)}},
    )
    write_scores(config, workdir, experiment)


def is_synthetic(runs: Mapping[str, list[Record]]) -> bool:
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
