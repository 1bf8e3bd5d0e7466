"""Tables and figures of papers, as the files of configs/papers/ describe them, and the book filled from them."""

import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radvqa_jax.config.evaluation import CellConfig


@dataclass(frozen=True)
class BookConfig:
    """mode=reproduce: which tables of papers are filled, and whether in shortened form."""

    tables: tuple[str, ...] = ()  # files of configs/papers/ by name, such as medm_table1; empty = all
    # A prepared data set that takes the place of every other, as dataset/builder_config; each stage then takes one
    # step. The book is a test of the recipes. Empty = the recipes as they are.
    stand_in: str = ""
    # Devices (planning/devices.py, or `local`): nothing is run; what each recipe takes there is printed instead.
    targets: tuple[str, ...] = ()
    # Fields of every recipe that are given otherwise: ("model.attention=xla", "decode.batch_size=8").
    override: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperRow:
    """One row of a table: what the paper calls it, and the experiment that fills it."""

    model: str  # as evaluation/paper_figures.json has it
    data: str  # as evaluation/paper_figures.json has it
    recipe: str = ""  # a file of configs/, with its variant: medm_stage2.py:roco; empty = it cannot be run here
    change: tuple[str, ...] = ()  # fields of the recipe that differ: ("run_stages=('stage1','stage2')",)
    base: bool = False  # nothing is trained: the base model alone
    cell: CellConfig = field(default_factory=CellConfig)  # how it is asked; see mode=ablations
    why: str = ""  # without a recipe: why there is none
    unlike: tuple[str, ...] = ()  # what is unlike the paper in this row
    beside: tuple[tuple[str, str], ...] = ()  # (questions, metric) that are measured, of which the paper prints nothing


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of a paper."""

    paper: str  # as evaluation/paper_figures.json has it
    place: str  # as evaluation/paper_figures.json has it: Table 1, Figure 2
    title: str  # what it shows
    rows: tuple[PaperRow, ...]
    unlike: tuple[str, ...] = ()  # what is unlike the paper in every row


def paper_row(model: str, data: str, recipe: str = "", **fields: Any) -> PaperRow:
    """A row; fields of CellConfig (prompt, image, source, …) go to its cell."""
    own = {name: fields.pop(name) for name in ("change", "base", "why", "unlike", "beside") if name in fields}
    return PaperRow(model, data, recipe, cell=CellConfig(**fields), **own)


def load_tables(folder: Path, names: tuple[str, ...]) -> dict[str, PaperTable]:
    """The tables of a folder by the names of their files, in the order of the names; all of them without names.

    Raises:
        ValueError: if a name is unknown, with those that are known.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"book.tables names {unknown}. Known: {', '.join(known)}.")
    return {name: runpy.run_path(str(known[name]))["TABLE"] for name in names or known}
