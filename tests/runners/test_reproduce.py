"""The book in shortened form: every recipe is trained and answered on 40 phantoms, and empty cells say why."""

import csv
import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from radvqa_jax.config import CellConfig, Config, SourceConfig, configs_folder, load_experiment, load_tables
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.data.sources import load_rows
from radvqa_jax.evaluation.baselines import majority
from radvqa_jax.evaluation.book import Found
from radvqa_jax.evaluation.measures import Answered
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json
from radvqa_jax.runners import RUNNERS, reproduce
from radvqa_jax.runners.growing_book import command_of, key_of
from radvqa_jax.runners.shorten import shorten
from radvqa_jax.training.base_leaves import base_shapes
from tests.runners.shared import MakeConfig, refuse, replace_in_runners

TABLES = load_tables(configs_folder() / "papers", ())
SHORT = {"mode": "reproduce", "book.stand_in": "phantom_rad/tiny", "eval.bootstrap": 20}


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps compiled programs: many recipes compile the same ones."""
    fields = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in fields}
    for name, value in fields.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def book(
    micro_config: MakeConfig, compiled_once: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Path, dict[str, Any]]:
    """(Configuration, workdir, book.json) of the whole book, run once."""
    config, workdir = micro_config(SHORT), tmp_path_factory.mktemp("book")
    RUNNERS["reproduce"](config, workdir)
    return config, workdir, read_json(workdir / "book.json")


def cells(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for table in book["tables"] for cell in table["cells"]]


@pytest.mark.slow
def test_every_recipe_is_trained_and_answered(book: tuple[Config, Path, dict[str, Any]]) -> None:
    _, workdir, found = book
    assert [table["name"] for table in found["tables"]] == list(TABLES)
    for table in found["tables"]:
        rows = {f"{row.model}, {row.data}": row for row in TABLES[table["name"]].rows}
        for name, row in rows.items():
            assert bool(table["about"][name]) == bool(row.recipe), (table["name"], name)
    trained = {path.parent.name for path in (workdir / "trained").glob("*/*/adapter.npz")}
    assert trained == {"stage1", "stage2"}


@pytest.mark.slow
def test_a_filled_cell_has_n_interval_and_blind_figures(book: tuple[Config, Path, dict[str, Any]]) -> None:
    filled = [cell for cell in cells(book[2]) if cell["ours"]]
    assert len(filled) == book[2]["filled"] > 60
    for cell in filled:
        assert cell["ours"]["n"] >= 1 and cell["command"].startswith("python -m radvqa_jax.main --config configs/")
        assert "micro instead of the recipe's paligemma-3b-448" in cell["unlike"]
        if "accuracy" in cell["metric"]:
            assert {"question_only", "majority"} <= set(cell["blind"])
    for cell in cells(book[2]):
        assert cell["ours"] or cell["empty"]
    assert book[2]["synthetic"] and "test of the recipes" in (book[1] / "book.html").read_text()


@pytest.mark.slow
def test_captions_are_scored_against_captions(book: tuple[Config, Path, dict[str, Any]]) -> None:
    (table,) = [table for table in book[2]["tables"] if table["name"] == "llama32_med_table2"]
    records = read_records(Path(table["about"]["fine-tuned, ROCOv2"]["predictions"]))
    assert all(record.reference and record.question.startswith("You are an expert radiologist") for record in records)
    assert {record.answer_type for record in records} == {""} and not any(record.choices for record in records)


@pytest.mark.slow
def test_a_finished_book_is_neither_trained_nor_answered_again(
    book: tuple[Config, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir, _ = book
    from radvqa_jax.evaluation import predict
    from radvqa_jax.training import loop

    monkeypatch.setattr(loop, "step_on", refuse)
    monkeypatch.setattr(predict, "decode", refuse)
    with (workdir / "book.csv").open(encoding="utf-8-sig") as file:
        before = list(csv.reader(file))
    one = dataclasses.replace(config, book=dataclasses.replace(config.book, tables=("llama32_med_table3",)))
    written = (workdir / "book.json").read_bytes()
    with pytest.raises(ValueError, match=r"book\.tables leaves out .*medm_table1.* Name them, too"):
        RUNNERS["reproduce"](one, workdir)
    assert (workdir / "book.json").read_bytes() == written
    (workdir / "book.json").unlink()
    RUNNERS["reproduce"](one, workdir)
    with (workdir / "book.csv").open(encoding="utf-8-sig") as file:
        again = list(csv.reader(file))
    assert again[1:] == [row for row in before if row[0] == "llama32_med_table3"]


def test_a_filled_cell_stays_until_a_run_fills_it_again(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the experiments, which defines the cells that a run fills."""
    config = micro_config(SHORT | {"book.tables": ("medm_table5", "llama32_med_table3")})
    source = load_rows(config.stages["stage1"].sources[0], config.data)
    full = Found(Answered(majority(source.texts(), source.texts()), {}), command="run it")
    unfit: set[Any] = set()

    def run_recipe(config: Config, rows: Sequence[Any], workdir: Path) -> Any:
        empty = full._replace(answered=None, empty="no room")
        return {key_of(row): empty if key_of(row) in unfit else full for row in rows}, {}

    monkeypatch.setattr(reproduce, "run_recipe", run_recipe)
    RUNNERS["reproduce"](config, tmp_path)
    names = [f"book.{ending}" for ending in ("json", "html", "csv", "tex")]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    count = read_json(tmp_path / "book.json")["filled"]
    assert count > 3
    with pytest.raises(ValueError, match=r"filled with book\.stand_in='phantom_rad.*', and this one has ''"):
        RUNNERS["reproduce"](dataclasses.replace(config, book=dataclasses.replace(config.book, stand_in="")), tmp_path)
    one = {"book.tables": ("llama32_med_table3",)}
    with pytest.raises(ValueError, match=r"book\.tables leaves out medm_table5, which the book in .* has filled"):
        RUNNERS["reproduce"](micro_config(SHORT | one), tmp_path)
    unfit.update(key_of(row) for row in TABLES["medm_table5"].rows)
    with pytest.raises(ValueError, match=rf"stays as it is: \d+ of its {count} filled cells would be(.|\n)*no room"):
        RUNNERS["reproduce"](config, tmp_path)
    monkeypatch.setattr(reproduce, "run_recipe", refuse)  # an interruption before the first experiment
    with pytest.raises(AssertionError):
        RUNNERS["reproduce"](config, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    (tmp_path / "book.json").write_text('{"tables": [{"name": "a", "cells": [5]}]}')
    with pytest.raises(ValueError, match=r"book\.json: a table: field `cells\[0\]` must be a JSON object"):
        RUNNERS["reproduce"](config, tmp_path)
    (tmp_path / "book.json").unlink()
    monkeypatch.setattr(reproduce, "run_recipe", run_recipe)
    RUNNERS["reproduce"](config, tmp_path)
    assert read_json(tmp_path / "book.json")["filled"] < count


def test_cells_of_unprepared_data_are_empty_and_say_what_to_run(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    tables = ("medm_table1", "llama32_med_table1", "med_idefics_figure2")
    config = micro_config({"mode": "reproduce", "book.tables": tables, "data.data_dir": str(tmp_path / "none")})
    RUNNERS["reproduce"](config, tmp_path)
    found = read_json(tmp_path / "book.json")
    assert found["filled"] == 0 and found["cells"] > 50
    reasons = {cell["empty"] for cell in cells(found) if cell["command"]}
    assert any("slake is not prepared" in why and "configs/build_data.py" in why for why in reasons)
    assert any("written/rocov2_questions is not prepared" in why for why in reasons)


def test_without_a_checkpoint_every_experiment_says_so(micro_config: MakeConfig, tmp_path: Path) -> None:
    config = micro_config({"mode": "reproduce", "book.tables": ("llama32_med_table3",), "model.checkpoint": ""})
    RUNNERS["reproduce"](config, tmp_path)
    assert all("--config.model.checkpoint=FILE" in cell["empty"] for cell in cells(read_json(tmp_path / "book.json")))


def test_cells_of_models_that_do_not_fit_are_empty_and_say_where_they_would(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    monkeypatch.setattr(reproduce, "free_bytes", lambda: 1000)
    config = micro_config(SHORT | {"book.tables": ("llama32_med_table3",)})
    RUNNERS["reproduce"](config, tmp_path)
    for cell in cells(read_json(tmp_path / "book.json")):
        assert "needs at least" in cell["empty"] and "configs/fit.py" in cell["empty"]


@pytest.mark.slow
def test_a_leak_leaves_its_own_cells_empty(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that asks about its training data is empty; another row of the same recipe is filled."""
    plain, asked = reproduce.shorten, SourceConfig("phantom_rad", "tiny", limit=4)

    def leak(one: Any, stand_in: str) -> Any:
        short = plain(one, stand_in)
        if isinstance(short, Config) or "expert" not in short.prompt:
            return short
        return dataclasses.replace(short, source=asked, train_source=asked)

    monkeypatch.setattr(reproduce, "shorten", leak)
    rows = [row for row in TABLES["med_idefics_figure2"].rows if row.model.startswith("two stages")][:2]
    table = dataclasses.replace(TABLES["med_idefics_figure2"], rows=tuple(rows))
    monkeypatch.setattr(reproduce, "load_tables", lambda folder, names: {"one": table})
    RUNNERS["reproduce"](micro_config(SHORT), tmp_path)
    found = cells(read_json(tmp_path / "book.json"))
    leaking = [cell for cell in found if "expert" in cell["model"]]
    assert leaking and all("which is trained on" in cell["empty"] and not cell["ours"] for cell in leaking)
    kept = [cell for cell in found if cell not in leaking and cell["metric"] != "read by a physician"]
    assert kept and all(cell["ours"] for cell in kept)


def test_least_bytes_are_the_weights_and_four_times_what_trains(micro_config: MakeConfig) -> None:
    config = micro_config()
    base = sum(leaf.size * leaf.dtype.itemsize for leaf in base_shapes(config, ()).values())
    assert reproduce.least_bytes(config, ()) == base
    head = 16 * 16 + 16  # the projector of the micro model, in float32 either way
    assert reproduce.least_bytes(config, ("stage1",)) == base + 3 * 4 * head


def test_two_weights_of_nf4_are_one_byte() -> None:
    assert reproduce._bytes(jax.ShapeDtypeStruct((2, 64), jnp.uint4)) == 64


def test_shortening_changes_data_and_steps_and_leaves_the_recipe() -> None:
    whole = from_config_dict(load_experiment(str(configs_folder() / "medm_stage2.py:rising,report")))
    short = shorten(whole, "phantom_rad/tiny")
    assert {source.dataset for source in short.stages["stage2"].sources} == {"phantom_rad"}
    assert [(s.anneal, s.points, s.task) for s in short.stages["stage2"].sources] == [
        (s.anneal, s.points, s.task) for s in whole.stages["stage2"].sources
    ]
    assert (short.stages["stage2"].lora, short.stages["stage2"].train) == (
        whole.stages["stage2"].lora,
        whole.stages["stage2"].train,
    )
    assert short.stages["stage2"].total_steps == 1 and short.eval.source.split == "test"
    assert shorten(whole, "phantom_rad/tiny").data.prompt == whole.data.prompt


def test_the_command_of_a_row_runs_its_recipe() -> None:
    config = from_config_dict(load_experiment(str(configs_folder() / "reproduce.py")))
    row = next(row for row in TABLES["medm_table1"].rows if row.change)
    command = command_of(row, "medm_table1", config)
    assert f"--config configs/{row.recipe}" in command and "--config.run_stages=('stage1','stage2')" in shlex.split(
        command
    )


def test_commands_of_the_book_share_no_workdir_and_ask_as_their_rows_do() -> None:
    config = from_config_dict(load_experiment(str(configs_folder() / "reproduce.py")))
    commands: dict[str, set[str]] = {}
    for name, table in TABLES.items():
        for row in filter(lambda row: row.recipe, table.rows):
            words = shlex.split(command_of(row, name, config))
            commands.setdefault(words[words.index("--workdir") + 1], set()).add(shlex.join(words))
            own = row.cell == CellConfig()  # another recipe's question, prompt or image cannot be given as a field
            assert words[words.index("--config") + 1] == f"configs/{row.recipe if own else 'reproduce.py'}"
            assert own or f"--config.book.tables=('{name}',)" in words
    assert len(commands) > 20 and all(len(different) == 1 for different in commands.values())


def test_recipes_that_differ_in_name_or_data_alone_are_run_once_in_a_shortened_book() -> None:
    """Every recipe is run: in each group, all of them are the same once they are shortened."""
    short, whole = (from_config_dict(load_experiment(str(configs_folder() / f"reproduce.py:{form}")))
                    for form in ("short", "whole"))  # fmt: skip
    rows = reproduce._rows(TABLES)
    groups = reproduce._grouped(rows, short)
    assert sum(map(len, groups)) == len(rows) and len(groups) < len(reproduce._grouped(rows, whole))
    by_recipe = {row.recipe: number for number, group in enumerate(groups) for row in group if not row.change}
    assert by_recipe["llama32_med.py:slake"] == by_recipe["llama32_med.py:vqa_rad"]
    apart = ["slake", "slake,without_stage1", "slake,without_role", "slake,without_tower", "slake,qlora", "captions"]
    assert len({by_recipe[f"llama32_med.py:{name}"] for name in apart}) == len(apart)
    for group in groups:
        recipes = [reproduce._as_run(short, row) for row in group]
        assert len({repr([recipe.stages[name].lora for name in recipe.stage_names]) for recipe in recipes}) == 1


def test_a_missing_checkpoint_is_reported_before_any_table(micro_config: MakeConfig, tmp_path: Path) -> None:
    given = {"mode": "reproduce", "book.tables": ("llama32_med_table3",), "model.checkpoint": str(tmp_path / "no.npz")}
    with pytest.raises(ValueError, match=r"^model\.checkpoint=.*no\.npz is not there"):
        RUNNERS["reproduce"](micro_config(given), tmp_path)
    assert not (tmp_path / "book.json").exists()
