"""The modes that answer questions, and that score answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax

from radvqa_jax import processes, runtime
from radvqa_jax.backbones import backbone_of, configured_backbone
from radvqa_jax.config import Config
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.unchanged import unchanged
from radvqa_jax.evaluation import baselines, published, report, samples
from radvqa_jax.evaluation.predict import predict
from radvqa_jax.evaluation.report_page import write_report
from radvqa_jax.evaluation.review import Reading
from radvqa_jax.evaluation.review import read_sheets as read_filled
from radvqa_jax.evaluation.scorable import scorable
from radvqa_jax.evaluation.score_types import ExperimentScores
from radvqa_jax.files import write_jsonl, write_text
from radvqa_jax.loaded_base import LoadedBase, configured_adapter, load_base
from radvqa_jax.schema import Record
from radvqa_jax.training.own_devices import on_own_devices
from radvqa_jax.training.sharding import put, shard_flat
from radvqa_jax.training.stage import Base, Trained, assemble, identify
from radvqa_jax.training.stage_plan import answering_mesh
from radvqa_jax.untrusted import visible


def answer(loaded: LoadedBase, trained: Trained, rows: RowSource, *, run: str, name: str = "") -> list[Record]:
    """The answers of the base with trained leaves, kept in workdir/predictions/<name or run>.jsonl.

    The rows of each batch are divided over the devices of config.mesh, the questions over the processes; each process
    gets all answers.

    Raises:
        ValueError: if the data set was prepared anew since its rows were opened.
    """
    config = loaded.config
    runtime.release_programs()
    model, params = assemble(config, own_base(loaded), trained)
    fingerprint = identify(config, loaded.base) | {
        "tokenizer": loaded.tokenizer.sha256,
        "trained": trained.sha256(),
        "decode": dataclasses.asdict(config.decode),
        "data": rows.fingerprint,
    }
    mesh = answering_mesh(config)
    if mesh is not None:  # the base is on it; the trained leaves are on one device
        own = {name: params[name] for name in trained.leaves}
        params = params | put(own, shard_flat(mesh, own, backbone_of(model.variant).sharding))
    devices = nullcontext() if mesh is None else jax.set_mesh(mesh)
    with unchanged([rows.fingerprint], config.data), devices:
        return predict(
            model,
            params,
            rows,
            tokenizer=loaded.tokenizer,
            data=config.data,
            config=config.decode,
            seed=config.seed,
            run=run,
            path=loaded.workdir / "predictions" / f"{name or run}.jsonl",
            fingerprint=fingerprint,
            image_tokens=loaded.image_tokens,
            tower=trained.tower(backbone_of(model.variant)),
        )


def own_base(loaded: LoadedBase) -> Base:
    """The base on the devices of this process: each of several processes answers and makes maps alone."""
    group = processes.group()
    if group.count == 1:
        return loaded.base
    mesh = answering_mesh(loaded.config)
    rules = configured_backbone(loaded.config.model).sharding
    return loaded.base._replace(params=on_own_devices(mesh, loaded.base.params, rules, group=group))


class Unseen(NamedTuple):
    """The rows of an evaluation with other images than their own, as configured."""

    swapped: dict[str, RowSource]  # kind of score_types.UNSEEN -> rows, each with another case's image
    blank: tuple[RowSource, list[int]] | None  # a row for each distinct prompt, and for each row of all which it is
    same_group: int  # swapped images of the row's own modality and organ; for the others there was none


def unseen_rows(config: Config, rows: RowSource) -> Unseen:
    """The rows with other images. With a blank image only prompts differ, so each distinct prompt is asked once."""
    swapped, blank, same_group = {}, None, 0
    if config.eval.swapped:
        asked = list(rows.texts())
        others = baselines.swap_images(asked, seed=config.seed)
        swapped["swapped"], same_group = rows.with_images_of(others), baselines.agreeing(asked, others)
    if config.eval.swapped_any:
        swapped["swapped_any"] = show_other(rows, "swapped_any", seed=config.seed)
    if config.eval.blank:
        first, which = baselines.distinct(rows.text(row, template=config.data.prompt)[0] for row in rows.texts())
        blank = show_other(rows.select(first), "blank", seed=config.seed), which
    return Unseen(swapped, blank, same_group)


def show_other(rows: RowSource, kind: str, *, seed: int) -> RowSource:
    """The rows with the images of a kind of UNSEEN: another case's, that of any case, a blank one."""
    if kind == "blank":
        return rows.with_image(baselines.blank_image(), image_id=baselines.BLANK)
    by = ("modality", "organ") if kind == "swapped" else ()
    return rows.with_images_of(baselines.swap_images(rows.texts(), seed=seed, by=by))


def answer_unseen(
    loaded: LoadedBase, trained: Trained, rows: RowSource, unseen: Unseen, *, run: str
) -> dict[str, list[Record]]:
    """A run's answers to other images, by kind, each kept in workdir/predictions/<run>_<kind>.jsonl."""
    found = {
        kind: answer(loaded, trained, source, run=run, name=f"{run}_{kind}") for kind, source in unseen.swapped.items()
    }
    if unseen.blank is not None:
        prompts, which = unseen.blank
        said = answer(loaded, trained, prompts, run=run, name=f"{run}_blank_prompts")
        answers = [said[number] for number in which]
        found["blank"] = [
            baselines.to_record(row, predictions=given.predictions, run=run, image_used=baselines.BLANK)._replace(
                logprobs=given.logprobs, prompt=given.prompt, token_ids=given.token_ids, ended=given.ended
            )
            for row, given in zip(rows.texts(), answers, strict=True)
        ]
        path = loaded.workdir / "predictions" / f"{run}_blank.jsonl"
        if processes.group().first:
            write_jsonl(path, [record.to_json() for record in found["blank"]])
    return found


def predict_mode(config: Config, workdir: Path) -> None:
    """Answers the questions of config.eval.source with one model."""
    rows = scorable(load_rows(config.eval.source, config.data, seed=config.seed))
    loaded = load_base(config, workdir)
    rows = fitting(rows, data=config.data, tokenizer=loaded.tokenizer)
    run, trained = configured_adapter(loaded)
    records = answer(loaded, trained, rows, run=run, name="predictions")
    print(f"{len(records)} answers are in {workdir / 'predictions' / 'predictions.jsonl'}")


def read_sheets(config: Config) -> list[Reading]:
    """The readings in the filled review sheets."""
    return read_filled([Path(sheet).expanduser() for sheet in config.report.review_sheets])


def image_of(rows: RowSource) -> Callable[[Record], bytes]:
    """Makes a function that gives the encoded image of a record's question; empty if there is no such row."""
    index = {(row["source"], row["question_id"]): number for number, row in enumerate(rows.texts())}

    def image(record: Record) -> bytes:
        number = index.get((record.source, record.question_id))
        return b"" if number is None else rows[number]["image"]

    return image


def is_synthetic(runs: Mapping[str, list[Record]]) -> bool:
    """Whether a question is about a synthetic image; such data sets have `synthetic` in their rows' source."""
    return any("synthetic" in record.source.split() for records in runs.values() for record in records)


def blind_guesses(train_rows: RowSource, rows: RowSource) -> dict[str, Any]:
    """The fields of report.Experiment for answers without a model."""
    train, asked = list(train_rows.texts()), list(rows.texts())
    guesses = {
        "longest_option": baselines.longest_option(asked),
        "letter_frequency": baselines.letter_frequency(train, asked),
    }
    return {
        "question_only": baselines.question_only(train, asked),
        "majority": baselines.majority(train, asked),
        "guesses": {name: records for name, records in guesses.items() if records},
    }


def _beside_the_rules(config: Config, records: Sequence[Record]) -> dict[str, Any]:
    """`published`, the papers' metrics, and `samples`, MedM's rule and frame, of one run."""
    wanted, bootstrap = config.score, {"resamples": config.eval.bootstrap, "seed": config.seed}
    return {
        "published": published.score_published(
            records,
            wanted.published,
            bertscore_model=wanted.bertscore_model,
            bertscore_layers=wanted.bertscore_layers,
            **bootstrap,
        ),
        "samples": samples.score_samples(
            records,
            instability=wanted.instability,
            penalty=wanted.penalty,
            sample_size=wanted.sample_size,
            runs=wanted.sample_runs,
            **bootstrap,
        ),
    }


def write_scores(
    config: Config,
    workdir: Path,
    experiment: report.Experiment,
    *,
    extra: Mapping[str, Any] | None = None,
    brief: bool = False,
) -> ExperimentScores:
    """Scores an experiment, prints its table, and writes scores.json (with `extra`), table.txt and report.html.

    With `brief` the published metrics are neither printed nor in table.txt, but in published.txt.
    """
    scores = report.build_scores(experiment, resamples=config.eval.bootstrap, seed=config.seed)
    runs: Any = {name: run | _beside_the_rules(config, experiment.runs[name]) for name, run in scores["runs"].items()}
    scores: Any = {**scores, "runs": runs, **(extra or {})}
    table, end = report.format_table(scores), ""
    if config.score.published:
        found = {name: run["published"] for name, run in scores["runs"].items()}
        metrics = published.format_published(found, label=report.run_label)
        if brief:
            write_text(workdir / "published.txt", visible(metrics) + "\n")
            end = f"; the metrics of the papers are in {workdir / 'published.txt'}"
        else:
            table += "\n\n" + metrics
    write_text(workdir / "table.txt", visible(table) + "\n")  # names of models come from anyone
    print(table)
    path = write_report(workdir, experiment, scores=scores, config=config.report, seed=config.seed)
    print(f"The report is {path}{end}")
    return scores
