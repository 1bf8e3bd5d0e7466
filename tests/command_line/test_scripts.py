"""Scripts end as the command line does: one line for a mistake, 130 for Ctrl-C, nothing for a closed pipe."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from radvqa_jax.command_line.script import TRACEBACK, run_script

SCRIPTS = Path(__file__).parents[2] / "scripts"


def _raises(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_runs_in_the_frame(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
    calls = [ast.unparse(line) for node in guarded for line in node.body]
    assert calls in ([], ["run_script(main)"])  # [] is a module of another script


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("rank=-1 must be at least 0."), "error: rank=-1 must be at least 0."),
        (FileExistsError(17, "File exists", "out"), "error: out is there already, and is not what is wanted there."),
        (OSError(28, "No space left on device", "out"), "error: there is no room for out (No space left on device)."),
        (MemoryError("x"), "error: out of memory (x)."),
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


def test_ctrl_c_is_one_line_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(_raises(KeyboardInterrupt()))
    assert ended.value.code == 130 and capsys.readouterr().err == "error: stopped by Ctrl-C.\n"


def test_the_status_is_that_of_main() -> None:
    for status in (0, 3, None):
        with pytest.raises(SystemExit) as ended:
            run_script(lambda status=status: status)
        assert ended.value.code == status


def test_a_reader_that_has_enough_ends_a_script_quietly() -> None:
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
