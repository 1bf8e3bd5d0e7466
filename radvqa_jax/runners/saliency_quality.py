"""The mode that measures attention maps against the regions that a data set marks."""

import contextlib
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from radvqa_jax import progress
from radvqa_jax.backbones import backbone_of
from radvqa_jax.config import Config
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.loader import TrainLoader
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import find_prepared, load_rows
from radvqa_jax.data.unchanged import unchanged
from radvqa_jax.evaluation.kept_answers import read_unfinished
from radvqa_jax.evaluation.scorable import scorable
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.files import append_jsonl, read_jsonl, write_jsonl
from radvqa_jax.loaded_base import LoadedBase, configured_adapter, load_base
from radvqa_jax.runners.evaluate import answer, is_synthetic
from radvqa_jax.runners.train import make_loader, train_stage
from radvqa_jax.saliency.quality_cases import Settings, Subject, measure_cases
from radvqa_jax.saliency.quality_choice import answers_to_force, choose, make_cases
from radvqa_jax.saliency.quality_report import format_quality, write_quality_report
from radvqa_jax.saliency.quality_scores import quality_scores
from radvqa_jax.saliency.sanity import shuffle_weights, towers
from radvqa_jax.saliency.unused import check_used
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble, identify

SHUFFLED = "trained on shuffled images"


def _make_control(loaded: LoadedBase) -> tuple[LoadedBase, TrainLoader]:
    """The experiment with a shorter last stage, and its batches, in which every question has a random other image.

    Questions and answers remain a language to learn, but the image has no information about them.
    """
    config, name = loaded.config, loaded.config.stage_names[-1]
    steps = config.quality.shuffled_image_steps
    stage = dataclasses.replace(config.stages[name], total_steps=steps, epochs=0.0, init_from="")
    control = loaded._replace(config=config.with_stages({name: stage}))

    def shuffle(rows: RowSource) -> RowSource:
        return rows.with_images_of(np.random.default_rng(config.seed).permutation(len(rows)).tolist())

    return control, make_loader(control, name, change=shuffle)


def _train_control(loaded: LoadedBase) -> Trained:
    """The leaves that the last stage trains on shuffled images."""
    control, loader = _make_control(loaded)
    name, folder = control.config.stage_names[-1], loaded.workdir / "shuffled_images"
    opened = [entry["source"] for entry in loader.report]
    with contextlib.closing(loader), unchanged(opened, control.config.data):
        return train_stage(control, name, loader, start=Trained.nothing(), folder=folder)


def _others(loaded: LoadedBase, subject: Subject, trained: Trained) -> tuple[dict[str, Subject], dict[str, str]]:
    """The models with which maps are compared, and their trained leaves."""
    config = loaded.config
    backbone = backbone_of(subject.model.variant)
    shuffle = partial(shuffle_weights, subject.params, seed=config.seed, equations=backbone.equations)
    others = {f"{name} shuffled": Subject(subject.model, shuffle(part)) for name, part in towers(backbone.tree).items()}
    found = {"seed of the shuffles": str(config.seed)}
    if trained.leaves:
        others["before adaptation"] = Subject(*assemble(config, loaded.base, Trained.nothing()))
    if config.quality.shuffled_image_steps:
        shuffled = _train_control(loaded)
        others[SHUFFLED] = Subject(*assemble(config, loaded.base, shuffled))
        found[SHUFFLED] = shuffled.sha256()
    return others, found


def saliency_quality_mode(config: Config, workdir: Path) -> None:
    """Measures the maps of a model on config.eval.source, and writes saliency_quality.html and .json.

    Rows of cases are written as they come; a run that is started again continues with the next whole batch.
    """
    check_used(config)
    if config.quality.shuffled_image_steps:
        for source in config.stages[config.stage_names[-1]].sources:
            find_prepared(source, config.data)
    rows = scorable(load_rows(config.eval.source, config.data, seed=config.seed))
    loaded = load_base(config, workdir)
    rows = fitting(rows, data=config.data, tokenizer=loaded.tokenizer)
    if config.quality.shuffled_image_steps:
        _make_control(loaded)[1].close()  # a mistake in its data is found before anything is answered
    run, trained = configured_adapter(loaded)
    subject = Subject(*assemble(config, loaded.base, trained))
    grid = round(subject.model.variant.num_patches**0.5)
    rows, targets, skipped = choose(rows, config.quality, seed=config.seed, grid=grid)
    print(f"{len(rows)} questions of {rows.name} are measured; left out: {skipped or 'none'}.", flush=True)
    own = config.quality.answer == "own"
    records = answer(loaded, trained, rows, run=run, name="quality_predictions") if own else None
    answers = answers_to_force(rows, records, tokenizer=loaded.tokenizer, prompt=config.data.prompt)
    room = max(map(len, answers))
    cases = make_cases(
        rows, targets, records, answers=answers, tokenizer=loaded.tokenizer, data=config.data,
        resolution=subject.model.variant.resolution,
    )  # fmt: skip
    others, compared = _others(loaded, subject, trained)
    fingerprint = identify(config, loaded.base) | {
        "trained": trained.sha256(),
        "data": rows.fingerprint,
        "questions": [case.about["question_id"] for case in cases],
        "decode": dataclasses.asdict(config.decode) if own else {},
        "saliency": dataclasses.asdict(config.saliency),
        "quality": dataclasses.asdict(dataclasses.replace(config.quality, bootstrap=1)),
        "compared": compared,
    }
    path = workdir / "quality_cases.jsonl"
    start = _start(path, fingerprint, config.quality.batch_size)
    settings = Settings(config.saliency, config.quality, room, loaded.tokenizer.eos, config.seed)
    with progress.bar(name="attention maps measured", total=len(cases), initial=start, unit="case") as bar:
        for measured in measure_cases(subject, others, cases, settings, start=start):
            append_jsonl(path, measured)
            bar.update(len(measured))
    provenance = _provenance(loaded, rows, records, run=run, trained=trained, skipped=skipped)
    scores = quality_scores(
        read_jsonl(path), resamples=config.quality.bootstrap, seed=config.seed, provenance=provenance
    )
    page = write_quality_report(workdir, scores)
    print(format_quality(scores))
    print(f"The report is {page}")


def _start(path: Path, fingerprint: dict[str, Any], batch_size: int) -> int:
    """The number of measured cases of an interrupted run, after cutting its file back to whole batches.

    Random orders depend on a batch's number, so only whole batches are kept: the rest is the same as without an
    interruption. `fingerprint` has the `questions` of all cases, in order.

    Raises:
        ValueError: naming the line, if the lines are not of the first questions in their order.
    """
    done, asked = read_unfinished(path, fingerprint), fingerprint["questions"]
    for number, row in enumerate(done, 1):
        found = row.get("question_id")
        if number > len(asked) or found != asked[number - 1]:
            wanted = f"there are only {len(asked)} questions"
            if number <= len(asked):
                wanted = f"the question in this place is {asked[number - 1]!r}"
            raise ValueError(
                f"{path}, line {number}: it is of question {found!r}, and {wanted}; was the file edited? Take out this "
                "line and all after it: they are measured again. Or give another --workdir."
            )
    if len(done) == len(asked):
        return len(done)
    whole = len(done) - len(done) % batch_size
    write_jsonl(path, done[:whole])
    return whole


def _provenance(
    loaded: LoadedBase,
    rows: RowSource,
    records: list[Record] | None,
    *,
    run: str,
    trained: Trained,
    skipped: dict[str, int],
) -> dict[str, Any]:
    config = loaded.config
    synthetic = any("synthetic" in row["source"].split() for row in rows) if records is None else False
    return {
        "synthetic": is_synthetic({run: records}) if records else synthetic,
        "model": f"{config.model.variant}, {run}",
        "checkpoint": f"{loaded.base.name}, sha256 {loaded.base.sha256}",
        "trained": trained.sha256() if trained.leaves else "nothing",
        "data": rows.fingerprint,
        "left out": skipped,
        "answers": "the model's own, greedy" if records else "the references",
        "cut": sum(r.ended[:1] == [False] for r in records) if records else "not asked",
        "right": sum(verdict(r, r.predictions[0]).outcome == "correct" for r in records) if records else "not asked",
        "saliency": dataclasses.asdict(config.saliency),
        "quality": dataclasses.asdict(config.quality),
        "seed": config.seed,
    }
