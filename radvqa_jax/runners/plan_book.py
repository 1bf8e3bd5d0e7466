"""The needs of the book's recipes on devices: memory, steps, and hours at the roofline. No weights, no device."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import tfds_builders
from radvqa_jax import __version__, typed_json
from radvqa_jax.config import Config, OptimConfig, SourceConfig, StageConfig
from radvqa_jax.data.sources import default_config_name, load_rows, make_builder
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.evaluation.tables import align, markdown
from radvqa_jax.files import write_json, write_text
from radvqa_jax.planning.devices import get_device
from radvqa_jax.planning.fit import compile_program
from radvqa_jax.planning.targets import Target, open_target
from radvqa_jax.runners.fit import step_program
from radvqa_jax.training import sharding
from radvqa_jax.training.stage_plan import count_steps
from tfds_builders.counts import read_manifest

GIB = 2**30
HOW = """At best: arithmetic or bytes at the peak rate; a real step takes longer, often twice as long. Every text
position is taken for a token. With model.remat=auto the way that stores the least is planned; training takes a faster
one where it fits. Rows that ? stands for are known when the set is prepared or written; until then the hours are those
of 10,000 rows. Where rules that look at the files leave out rows, none is left out here."""


class Planned(NamedTuple):
    """One stage of one recipe on one device."""

    recipe: str
    stage: str
    target: str
    rows: int | None  # of the stage's sources; None = not known before they are prepared
    steps: int | None
    peak: int  # bytes
    fits: bool | None  # None = the device does not report its memory
    step_seconds: float | None  # at the roofline; None = peak rates not known
    hours: float | None  # all steps at the roofline
    program: str  # the compiled step and the releases that made it, as a hash: equal ones are compiled once
    hours_10k: float | None = None  # all passes over 10,000 rows at the roofline, where the number of rows is not known
    device: str = ""  # the kind that jax names; it tells one machine's `local` from another's


def rows_of(source: SourceConfig, config: Config) -> int | None:
    """The number of rows of a source: of the prepared set, else of the official release; None if neither gives it.

    Filters count only where the set is prepared. Of a release that gives a range, the largest number.
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
    largest, fewest_left = (
        number[-1] if isinstance(number, list) else number,
        left[0] if isinstance(left, list) else left,
    )
    return min(largest - fewest_left, source.limit or largest)


def _program(config: Config, stage: StageConfig) -> str:
    """The settings that determine a compiled step: stages that differ only in data and rates share one."""
    optim = dataclasses.replace(OptimConfig(), clip_norm=stage.optim.clip_norm, weight_decay=stage.optim.weight_decay)
    plain = dataclasses.replace(
        stage, sources=(), weight_by="source", epochs=0.0, total_steps=1, init_from="", optim=optim
    )
    model = dataclasses.replace(config.model, checkpoint="", tokenizer="")  # where the files are compiles nothing else
    decides = (model, config.mesh, config.data.seq_len, plain, __version__, jax.__version__)
    return hashlib.sha256(repr(decides).encode()).hexdigest()[:12]


def plan(recipes: Mapping[str, Config], target: Target, known: Iterable[Planned] = ()) -> Iterator[Planned]:
    """Yields each stage of each recipe on a target; programs that are the same are compiled once.

    Args:
        recipes: by name.
        target: from `open_target`.
        known: lines of an earlier plan, whose programs are not compiled again.
    """
    device = target.devices[0].device_kind
    taken = {
        each.program: (each.peak, each.step_seconds)
        for each in known
        if each.target == target.name and (target.name != "local" or each.device == device)
    }
    for name, config in recipes.items():
        mesh = sharding.make_mesh(config.mesh, target.devices)
        for stage_name in config.stage_names:
            stage = config.stages[stage_name]
            program = _program(config, stage)
            if program not in taken:
                fitted = compile_program(step_program(config, mesh, stage_name), target)
                taken[program] = fitted.peak, fitted.roofline_seconds
                print(f"compiled {name}, {stage_name} for {target.name} in {fitted.compile_seconds:.0f} s", flush=True)
            peak, best = taken[program]
            fits = None if target.memory is None else peak <= target.memory
            found = Planned(name, stage_name, target.name, None, None, peak, fits, best, None, program, device=device)
            yield _with_rows(found, config, stage)


def _with_rows(each: Planned, config: Config, stage: StageConfig) -> Planned:
    """The line with the stage's rows and steps as they are known now, and the hours that they take."""
    counts = [rows_of(source, config) for source in stage.sources]
    rows, best = None if None in counts else sum(count or 0 for count in counts), each.step_seconds
    steps = count_steps(stage, rows or 0) if rows is not None or stage.total_steps else None
    hours = None if steps is None or best is None else steps * best / 3600
    hours_10k = count_steps(stage, 10_000) * best / 3600 if steps is None and best is not None else None
    return each._replace(rows=rows, steps=steps, hours=hours, hours_10k=hours_10k)


def _still_true(known: Sequence[Planned], recipes: Mapping[str, Config]) -> Iterator[Planned]:
    """Yields the lines of an earlier plan that settings and release of now would give, with the rows of now."""
    for each in known:
        config = recipes.get(each.recipe)
        stage = config.stages.get(each.stage) if config else None
        if config and stage and each.program == _program(config, stage):
            yield _with_rows(each, config, stage)


def _device(each: Planned | None) -> list[str]:
    """The needs of a stage on a device: peak GiB, milliseconds a step, hours; dashes if it is not planned."""
    if each is None:
        return ["-", "-", "-"]
    return [
        f"{each.peak / GIB:.2f}{' DOES NOT FIT' if each.fits is False else ''}",
        "?" if each.step_seconds is None else f"{1000 * each.step_seconds:,.0f}",
        _hours(each),
    ]


def _hours(each: Planned) -> str:
    """All steps at the roofline, or those of 10,000 rows where the number of rows is not known."""
    if each.hours is None:
        return "?" if each.hours_10k is None else f"{each.hours_10k:,.2f} per 10,000 rows"
    return f"{each.hours:,.2f}"


def plan_table(planned: Sequence[Planned]) -> list[list[str]]:
    """The plan as a table, one row for each stage of each recipe; the first row is its header."""
    targets = list(dict.fromkeys(each.target for each in planned))
    found = {(each.recipe, each.stage, each.target): each for each in planned}
    head = ["recipe", "stage", "rows", "steps"]
    for target in targets:
        head += [f"{target}: peak GiB", "ms a step, at best", "hours, at best"]
    rows = {(each.recipe, each.stage): each for each in planned}
    return [head] + [
        [
            recipe,
            stage,
            "?" if each.rows is None else f"{each.rows:,}",
            "?" if each.steps is None else f"{each.steps:,}",
            *(text for target in targets for text in _device(found.get((recipe, stage, target)))),
        ]
        for (recipe, stage), each in rows.items()
    ]


def read_plan(workdir: Path) -> list[Planned]:
    """The plan of plan.json; empty if there is none."""
    path = workdir / "plan.json"
    return typed_json.read(path, list[Planned]) if path.is_file() else []


def plan_book(recipes: Mapping[str, Config], targets: Sequence[str], workdir: Path) -> None:
    """Prints the needs of each recipe on each target; writes them to plan.json one by one, and to plan.md.

    An interrupted plan continues, and the devices of an earlier plan are kept. Lines of other recipes, settings or
    releases are left out, with their number.
    """
    for target in targets:
        if target != "local":
            get_device(target, field="book.targets")  # a mistake in the last is found before the first is planned for
    before = read_plan(workdir)
    known = list(_still_true(before, recipes))
    if left := len(before) - len(known):
        print(f"{left} lines of {workdir / 'plan.json'} are of other recipes, settings or releases, and are left out.")
    planned = {(each.recipe, each.stage, each.target): each for each in known}
    for target in targets:
        for each in plan(recipes, open_target(target), known):
            planned[each.recipe, each.stage, each.target] = each
            write_json(workdir / "plan.json", [one._asdict() for one in planned.values()], private=False)
    rows = plan_table(list(planned.values()))
    write_text(workdir / "plan.md", "\n".join(markdown(rows)) + "\n")
    print("\n".join([*align(rows), HOW]))
    print(f"The same as JSON and Markdown: {workdir / 'plan.json'}, {workdir / 'plan.md'}")
