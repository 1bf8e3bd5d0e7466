"""The main job: everything in order, from data to report."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import processes
from radvqa_jax.config import EMBEDDED, Config
from radvqa_jax.data.audit import consequences
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder
from radvqa_jax.evaluation import published, report
from radvqa_jax.evaluation.judge_file import JudgeFile, find_judges
from radvqa_jax.evaluation.scorable import check_not_asked, scorable
from radvqa_jax.evaluation.score_types import UNSEEN
from radvqa_jax.files import read_json, write_jsonl
from radvqa_jax.loaded_base import LoadedBase, inspect_model, load_base, provenance
from radvqa_jax.progress import Steps
from radvqa_jax.runners.audit import refuse_leaks
from radvqa_jax.runners.data import QUESTIONS, all_sources, prepare_all
from radvqa_jax.runners.evaluate import (
    Unseen,
    answer,
    answer_unseen,
    blind_guesses,
    image_of,
    is_synthetic,
    read_sheets,
    unseen_rows,
    write_scores,
)
from radvqa_jax.runners.saliency import maps, refuse_other_maps
from radvqa_jax.runners.train import train_stages
from radvqa_jax.saliency.gallery import choose_cases
from radvqa_jax.saliency.unused import check_used
from radvqa_jax.schema import Record
from radvqa_jax.shell import command
from radvqa_jax.synthesis.report import REPORT
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.stage import Trained


def _provenance(
    loaded: LoadedBase, rows: RowSource, unseen: Unseen, found: dict[str, Any], runs: Mapping[str, list[Record]]
) -> dict[str, Any]:
    return {
        "synthetic": is_synthetic(runs),
        "evaluated_on": rows.fingerprint,
        "swapped_image_of_the_same_modality_and_organ": f"{unseen.same_group} of {len(rows)} questions",
        **provenance(loaded, found),
    }


def _questions(config: Config, workdir: Path) -> dict[str, Any] | None:
    """The catch of each check of the written questions, if this job wrote any."""
    path = workdir / QUESTIONS / REPORT
    return read_json(path) if config.synthesis.name and path.is_file() else None


DATA, AUDIT, MAPS, REPORT_STEP = "data", "audit", "attention maps", "scores and report"
TRAIN, ANSWERS = "train {}", "answers of {}"


class _Missing:
    """The outputs that failed after all training and answering; the scores and the report list them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._errors: list[Exception] = []

    @contextlib.contextmanager
    def tells(self, what: str) -> Iterator[None]:
        """Keeps an error of the block for `end`, so that hours of training still give their scores."""
        try:
            yield
        except Exception as error:
            self.lines.append(f"No {what}: {str(error) or type(error).__name__}")
            self._errors.append(error)

    def end(self, workdir: Path) -> None:
        """Raises ValueError, from the first error, if something is missing."""
        if self._errors:
            raise ValueError(
                f"{' '.join(self.lines)} Everything else is done: scores.json and report.html in {workdir} list what "
                "is missing. Remove the cause and start the same command again: it makes only the missing parts."
            ) from self._errors[0]


def job_steps(config: Config) -> list[str]:
    """The steps of the job in order, with the names that it prints."""
    stages = [step.format(name) for name in config.stage_names for step in (TRAIN, ANSWERS)]
    return [DATA, AUDIT, ANSWERS.format("base"), *stages, MAPS, REPORT_STEP]


def _what_next(config: Config, workdir: Path) -> str:
    last = workdir / config.stage_names[-1]
    viewer = workdir / "saliency" / "viewer.html"
    own = ["variant", "checkpoint", "tokenizer"] if Path(config.model.checkpoint).parent != EMBEDDED else []
    model = [f"--config.model.{name}={getattr(config.model, name)}" for name in own]
    ask = command("ask", "--workdir", "runs/ask", f"--config.adapter={last}", *model)
    lines = [
        f"  the adapter:   {last}",
        f'  ask it:        {ask} \\\n                   --config.ask.image=FILE --config.ask.question="…"',
        f"  read:          {workdir / 'report.html'}" + (f" and {viewer}" if viewer.is_file() else ""),
        f"  curves:        tensorboard --logdir {shlex.quote(str(workdir))}   (pip install tensorboard)",
    ]
    return "\n".join(["", "Next:", *lines])


def job_mode(config: Config, workdir: Path) -> None:
    """The main job: data, audit, base model, every stage, answers with baselines, maps, report."""
    for source in all_sources(config):
        make_builder(source.dataset, builder_config=source.builder_config, data=config.data)
    check_used(config)
    inspect_model(config)
    published.check_installed(config.score)
    readings = read_sheets(config)
    steps = Steps(job_steps(config))
    steps.next(DATA)
    prepare_all(config, workdir)
    steps.next(AUDIT)
    found = processes.group().first_alone(lambda: refuse_leaks(config, workdir), others={}, what=AUDIT)
    loaded = load_base(config, workdir)
    refuse_other_maps(loaded)
    rows = scorable(load_rows(config.eval.source, config.data, seed=config.seed))
    rows = fitting(rows, data=config.data, tokenizer=loaded.tokenizer)
    train_rows = load_rows(config.eval.train_source, config.data, seed=config.seed)
    check_not_asked(train_rows, rows)
    runs: dict[str, list[Record]] = {}
    models: dict[str, Trained] = {}
    shown: list[report.ShownMap] = []
    unseen = unseen_rows(config, rows)
    blind: dict[str, dict[str, list[Record]]] = {kind: {} for kind in UNSEEN}

    def evaluate(name: str, trained: Trained) -> None:
        steps.next(ANSWERS.format(name))
        models[name] = trained
        runs[name] = answer(loaded, trained, rows, run=name)
        for kind, records in answer_unseen(loaded, trained, rows, unseen, run=name).items():
            blind[kind][name] = records

    train_stages(
        loaded,
        first=lambda: evaluate("base", Trained.nothing()),
        before=lambda name: steps.next(TRAIN.format(name)),
        after=evaluate,
    )
    chosen = choose_cases(runs[config.stage_names[-1]], cases=config.saliency.cases, seed=config.seed)
    answers = {name: [records[index] for index in chosen] for name, records in runs.items()}
    missing = _Missing()
    steps.next(MAPS)
    with missing.tells("attention maps"):
        shown.extend(maps(loaded, models, rows.select(chosen), answers))
    if not processes.group().first:
        return  # the remaining steps need no device
    guesses = blind_guesses(train_rows, rows)
    for records in (guesses["question_only"], guesses["majority"], *guesses["guesses"].values()):
        # Kept like any run's, so that mode=compare accepts them.
        path = workdir / "predictions" / f"{records[0].run}.jsonl"
        write_jsonl(path, [record.to_json() for record in records])
    judged: dict[str, list[JudgeFile]] = {}
    with missing.tells("verdicts of judges"):
        judged |= {name: find_judges(workdir / "predictions" / f"{name}.jsonl") for name in runs}
    experiment = report.Experiment(
        f"{rows.name}: {', '.join(config.stage_names)} of {config.model.variant}",
        runs,
        one_training=True,
        **guesses,
        unseen=blind,
        judged=judged,
        readings=readings,
        image=image_of(rows) if config.report.images else None,
        losses={name: read_losses(workdir / name) for name in config.stage_names},
        maps=shown,
        leaks=consequences(found) if found["splits"] else None,
        questions=_questions(config, workdir),
        missing=missing.lines,
        provenance=_provenance(loaded, rows, unseen, found, runs),
    )
    steps.next(REPORT_STEP)
    write_scores(config, workdir, experiment, brief=True)
    missing.end(workdir)
    print(_what_next(config, workdir))
