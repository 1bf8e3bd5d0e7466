"""The mode that fills the tables of papers: all experiments that can run here, and the reasons why others cannot."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from radvqa_jax.config import (
    CellConfig,
    Config,
    PaperRow,
    PaperTable,
    change_field,
    configs_folder,
    load_experiment,
    load_tables,
)
from radvqa_jax.config.check import check_field, from_config_dict
from radvqa_jax.data.preparing import prepare
from radvqa_jax.decoding.batch_size import free_bytes
from radvqa_jax.evaluation.ablations import CellAnswers
from radvqa_jax.evaluation.book import Found
from radvqa_jax.evaluation.judge_file import find_judges
from radvqa_jax.evaluation.llama32_med import check_bertscore
from radvqa_jax.evaluation.measures import Answered
from radvqa_jax.planning.choosing_here import array_bytes
from radvqa_jax.runners.ablations import chain_of, fill_cells
from radvqa_jax.runners.audit import LeakError
from radvqa_jax.runners.cell_questions import missing
from radvqa_jax.runners.growing_book import GrowingBook, Key, key_of
from radvqa_jax.runners.plan_book import plan_book
from radvqa_jax.runners.shorten import shorten
from radvqa_jax.shell import command
from radvqa_jax.training.base_leaves import base_shapes
from radvqa_jax.training.stage_plan import abstract_stage

RECIPE, STORE, EXPERIMENTS = "recipe", "trained", "experiments"


def _rows(tables: Mapping[str, PaperTable]) -> list[PaperRow]:
    """The rows that have an experiment, each experiment once."""
    rows = [row for table in tables.values() for row in table.rows if row.recipe]
    return list({key_of(row): row for row in rows}.values())


def read_recipe(config: Config, row: PaperRow) -> Config:
    """The recipe of a row with the model's files, the data's places and the devices of this run."""
    made = load_experiment(str(configs_folder() / row.recipe), row.change, field=RECIPE)
    for entry in config.book.override:
        check_field(entry.partition("=")[0])
        change_field(made, entry, what="book.override")
    recipe = from_config_dict(made)
    own, given = recipe.model, config.model
    model = dataclasses.replace(
        given,
        quantize=own.quantize,
        variant=given.variant or own.variant,
        resolution=given.resolution or own.resolution,
    )
    names = ("prompt", "history", "seq_len", "overlong")
    data = dataclasses.replace(config.data, **{name: getattr(recipe.data, name) for name in names})
    audit = dataclasses.replace(recipe.audit, accept=(*recipe.audit.accept, *config.audit.accept))
    return dataclasses.replace(
        recipe,
        mode="ablations",
        seed=config.seed,
        model=model,
        data=data,
        audit=audit,
        mesh=config.mesh,
        eval=dataclasses.replace(recipe.eval, bootstrap=config.eval.bootstrap),
    )


def least_bytes(config: Config, stages: Sequence[str]) -> int:
    """The least number of bytes for these stages: weights, and for trained ones gradient and Adam's two moments.

    Activations come in addition; mode=fit compiles the actual step and gives the total.
    """
    shapes = base_shapes(config, tuple(stages))
    base = sum(_bytes(leaf) for leaf in shapes.values())
    trained = [abstract_stage(name, config, shapes).trainable for name in stages]
    return base + max((sum(3 * _bytes(leaf) for leaf in leaves.values()) for leaves in trained), default=0)


def _bytes(leaf: Any) -> int:
    return sum(array_bytes(part.dtype, part.shape) for part in jax.tree.leaves(leaf))


def _why_not(config: Config, row: PaperRow, cell: CellConfig, least: Callable[[tuple[str, ...]], int]) -> str:
    """The reason why an experiment cannot run here, with the command that changes it; empty if it can.

    `least` gives the least number of bytes for stages.
    """
    if not config.model.checkpoint:
        return "no checkpoint: give --config.model.checkpoint=FILE and --config.model.tokenizer=FILE"
    sources = [source for _, stage in chain_of(cell, config) for source in stage.sources]
    asked = (cell.source, cell.train_source) if cell.source.dataset else (config.eval.source, config.eval.train_source)
    for source in (*sources, *asked):
        if why := missing(source, config):
            return why
    needed, free = least(tuple(name for name, _ in chain_of(cell, config))), free_bytes()
    if needed > free:
        fit = command(
            "--config", "configs/fit.py", "--workdir", "runs/fit", "--config.fit.resolutions=()",
            f"--config.experiment=configs/{row.recipe}", "--config.target=h100",
        )  # fmt: skip
        return (
            f"needs at least {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free here. Where it fits: {fit}"
        )
    return ""


def _as_run(config: Config, row: PaperRow) -> Config:
    """The recipe of a row as it runs here: shortened, if the book is."""
    recipe = read_recipe(config, row)
    return shorten(recipe, config.book.stand_in) if config.book.stand_in else recipe


def _hash(content: Any) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def _content(config: Config, row: PaperRow) -> str:
    """A hash of a recipe's content, independent of the machine: recipes that differ only in name share it.

    A shortened book has one data set, so recipes that differ only in data are the same there.
    """
    book = dataclasses.replace(config.book, tables=(), targets=())
    recipe = _as_run(dataclasses.replace(Config(), book=book), row)
    trained = {name: recipe.stages[name] for name in recipe.stage_names}
    return _hash((dataclasses.replace(recipe, stages=trained), _wanted(row)))


def _wanted(row: PaperRow) -> str:
    """The variant of the model that a recipe sets itself."""
    return load_experiment(str(configs_folder() / row.recipe), row.change, field=RECIPE).model.variant


def _cell(row: PaperRow, recipe: Config, config: Config) -> CellConfig:
    """The cell of a row as it runs here, named by its content."""
    cell = dataclasses.replace(row.cell, without=recipe.stage_names if row.base else row.cell.without)
    if config.book.stand_in:
        cell = shorten(cell, config.book.stand_in)
    return dataclasses.replace(cell, name=f"experiment {_hash(cell)}")


def _only(config: Config, cells: Sequence[CellConfig]) -> Config:
    """The experiment with these cells, without stages and questions that no cell uses."""
    stages = tuple(name for name in config.stage_names if any(name not in cell.without for cell in cells))
    kept = tuple(dataclasses.replace(c, without=tuple(s for s in c.without if s in stages)) for c in cells)
    asked = next((c for c in kept if not c.source.dataset), None)
    evaluated = config.eval
    if asked is None:  # no cell asks the recipe's own questions
        evaluated = dataclasses.replace(evaluated, source=kept[0].source, train_source=kept[0].train_source)
    grid = dataclasses.replace(config.ablations, cells=kept)
    kept_stages = {name: config.stages[name] for name in stages}
    return dataclasses.replace(config, stages=kept_stages, run_stages=stages, ablations=grid, eval=evaluated)


def _decides(config: Config) -> str:
    """A hash of the settings that determine training apart from the stages: the model and the length of texts."""
    model, data = config.model, config.data
    values = [model.variant, model.checkpoint, model.resolution, model.quantize, model.compute_dtype]
    values += [model.param_dtype, data.seq_len, data.overlong, config.seed]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def run_recipe(config: Config, rows: Sequence[PaperRow], workdir: Path) -> tuple[dict[Key, Found], dict[str, Any]]:
    """The outcomes of the rows of one recipe, and the origin of the answers.

    Args:
        config: of the book.
        rows: all with the same recipe, whatever its name.
        workdir: of the book.
    """
    recipe = _as_run(config, rows[0])
    cells = {key_of(row): _cell(row, recipe, config) for row in rows}
    found, todo = {}, {}
    least = functools.cache(functools.partial(least_bytes, recipe))
    for row in rows:
        cell = cells[key_of(row)]
        why = _why_not(recipe, row, cell, least)
        found[key_of(row)] = Found(empty=why)
        if not why:
            todo.setdefault(cell.name, (cell, []))[1].append(row)
    if not todo:
        return found, {}
    folder = workdir / EXPERIMENTS / _content(config, rows[0])
    names = dict.fromkeys(" ".join((row.recipe, *row.change)) for row in rows)
    print(f"recipe {', '.join(names)}: {len(todo)} experiments for {len(rows)} rows", flush=True)
    one = _only(recipe, [cell for cell, _ in todo.values()])
    try:
        filled, common = fill_cells(one, folder, store=workdir / STORE, decides=_decides(one))
    except LeakError as error:
        if len(todo) > 1:  # the reason may apply to one experiment only
            apart = [run_recipe(config, asked, workdir) for _, asked in todo.values()]
            origin = {name: value for _, more in apart for name, value in more.items()}
            return found | {key: own for more, _ in apart for key, own in more.items()}, origin
        ((_, asked),) = todo.values()
        return found | {key_of(row): found[key_of(row)]._replace(empty=str(error)) for row in asked}, {}
    wanted = _wanted(rows[0])
    other = [] if wanted == one.model.variant else [f"{one.model.variant} instead of the recipe's {wanted}"]
    for (_, asked), answers in zip(todo.values(), filled, strict=True):
        for row in asked:
            found[key_of(row)] = _found(answers, found[key_of(row)], [*other, *common["leaks"]], folder)
    return found, common["origin"]


def _found(answers: CellAnswers, own: Found, unlike: Sequence[str], folder: Path) -> Found:
    if not answers.records:
        return own._replace(empty=answers.empty)
    data = answers.about["data"]
    release = [f"not the official release: {line}" for line in data.get("differences", ())]
    left_out = [f"{count} questions left out: {reason}" for reason, count in data.get("left_out", {}).items()]
    judges = find_judges(folder / answers.about["predictions"])
    about = {**answers.about, "predictions": str(folder / answers.about["predictions"])}
    answered = Answered(answers.records, answers.guesses, judges)
    return own._replace(answered=answered, unlike=(*unlike, *release, *left_out), about=about)


def _grouped(rows: Iterable[PaperRow], config: Config) -> list[list[PaperRow]]:
    """The rows by the experiment that runs for them."""
    named: dict[Any, str] = {}
    groups: dict[str, list[PaperRow]] = {}
    for row in rows:
        name = (row.recipe, row.change)
        if name not in named:
            named[name] = _content(config, row)
        groups.setdefault(named[name], []).append(row)
    return list(groups.values())


def reproduce_mode(config: Config, workdir: Path) -> None:
    """Fills the tables of configs/papers/ and writes book.html, .json, .csv and .tex, after every recipe again."""
    if config.score.bertscore_model:
        check_bertscore(config.score.bertscore_model)
    tables = load_tables(configs_folder() / "papers", config.book.tables)
    rows = _rows(tables)
    if config.book.targets:
        recipes = {" ".join((row.recipe, *row.change)): row for row in rows}
        return plan_book(
            {name: read_recipe(config, row) for name, row in recipes.items()}, config.book.targets, workdir
        )
    given = config.model.checkpoint
    if given and not Path(given).expanduser().exists():  # told now: recipes without their data would not look for it
        raise ValueError(f"model.checkpoint={given} is not there. Give a file or a folder that is.")
    groups = _grouped(rows, config)  # a mistake in the last recipe is found before the first one trains
    if config.book.stand_in:
        dataset, _, builder_config = config.book.stand_in.partition("/")
        prepare(dataset, builder_config=builder_config, data=config.data)
    book = GrowingBook(config, tables, workdir)
    book.fill({}, {})
    for group in groups:
        book.fill(*run_recipe(config, group, workdir))
    print(book.close())
    print(f"The book is {workdir / 'book.html'}")
