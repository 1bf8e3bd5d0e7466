"""The files that scripts/check.sh checks: the files of a change, and the files that import or name them."""

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parent.parent
ALWAYS = ["tests/test_imports.py", "tests/test_repository.py"]


@pytest.fixture(scope="module")
def changed() -> dict[str, Any]:
    return runpy.run_path(str(REPO / "scripts" / "changed.py"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of two modules, a script, and their tests, all in one commit."""
    files = {
        "radvqa_jax/__init__.py": "",
        "radvqa_jax/low.py": "A = 1\n",
        "radvqa_jax/high.py": "from radvqa_jax.low import A\n",
        "radvqa_jax/page.html": "<p>\n",
        "scripts/draw.py": "B = 1\n",
        "tests/test_low.py": "from radvqa_jax.low import A\n",
        "tests/test_high.py": "from radvqa_jax.high import A\n",
        "tests/test_draw.py": 'run("scripts/draw.py")\n',
        "tests/test_page.py": 'read("page.html")\n',
        ".gitignore": "ignored.py\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def ask(changed: dict[str, Any], clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, kind: str) -> list[str]:
    monkeypatch.chdir(clone)
    monkeypatch.setattr("sys.argv", ["changed.py", kind])
    changed["main"]()
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("name", "types", "tests"),
    [
        ("radvqa_jax/low.py", ["radvqa_jax/high.py", "radvqa_jax/low.py"], ["tests/test_low.py"]),
        ("radvqa_jax/high.py", ["radvqa_jax/high.py"], ["tests/test_high.py"]),
        ("radvqa_jax/new.py", ["radvqa_jax/new.py"], []),
        ("radvqa_jax/page.html", [], ["tests/test_page.py"]),
        ("scripts/draw.py", ["scripts/draw.py"], ["tests/test_draw.py"]),
        ("tests/test_low.py", [], ["tests/test_low.py"]),
        ("ignored.py", [], []),
    ],
)
def test_a_change_is_checked_with_what_imports_or_names_it(
    changed: dict[str, Any],
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    name: str,
    types: list[str],
    tests: list[str],
) -> None:
    with (clone / name).open("a") as file:
        file.write("# more\n")
    assert ask(changed, clone, monkeypatch, capsys, "types") == types
    assert ask(changed, clone, monkeypatch, capsys, "tests") == sorted([*tests, *ALWAYS])


def test_a_file_that_was_removed_is_not_checked(
    changed: dict[str, Any], clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (clone / "tests/test_low.py").unlink()
    assert ask(changed, clone, monkeypatch, capsys, "tests") == ALWAYS


def test_an_unknown_commit_is_an_error_with_git_s_reason(changed: dict[str, Any], clone: Path) -> None:
    with pytest.raises(ValueError, match="nope"):
        changed["changed_files"](clone, "nope")
