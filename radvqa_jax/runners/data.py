"""The modes that need data and no model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from radvqa_jax import processes
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.sources import make_builder
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.data.written import read_about
from radvqa_jax.files import atomic_write, write_json
from radvqa_jax.runners.check_questions import UNCHECKED, compared_sets
from radvqa_jax.runners.write_questions import write_questions_mode
from radvqa_jax.synthesis.report import PAGE, REPORT

REASONS = 8  # in a line about rows that are left out
QUESTIONS = "questions"  # the folder of a job's workdir in which questions are written and checked


def build_data_mode(config: Config, workdir: Path) -> None:
    """Prepares one data set and prints its content."""
    name, own = config.builder_config, config.data.name
    if config.dataset == "table" and name and own and name != own:
        raise ValueError(f"data.name={own!r} and builder_config={name!r} both name the table. Give one of them.")
    built = prepare(config.dataset, builder_config=name, data=config.data)
    write_json(workdir / "data.json", built)
    print(json.dumps(built, indent=1))
    _warn(built)


def _warn(built: dict[str, Any]) -> None:
    for text in built["warnings"]:
        print(f"warning: {built['dataset']}: {text}", flush=True)


def stage_sources(config: Config) -> list[SourceConfig]:
    return [source for name in config.stage_names for source in config.stages[name].sources]


def all_sources(config: Config) -> list[SourceConfig]:
    """Every source that the job names, each once."""
    validated = [config.stages[name].eval_source for name in config.stage_names]
    evaluated = [config.eval.source, *config.audit.also_evaluate, *validated, config.eval.train_source]
    return [source for source in dict.fromkeys([*stage_sources(config), *evaluated]) if source.dataset]


def write_missing(config: Config, workdir: Path) -> None:
    """Writes, checks and prepares the questions for training and evaluation, if config.synthesis makes them.

    Questions that config.synthesis does not make are left alone. Questions that are already prepared are used
    unchanged, and their report is copied into the workdir.

    Raises:
        ValueError: if the prepared questions were written with other settings.
    """
    own = config.synthesis
    wanted = {source.builder_config for source in all_sources(config) if source.dataset == WRITTEN}
    ours = wanted & {own.name, own.name + UNCHECKED} if own.name and own.sources else set()
    builders = [make_builder(WRITTEN, builder_config=name, data=config.data) for name in sorted(ours)]
    if all(builder.is_prepared() for builder in builders):
        for builder in builders:
            _use_written(config, Path(builder.data_dir), workdir / QUESTIONS)
        return
    for source in [*own.sources, *compared_sets(config)]:
        prepare(source.dataset, builder_config=source.builder_config, data=config.data)
    write_questions_mode(config, workdir / QUESTIONS)


# Fields of config.synthesis that do not change the pairs; a review only adds to them.
_SAME_PAIRS = {
    "": ("name", "unchecked", "measure", "review", "review_rows", "review_images", "review_sheets"),
    "chat": (
        *("base_url", "allow_other_model", "key_variable", "allow_remote", "timeout", "retries", "concurrency"),
        *("requests_per_minute", "max_calls", "max_total_tokens", "cache", "offline"),
    ),
    "writing": ("max_failures", "dry_run", "prompt_price", "reply_price"),
}


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """{dotted name: value} of the fields of config.synthesis that determine the pairs."""
    flat = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        left_out = _SAME_PAIRS.get(name if isinstance(value, dict) else "", ())
        flat |= {f"{name}.{key}".rstrip("."): held for key, held in inner.items() if (key or name) not in left_out}
    return flat


def _use_written(config: Config, folder: Path, into: Path) -> None:
    """Copies the report of prepared questions into a run that would write the same ones.

    Raises:
        ValueError: naming the settings that differ, with the ways out.
    """
    about = read_about(folder)
    now = json.loads(json.dumps(dataclasses.asdict(config.synthesis) | {"seed": config.seed}))
    before = _deciding(about["settings"] | {"seed": config.seed if about["seed"] is None else about["seed"]})
    other = [
        f"{name}: {before.get(name)!r} then, {value!r} now"
        for name, value in _deciding(now).items()
        if before.get(name) != value
    ]
    if other:
        raise ValueError(
            f"The questions in {folder} were written with other settings ({'; '.join(other)}). Write them anew with "
            "--config.mode=write_questions and a new --workdir, give another --config.data.data_dir, or give "
            "their settings."
        )
    for name in (name for name in (REPORT, PAGE) if (folder / name).is_file()):
        told = (folder / name).read_bytes()
        # The set may have been written anew since the run began, with other pairs discarded.
        if not (into / name).is_file() or (into / name).read_bytes() != told:
            with atomic_write(into / name, "wb") as file:
                file.write(told)


def prepare_all(config: Config, workdir: Path) -> None:
    """Prepares every set of the job; questions are written first if config.synthesis is configured for it.

    The first of several processes does both. The others then prepare the sets that they do not find, as they may have
    another disk.
    """
    group = processes.group()

    def write_and_prepare() -> None:
        write_missing(config, workdir)
        _prepare_sets(config)

    group.first_alone(write_and_prepare, others=None, what="data")
    if not group.first:
        _prepare_sets(config)


def _prepare_sets(config: Config) -> None:
    for dataset, builder_config in dict.fromkeys((s.dataset, s.builder_config) for s in all_sources(config)):
        built = prepare(dataset, builder_config=builder_config, data=config.data)
        print(f"data: {dataset} {built['version']} {built['splits']} in {built['path']}, {built['origin']}", flush=True)
        for line in _decisions(built):
            print(f"data: {dataset}: {line}", flush=True)
        _warn(built)


def _decisions(built: dict[str, Any]) -> list[str]:
    """The split of a table, the cells read as missing values, and the rows left out, in words."""
    table = built.get("table", {})
    lines = [f"split {table['split']}"] if table else []
    if missing := table.get("read as missing"):
        cells = (f"{cell} ({rows})" for found in missing.values() for cell, rows in found.items())
        lines.append(f"read as missing values: {', '.join(cells)}")
    if dropped := built["dropped"]:
        reasons = "; ".join(f"{rows} x {reason}" for reason, rows in [*dropped.items()][:REASONS])
        lines.append(f"left out: {reasons}{'; …' * (len(dropped) > REASONS)}. Each is in {built['rejects']}")
    return lines
