"""The results book while it is filled: each row is measured once, and nothing that was filled is lost."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax.config import CellConfig, Config, PaperRow, PaperTable
from radvqa_jax.evaluation.book import Found, build_book, build_row
from radvqa_jax.evaluation.book_page import filled_cells, read_book, write_book
from radvqa_jax.evaluation.measures import Settings
from radvqa_jax.runners.plan_book import HOW, plan_table, read_plan
from radvqa_jax.shell import command

Key = tuple[str, tuple[str, ...], bool, CellConfig]  # what makes the experiment of a row


def key_of(row: PaperRow) -> Key:
    """The key of a row's experiment: rows with the same key share it."""
    return row.recipe, row.change, row.base, row.cell


def command_of(row: PaperRow, table: str, config: Config) -> str:
    """The command that runs the experiment of a row of a table at full size; each workdir has one command.

    A recipe alone asks its own questions in its own way. For a row with a cell of its own the book runs it.
    """
    model = [f"--config.model.{name}={getattr(config.model, name) or 'FILE'}" for name in ("checkpoint", "tokenizer")]
    if row.cell != CellConfig():
        tables = f"--config.book.tables=('{table}',)"
        return command("--config", "configs/reproduce.py", "--workdir", f"runs/book_{table}", tables, *model)
    name = row.recipe.replace(".py", "").replace(":", "_").replace(",", "_")
    if row.change:
        name += f"_{hashlib.sha256(repr(row.change).encode()).hexdigest()[:8]}"
    mode, ending = ("--config.mode=predict", "_base") if row.base else ("", "")
    changes = [f"--config.{change}" for change in row.change]
    start = ("--config", f"configs/{row.recipe}")
    return command(*start, mode, "--workdir", f"runs/{name}{ending}", *changes, *model)


class GrowingBook:
    """The book so far: a row is measured once, when its experiment is done.

    A book that is in the folder already stays until every cell that is filled there is filled here.
    """

    def __init__(self, config: Config, tables: Mapping[str, PaperTable], workdir: Path) -> None:
        """Takes the tables to fill.

        Raises:
            ValueError: for a book.json that is not one, and if the book in the folder has filled a table that is left
                out, or is a rehearsal and this one is not, or the other way round.
        """
        self._config, self._tables, self._workdir = config, tables, workdir
        there = read_book(workdir)
        self._before = filled_cells(there)
        if self._before and there["stand_in"] != config.book.stand_in:
            raise ValueError(
                f"The book in {workdir} was filled with book.stand_in={there['stand_in']!r}, and this one has "
                f"{config.book.stand_in!r}: a rehearsal and the real book would replace each other. Give another "
                "--workdir."
            )
        if left_out := sorted({cell[0] for cell in self._before} - set(tables)):
            raise ValueError(
                f"book.tables leaves out {', '.join(left_out)}, which the book in {workdir} has filled. Name them, too "
                "(answers that are kept are not made again), or give another --workdir."
            )
        self._settings = Settings(config.score, config.eval.bootstrap, config.seed)
        self._origin: dict[str, Any] = {}
        self._synthetic = False
        waiting = Found(empty="not run yet: the same command goes on")
        self._rows = {
            name: [self._row(table, row, waiting if row.recipe else Found(empty=row.why)) for row in table.rows]
            for name, table in tables.items()
        }

    def _row(self, table: PaperTable, row: PaperRow, found: Found) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        return build_row(table, row, found, self._settings), found.about

    def fill(self, found: Mapping[Key, Found], origin: Mapping[str, Any]) -> None:
        """Measures the rows of these experiments, and writes the four files unless a filled cell would be lost."""
        self._origin |= origin
        answered = [own.answered.records[0] for own in found.values() if own.answered]
        self._synthetic |= any("synthetic" in record.source.split() for record in answered)
        for name, table in self._tables.items():
            for number, row in enumerate(table.rows):
                if row.recipe and (own := found.get(key_of(row))):
                    own = own._replace(command=command_of(row, name, self._config))
                    self._rows[name][number] = self._row(table, row, own)
        book = self._build()
        if self._before <= filled_cells(book):
            self._write(book)

    def close(self) -> str:
        """The tables for the terminal, when all is filled that can be.

        Raises:
            ValueError: if a cell is empty that the book in the folder has filled; that book stays.
        """
        book = self._build()
        if not self._before <= filled_cells(book):
            raise ValueError(self._poorer(book))
        return self._write(book)

    def _build(self) -> dict[str, Any]:
        return build_book(
            self._tables,
            self._rows,
            self._settings,
            stand_in=self._config.book.stand_in,
            synthetic=self._synthetic,
        )

    def _write(self, book: Mapping[str, Any]) -> str:
        planned = read_plan(self._workdir)
        rows = plan_table(planned) if planned else []
        return write_book(self._workdir, book, provenance=self._origin, planned=rows, how=HOW)

    def _poorer(self, book: Mapping[str, Any]) -> str:
        """The error for a book in which cells are empty that were filled before."""
        lost = self._before - filled_cells(book)
        empty = Counter(cell["empty"] for table in book["tables"] for cell in table["cells"] if cell["command"])
        reasons = [f"\n  {count} empty: {reason}" for reason, count in empty.most_common() if reason]
        return (
            f"The book in {self._workdir} stays as it is: {len(lost)} of its {len(self._before)} filled cells would be "
            "empty after this run, for the reasons below. Mend that, or give another --workdir; to replace the book, "
            f"remove {self._workdir / 'book.json'}.{''.join(reasons)}"
        )
