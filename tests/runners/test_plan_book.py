"""The plan of the book: memory, steps and hours of each recipe on devices that are not here."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from radvqa_jax.config import Config, SourceConfig, configs_folder, load_tables
from radvqa_jax.data.sources import load_rows
from radvqa_jax.files import read_json, write_json
from radvqa_jax.planning.fit import Fitted
from radvqa_jax.planning.flops import Work
from radvqa_jax.planning.targets import open_target
from radvqa_jax.runners import RUNNERS, plan_book, reproduce
from tests.runners.shared import MakeConfig, refuse, replace_in_runners

TABLES = load_tables(configs_folder() / "papers", ())


def test_rows_are_those_of_the_release_until_a_set_is_prepared(micro_config: MakeConfig, tmp_path: Path) -> None:
    config = micro_config()
    absent = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=str(tmp_path)))
    official: dict[tuple[str, str, Literal["vqa", "caption"], int], int] = {
        ("vqa_rad", "", "vqa", 0): 1797,
        ("vqa_rad", "strict", "vqa", 0): 1797 - 1071,
        ("slake", "all", "vqa", 0): 9834,
        ("rocov2", "", "caption", 0): 59958,
        ("rocov2", "", "caption", 55_000): 55_000,
        ("pmc_vqa", "v2", "vqa", 0): 152_603,  # up to 1,526 of them may be left out, which only the files say
    }
    for (dataset, builder, task, limit), rows in official.items():
        assert plan_book.rows_of(SourceConfig(dataset, builder, task=task, limit=limit), absent) == rows
    assert plan_book.rows_of(SourceConfig("written", "rocov2_questions"), absent) is None
    phantoms = config.stages["stage1"].sources[0]
    assert plan_book.rows_of(phantoms, config) == len(load_rows(phantoms, config.data))


@pytest.mark.slow
def test_the_plan_compiles_equal_steps_once_and_runs_nothing(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    monkeypatch.setattr(reproduce, "read_recipe", lambda config, row: _planned(real(config, row)))
    config = micro_config({"mode": "reproduce", "book.tables": ("medm_table5",), "book.targets": ("local",)})
    RUNNERS["reproduce"](config, tmp_path)
    planned = read_json(tmp_path / "plan.json")
    slake = [row for row in planned if row["recipe"] == "medm_stage1.py:en"]
    assert [(row["stage"], row["rows"], row["steps"]) for row in slake] == [("stage1", 4918, math.ceil(5 * 4918 / 4))]
    assert {row["recipe"].split()[0] for row in planned} == {row.recipe for row in TABLES["medm_table5"].rows}
    assert all(row["peak"] > 0 for row in planned)
    assert capsys.readouterr().out.count("compiled") == len({row["program"] for row in planned}) < len(planned)
    # An interrupted plan continues: what is in plan.json is not compiled again.
    monkeypatch.setattr(plan_book, "compile_program", refuse)
    RUNNERS["reproduce"](config, tmp_path)
    assert read_json(tmp_path / "plan.json") == planned
    head, _, *rows = (tmp_path / "plan.md").read_text().splitlines()
    assert "local: peak GiB" in head and len(rows) == len(planned)


real = reproduce.read_recipe


def _planned(config: Config) -> Config:
    """The recipe with batches that a test can compile."""
    small = {name: dataclasses.replace(stage, batch_size=2, accumulate=2) for name, stage in config.stages.items()}
    return dataclasses.replace(config, stages=small, data=dataclasses.replace(config.data, data_dir="/nowhere"))


def planned_row(target: str, *, peak: int, fits: bool) -> plan_book.Planned:
    return plan_book.Planned("a.py:b", "stage1", target, 4918, 52, peak, fits, 0.5, 52 * 0.5 / 3600, "hash")


def test_a_plan_is_a_row_for_each_stage_with_every_device(micro_config: MakeConfig, tmp_path: Path) -> None:
    """The book in the same folder shows it."""
    plan = [planned_row("h100", peak=2**30, fits=True), planned_row("rtx4090", peak=2**35, fits=False)]
    assert plan_book.plan_table(plan)[1] == [
        *("a.py:b", "stage1", "4,918", "52"),
        *("1.00", "500", "0.01", "32.00 DOES NOT FIT", "500", "0.01"),
    ]
    write_json(tmp_path / "plan.json", [each._asdict() for each in plan], private=False)
    assert plan_book.read_plan(tmp_path) == plan
    config = micro_config({"mode": "reproduce", "book.tables": ("llama32_med_table3",), "model.checkpoint": ""})
    RUNNERS["reproduce"](config, tmp_path)
    page = (tmp_path / "book.html").read_text()
    assert "What the recipes take" in page and "32.00 DOES NOT FIT" in page and "remat=auto" in page


def test_a_plan_keeps_no_line_of_other_settings(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Fitted("", 1, 0, 0, 0, 1, Work(0.0, 0.0), None, 7.2, (), 0.0)
    monkeypatch.setattr(plan_book, "compile_program", lambda program, target: found)
    config = micro_config()
    plan_book.plan_book({"a": config}, ["local"], tmp_path)
    first = plan_book.read_plan(tmp_path)
    elsewhere = [each._replace(target="h100") for each in first]
    write_json(tmp_path / "plan.json", [each._asdict() for each in [*first, *elsewhere]], private=False)
    monkeypatch.setattr(plan_book, "rows_of", lambda source, config: 10_000)  # the sets were prepared since
    plan_book.plan_book({"a": config}, ["local"], tmp_path)
    kept = plan_book.read_plan(tmp_path)
    assert [each.target for each in kept].count("h100") == len(first) and {each.rows for each in kept} == {10_000}
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, quantize="nf4"))
    capsys.readouterr()
    plan_book.plan_book({"a": other}, ["local"], tmp_path)
    assert f"{len(kept)} lines of {tmp_path / 'plan.json'} are of other" in capsys.readouterr().out
    assert {each.target for each in plan_book.read_plan(tmp_path)} == {"local"}


def test_a_local_plan_of_another_machine_is_made_again(micro_config: MakeConfig) -> None:
    target, config = open_target("local"), micro_config()
    program = plan_book._program(config, config.stages["stage1"])
    moved = dataclasses.replace(config, model=dataclasses.replace(config.model, checkpoint="elsewhere.npz"))
    assert plan_book._program(moved, config.stages["stage1"]) == program
    one = plan_book.Planned("a", "stage1", "local", 1, 1, 5, True, 0.5, 1.0, program, device="another card")
    here = one._replace(device=target.devices[0].device_kind)
    only = {"a": dataclasses.replace(config, stages={"stage1": config.stages["stage1"]})}
    assert next(plan_book.plan(only, target, [here])).peak == 5
    assert next(plan_book.plan(only, target, [one])).peak != 5


def test_hours_are_those_of_10_000_rows_where_the_rows_are_not_known(
    micro_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = micro_config()
    passes = {name: dataclasses.replace(stage, total_steps=0, epochs=3.0) for name, stage in config.stages.items()}
    found = Fitted("", 1, 0, 0, 0, 1, Work(0.0, 0.0), None, 7.2, (), 0.0)
    monkeypatch.setattr(plan_book, "compile_program", lambda program, target: found)
    monkeypatch.setattr(plan_book, "rows_of", lambda source, config: None)
    planned = list(plan_book.plan({"a": dataclasses.replace(config, stages=passes)}, open_target("local")))
    for each, stage in zip(planned, passes.values(), strict=True):
        steps = math.ceil(3 * 10_000 / (stage.batch_size * stage.accumulate))
        assert (each.rows, each.steps, each.hours) == (None, None, None)
        assert each.hours_10k == pytest.approx(steps * 7.2 / 3600)
        assert plan_book.plan_table([each])[1][2:] == ["?", "?", "0.00", "7,200", f"{steps / 500:,.2f} per 10,000 rows"]


def test_a_plan_of_the_book_starts_before_any_device_is_used(tmp_path: Path) -> None:
    """XLA reads the flags of a target once, when it starts: later nothing compiles for GPUs that are not here."""
    code = (
        "import sys\n"
        "from jax._src import xla_bridge\n"
        "from radvqa_jax.runners import reproduce\n"
        "reproduce.plan_book = lambda *a: print('started:', xla_bridge.backends_are_initialized())\n"
        "from radvqa_jax.main import main\n"
        f"sys.argv = ['main', '--config', 'configs/reproduce.py', '--workdir', {str(tmp_path)!r},\n"
        "    '--config.book.targets=(\"h100\",)', '--config.book.tables=(\"medm_table5\",)']\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=configs_folder().parent)
    assert "started: False" in run.stdout, run.stdout + run.stderr


def test_an_unknown_device_is_named_by_its_field_before_anything_is_planned(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_book, "plan", refuse)
    given = {"mode": "reproduce", "book.tables": ("medm_table5",), "book.targets": ("local", "h1000")}
    with pytest.raises(ValueError, match=r"^book\.targets='h1000' is unknown\. Did you mean `h100`"):
        RUNNERS["reproduce"](micro_config(given), tmp_path)


def test_a_plan_does_not_depend_on_the_warm_up(micro_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of steps is not known before the data are; the compiled step does not depend on it."""
    config = micro_config()
    warm = {
        name: dataclasses.replace(
            stage, total_steps=0, epochs=1.0, optim=dataclasses.replace(stage.optim, warmup_steps=50)
        )
        for name, stage in config.stages.items()
    }
    found = Fitted("", 1, 0, 0, 0, 1, Work(0.0, 0.0), None, 1.0, (), 0.0)
    monkeypatch.setattr(plan_book, "compile_program", lambda program, target: found)
    planned = list(plan_book.plan({"a": dataclasses.replace(config, stages=warm)}, open_target("local")))
    assert [each.stage for each in planned] == list(config.stage_names)
