"""Tables and figures of papers, as the files of configs/papers/ describe them, and the book that repeats them."""

import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radvqa_jax.config.evaluation import CellConfig


@dataclass(frozen=True)
class BookConfig:
    """mode=reproduce: which tables of papers to repeat, and whether in shortened form."""

    tables: tuple[str, ...] = ()  # files of configs/papers/ by name, such as medm_table1; empty = all
    # A prepared data set, as dataset/builder_config, that replaces every other; each stage then takes one step. Such a
    # book only tests that the recipes run. Empty = the recipes as they are.
    stand_in: str = ""
    # Devices (planning/devices.py, or `local`) for which to print what each recipe needs; nothing is run then.
    targets: tuple[str, ...] = ()
    # Fields to change in every recipe: ("model.attention=xla", "decode.batch_size=8").
    override: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperRow:
    """One row of a table: its names in the paper, and the experiment that repeats it."""

    model: str  # its name in evaluation/paper_figures.json
    data: str  # its name in evaluation/paper_figures.json
    recipe: str = ""  # a file of configs/ with its argument: medm_stage2.py:roco; empty = the row cannot be repeated
    change: tuple[str, ...] = ()  # fields of the recipe to change: ("run_stages=('stage1','stage2')",)
    base: bool = False  # the base model alone: nothing is trained
    cell: CellConfig = field(default_factory=CellConfig)  # how the model is asked; see mode=ablations
    why: str = ""  # without a recipe: why there is none
    unlike: tuple[str, ...] = ()  # differences from the paper in this row
    beside: tuple[tuple[str, str], ...] = ()  # (questions, metric) pairs to measure that the paper does not report


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of a paper."""

    paper: str  # its name in evaluation/paper_figures.json
    place: str  # as in evaluation/paper_figures.json: Table 1, Figure 2
    title: str  # what it shows
    rows: tuple[PaperRow, ...]
    unlike: tuple[str, ...] = ()  # differences from the paper in every row


def paper_row(model: str, data: str, recipe: str = "", **fields: Any) -> PaperRow:
    """A row of a table; fields of CellConfig (prompt, image, source, …) go to its cell."""
    own = {name: fields.pop(name) for name in ("change", "base", "why", "unlike", "beside") if name in fields}
    return PaperRow(model, data, recipe, cell=CellConfig(**fields), **own)


def load_tables(folder: Path, names: tuple[str, ...]) -> dict[str, PaperTable]:
    """{name: table} of the files with these names in a folder, in the order of `names`; all tables if it is empty.

    Raises:
        ValueError: if a name is unknown.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"book.tables names {unknown}. Known: {', '.join(known)}.")
    return {name: runpy.run_path(str(known[name]))["TABLE"] for name in names or known}
