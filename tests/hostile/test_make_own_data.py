"""scripts/make_own_data.py: an error is one line, and nothing is written."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_own_data.py"


@pytest.mark.parametrize(
    ("name", "images", "says"),
    [
        ("new", "-5", "--images=-5 must be at least 1"),
        ("new", "0", "--images=0 must be at least 1"),
        ("file", "1", "file cannot be written"),
    ],
)
def test_a_wrong_argument_is_one_line(name: str, images: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    command = [sys.executable, SCRIPT, tmp_path / name, "--images", images]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1])
    assert result.returncode == 2 and says in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_questions_of_the_users_are_not_replaced(tmp_path: Path) -> None:
    table = tmp_path / "questions.csv"
    table.write_text("mine", encoding="utf-8")
    command = [sys.executable, SCRIPT, tmp_path, "--images", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1])
    assert result.returncode == 2 and "is there already, with other content" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["questions.csv"] and table.read_text() == "mine"


def test_a_folder_continues_with_its_settings_alone(tmp_path: Path) -> None:
    def ended(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, SCRIPT, tmp_path / "own", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1])

    assert ended("--images", "2").returncode == 0
    (tmp_path / "own" / "questions.csv").unlink()  # as if it had been interrupted
    result = ended("--images", "3", "--seed", "4")
    assert result.returncode == 2 and "--images=2 then, --images=3 now; --seed=0 then, --seed=4 now" in result.stderr
    images = {path: path.stat().st_ino for path in (tmp_path / "own" / "images").iterdir()}
    assert len(images) == 2
    assert ended("--images", "2").returncode == 0 and (tmp_path / "own" / "questions.csv").is_file()
    # Replaced, and not written in place, where a kill leaves a part of an image in a folder with a whole table.
    assert not any(path.stat().st_ino == before for path, before in images.items())
