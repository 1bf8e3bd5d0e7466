"""Scripts end as the command line does: one line for a mistake, 130 for Ctrl-C, nothing for a closed pipe."""

import ast
import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.command_line.script import TRACEBACK, run_script
from radvqa_jax.config import EMBEDDED

SCRIPTS = Path(__file__).parents[2] / "scripts"


def _raises(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_runs_main_by_run_script(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
    calls = [ast.unparse(line) for node in guarded for line in node.body]
    assert calls in ([], ["run_script(main)"])  # [] is a module of another script


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("rank=-1 must be at least 0."), "error: rank=-1 must be at least 0."),
        (FileExistsError(17, "File exists", "out"), "error: out exists, and is not of the kind that is needed there."),
        (OSError(28, "No space left on device", "out"), "error: there is no room for out (No space left on device)."),
        (MemoryError("x"), "error: out of memory (x)."),
        (FileNotFoundError(2, "No such file", "in.csv"), "error: in.csv does not exist. Give an existing path."),
        (ValueError("name \x1b[2J"), r"error: name \u001b[2J"),
    ],
)
def test_a_mistake_is_one_line(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACEBACK, raising=False)
    with pytest.raises(SystemExit) as ended:
        run_script(_raises(error))
    assert str(ended.value.code).startswith(said) and "\n" not in str(ended.value.code)
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)):
        run_script(_raises(error))


def test_ctrl_c_is_one_line_and_130() -> None:
    code = (
        "from radvqa_jax.command_line.script import run_script\n"
        "def main():\n    raise KeyboardInterrupt\n"
        "run_script(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: stopped by Ctrl-C.\n")


def test_a_script_computes_with_the_flags_that_avoid_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: int("fusion" in os.environ["XLA_FLAGS"]))
    assert ended.value.code == 1


def test_the_status_is_that_of_main() -> None:
    for status in (0, 3, None):
        with pytest.raises(SystemExit) as ended:
            run_script(lambda status=status: status)
        assert ended.value.code == status


def test_a_closed_pipe_ends_a_script_quietly() -> None:
    code = (
        "from radvqa_jax.command_line.script import run_script\n"
        "def main():\n    for i in range(200000): print('line', i)\n"
        "run_script(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        assert script.stdout is not None and script.stderr is not None
        assert script.stdout.readline() == b"line 0\n"
        script.stdout.close()
        assert script.stderr.read() == b""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("screenshots.py absent.html --out pictures", "absent.html: there is no such page or folder"),
        ("make_random_checkpoint.py there.npz --variant tiny", "there.npz is there already"),
        ("make_random_checkpoint.py new.npz --variant tiny --seed -1", "--seed=-1 must be at least 0"),
        ("quantisation_error.py TINY --layers 4", "has layers 0 to 3, not 4"),
        ("quantisation_error.py TINY --layers -1", "has layers 0 to 3, not -1"),
        ("benchmark_saliency.py --resolution 0", "must be a multiple of 14"),
        ("benchmark_scoring.py --records 0", "must be at least 1"),
        ("benchmark_scoring.py --published medn", "medn is unknown. Known: "),
        ("sweep.py new --ranks 4 0", "--ranks: every number must be at least 1"),
    ],
)
def test_a_wrong_argument_is_reported_before_anything_is_done(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    (tmp_path / "there.npz").write_bytes(b"weights")
    script, *arguments = line.replace("TINY", str(EMBEDDED / "tiny_paligemma.npz")).split()
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    main = runpy.run_path(str(SCRIPTS / script))["main"]
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda report: [], "must be a JSON object"),
        (lambda report: {}, "has no `frontiers`, as a report of mode=fit"),
        (lambda report: {"frontiers": []}, "has no `frontiers`, as a report of mode=fit"),
        (lambda report: {"frontiers": "x"}, "frontiers: must be a list"),
        (lambda report: {"frontiers": [5]}, "frontier 1: must be a JSON object"),
        (lambda report: {"frontiers": [{}]}, "frontier 1: field `stage` is missing"),
        (lambda report: change_point(report, peak="9"), "stage stage1, point 1: field `peak` must be an integer"),
        (lambda report: change_point(report, remat=None), "point 1: field `remat` must be text"),
        (lambda report: change_point(report, flops_over_minimum=None), "field `flops_over_minimum` must be a number"),
    ],
)
def test_a_report_without_a_frontier_is_an_error_and_draws_nothing(
    change: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    way = {"remat": "full", "remat_img": "none", "batch_size": 2}
    point = way | {"peak": 2**30, "flops_over_minimum": 1.2, "float32_copies": []}
    report = {"frontiers": [{"stage": "stage1", "room": 5, "points": [point], "chosen": way}]}
    main = runpy.run_path(str(SCRIPTS / "plot_frontier.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["plot_frontier.py", "fit.json", "--out", "frontier.svg"])
    (tmp_path / "fit.json").write_text(json.dumps(change(report)))
    with pytest.raises(ValueError, match=re.escape(said)):
        main()
    assert not (tmp_path / "frontier.svg").exists()
    (tmp_path / "fit.json").write_text(json.dumps(report))
    main()
    assert (tmp_path / "frontier.svg").stat().st_size > 1000


def change_point(report: dict[str, Any], **fields: Any) -> dict[str, Any]:
    (frontier,) = report["frontiers"]
    return {"frontiers": [frontier | {"points": [frontier["points"][0] | fields]}]}


def test_the_benchmark_of_rows_writes_its_files(tmp_path: Path) -> None:
    runpy.run_path(str(SCRIPTS / "benchmark_rows.py"))["write_files"](tmp_path, rows=40, images=20)
    assert {path.name for path in tmp_path.iterdir()} == {"images_2.zip", "test_2.csv", "train_2.csv"}
