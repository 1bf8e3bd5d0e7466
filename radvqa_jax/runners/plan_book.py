"""What the recipes of the book take on devices: memory, steps, and hours at the roofline. No weights, no device."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tfds_builders
from radvqa_jax.config import Config, OptimConfig, SourceConfig, StageConfig
from radvqa_jax.data.sources import default_config_name, load_rows, make_builder
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.evaluation.tables import align
from radvqa_jax.files import write_json
from radvqa_jax.planning.fit import Fitted, compile_program
from radvqa_jax.planning.targets import Target, open_target
from radvqa_jax.runners.fit import step_program
from radvqa_jax.training import sharding
from radvqa_jax.training.stage import count_steps
from tfds_builders.counts import read_manifest

GIB = 2**30


class Planned(NamedTuple):
    """One stage of one recipe on one device."""

    recipe: str
    stage: str
    target: str
    rows: int | None  # of the stage's sources; None = not known before they are prepared
    steps: int | None
    peak: int  # bytes
    fits: bool | None  # None = the device does not say how much memory it has
    step_seconds: float | None  # at the roofline; None = peak rates not known

    @property
    def hours(self) -> float | None:
        """All steps at the roofline."""
        if self.steps is None or self.step_seconds is None:
            return None
        return self.steps * self.step_seconds / 3600


def rows_of(source: SourceConfig, config: Config) -> int | None:
    """The rows of a source: of the prepared set, or else of the official release; None if neither says.

    Filters count only where the set is prepared.
    """
    builder = make_builder(source.dataset, builder_config=source.builder_config, data=config.data)
    if builder.is_prepared():
        return len(load_rows(source, config.data, seed=config.seed))
    if source.dataset == WRITTEN or source.where:
        return None
    folder = Path(next(iter(tfds_builders.__path__))) / source.dataset
    if not (folder / "counts.json").is_file():
        return None
    manifest = read_manifest(folder, source.builder_config or default_config_name(source.dataset))
    figures: Mapping[str, Any] = manifest[source.split]
    number = figures["images"] if source.task == "caption" and "images" in figures else figures["rows"]
    left = 0 if source.task == "caption" else figures.get("left out", 0)
    if isinstance(number, list) or isinstance(left, list):
        return None
    return min(number - left, source.limit or number)


def _same_step(config: Config, stage: StageConfig) -> Any:
    """What decides on a compiled step: stages that differ in data and rates alone share one."""
    optim = dataclasses.replace(OptimConfig(), clip_norm=stage.optim.clip_norm, weight_decay=stage.optim.weight_decay)
    plain = dataclasses.replace(
        stage, sources=(), weight_by="source", epochs=0.0, total_steps=1, init_from="", optim=optim
    )
    return config.model, config.data.seq_len, plain


def plan(recipes: Mapping[str, Config], target: Target) -> Iterator[Planned]:
    """Yields each stage of each recipe on a target; programs that are the same are compiled once.

    Args:
        recipes: by name.
        target: from `open_target`.
    """
    compiled: dict[Any, Fitted] = {}
    for name, config in recipes.items():
        mesh = sharding.make_mesh(config.mesh, target.devices)
        for stage_name in config.stage_names:
            stage = config.stages[stage_name]
            key = repr(_same_step(config, stage))
            if key not in compiled:
                compiled[key] = compile_program(step_program(config, mesh, stage_name), target)
                print(f"compiled {name}, {stage_name} in {compiled[key].compile_seconds:.0f} s", flush=True)
            counts = [rows_of(source, config) for source in stage.sources]
            rows = None if None in counts else sum(count or 0 for count in counts)
            steps = count_steps(stage, rows or 0) if rows is not None or stage.total_steps else None
            peak, best = compiled[key].peak, compiled[key].roofline_seconds
            fits = None if target.memory is None else peak <= target.memory
            yield Planned(name, stage_name, target.name, rows, steps, peak, fits, best)


def format_plan(planned: Iterable[Planned]) -> str:
    """The plan as a table for the terminal."""
    rows = [
        [
            each.recipe,
            each.stage,
            each.target,
            "?" if each.rows is None else f"{each.rows:,}",
            "?" if each.steps is None else f"{each.steps:,}",
            f"{each.peak / GIB:.2f}",
            {True: "yes", False: "NO", None: "?"}[each.fits],
            "?" if each.step_seconds is None else f"{1000 * each.step_seconds:.0f}",
            "?" if each.hours is None else f"{each.hours:.1f}",
        ]
        for each in planned
    ]
    head = ["recipe", "stage", "target", "rows", "steps", "peak GiB", "fits", "ms a step, at best", "hours, at best"]
    return "\n".join(
        [
            *align([head, *rows]),
            "At best: arithmetic or bytes at the peak rate; a real step takes longer, often twice as long. Every text",
            "position is taken for a token. Rows that ? stands for are known when the set is prepared or written.",
        ]
    )


def plan_book(recipes: Mapping[str, Config], targets: Iterable[str], workdir: Path) -> None:
    """Prints what each recipe takes on each target, and writes it to plan.json as it is found."""
    planned: list[Planned] = []
    for target in targets:
        for each in plan(recipes, open_target(target)):
            planned.append(each)
            write_json(workdir / "plan.json", [one._asdict() | {"hours": one.hours} for one in planned], private=False)
    print(format_plan(planned))
    print(f"The same as JSON: {workdir / 'plan.json'}")
