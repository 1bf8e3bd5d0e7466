"""The Python and the lock that scripts/env.sh chooses. Stand-ins for Python only report a version."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
STAND_IN = '#!/bin/sh\ncase $1 in -V) echo "Python {0}.0" ;; -c) [ "$3" = {0} ] ;; *) exit 1 ;; esac\n'


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with the commands that env.sh needs, and no Python."""
    for name in (
        "bash",
        "basename",
        "cat",
        "cksum",
        "cut",
        "dirname",
        "flock",
        "head",
        "ls",
        "mkdir",
        "rm",
        "sed",
        "sort",
    ):
        found = [Path(folder) / name for folder in os.environ["PATH"].split(":")]
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(next(path for path in found if path.exists()))
    return tmp_path


def source(machine: Path, **variables: str) -> str:
    """Sources env.sh on that machine, where no environment can be made, and returns its output."""
    variables = {
        "PATH": f"{machine}/bin",
        "PYENV_ROOT": f"{machine}/pyenv",
        "RADVQA_VENV": f"{machine}/venv",
    } | variables
    command = ["bash", "-euo", "pipefail", "-c", f"source {REPO}/scripts/env.sh"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=REPO, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_another_shell_is_refused_before_it_takes_another_folder_for_the_repository(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "clone" / "scripts").mkdir(parents=True)
    shutil.copy(REPO / "scripts" / "env.sh", tmp_path / "clone" / "scripts")
    command = [shell, "-c", "unset BASH_VERSION; . ./scripts/env.sh; echo status $?"]
    done = subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "status 1\n" and done.stderr.startswith("env: this shell is not bash. Start bash")
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        (("3.13",), "Python 3.13.0 and requirements.lock"),
        (("3.14",), "Python 3.14.0 and requirements.lock"),
        (("3.11",), "Python 3.11.0 and requirements-oldest.lock"),
        (("3.12", "3.13", "3.14"), "Python 3.13.0 and requirements.lock"),
        (("3.11", "3.12"), "Python 3.11.0 and requirements-oldest.lock"),
    ],
)
def test_the_set_of_the_whole_suite_is_used_if_a_python_for_it_is_found(
    pythons: tuple[str, ...], taken: str, machine: Path
) -> None:
    for version in pythons:
        put(machine / "bin" / f"python{version}", STAND_IN.format(version))
    assert taken in source(machine)


def test_on_a_gpu_the_newest_set_is_used_if_a_python_for_it_is_found(machine: Path) -> None:
    put(machine / "bin" / "python3.11", STAND_IN.format("3.11"))
    assert "Python 3.11.0 and requirements-oldest.lock" in source(machine, RADVQA_EXTRAS="cuda")
    put(machine / "bin" / "python3.12", STAND_IN.format("3.12"))
    assert "Python 3.12.0 and requirements.lock" in source(machine, RADVQA_EXTRAS="dicom,cuda")
    assert "Python 3.11.0 and requirements-oldest.lock" in source(machine, RADVQA_EXTRAS="dicom")


def test_a_python_without_a_version_in_its_name_is_found(machine: Path) -> None:
    put(machine / "bin" / "python3", STAND_IN.format("3.12"))
    assert "Python 3.12.0 and requirements.lock" in source(machine)


def test_a_python_of_pyenv_is_found_and_one_that_does_not_run_is_skipped(machine: Path) -> None:
    put(machine / "bin" / "python3.13", "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    put(machine / "bin" / "python3.12", STAND_IN.format("3.12"))
    assert "Python 3.12.0 and requirements.lock" in source(machine)
    put(machine / "pyenv" / "versions" / "3.11.7" / "bin" / "python3", STAND_IN.format("3.11"))
    assert "Python 3.11.0 and requirements-oldest.lock" in source(machine)


def test_the_user_chooses_python_and_lock(machine: Path) -> None:
    for version in ("3.11", "3.13"):
        put(machine / "bin" / f"python{version}", STAND_IN.format(version))
    new = f"{machine}/bin/python3.13"
    assert "Python 3.13.0 and requirements.lock" in source(machine, RADVQA_PYTHON=new)
    assert "Python 3.11.0 and requirements-tf.lock" in source(machine, RADVQA_LOCK="requirements-tf.lock")
    own = machine / "own.lock"
    own.write_text("absl-py==2.5.1\n", encoding="utf-8")
    assert "Python 3.13.0 and own.lock" in source(machine, RADVQA_LOCK=str(own))


def test_an_environment_keeps_its_python(machine: Path) -> None:
    put(machine / "bin" / "python3.13", STAND_IN.format("3.13"))
    put(machine / "venv" / "bin" / "python", "#!/bin/sh\necho 3.11\n")
    put(machine / "venv" / ".radvqa-stamp", f"{machine}/venv|{REPO}||old\n")
    assert "up to date with setup.py and requirements-oldest.lock" in source(machine)
    said = source(machine, RADVQA_LOCK="requirements.lock")
    assert "has Python 3.11, and requirements.lock is for 3.13" in said and "Remove the folder" in said
    assert (machine / "venv" / "bin" / "python").is_file()


@pytest.mark.parametrize("name", ["{machine}/venv/", "{machine}/link", "{machine}/bin/../venv", "{relative}"])
def test_an_environment_is_the_same_by_every_name_of_its_folder(name: str, machine: Path) -> None:
    """The stamp of one that is interrupted or moved names another folder: such an environment is deleted."""
    put(machine / "bin" / "python3.11", STAND_IN.format("3.11"))
    put(machine / "venv" / "bin" / "python", "#!/bin/sh\necho 3.11\n")
    put(machine / "venv" / ".radvqa-stamp", f"{machine}/venv|{REPO}||old\n")
    (machine / "link").symlink_to(machine / "venv")
    named = name.format(machine=machine, relative=os.path.relpath(machine / "venv", REPO))
    said = source(machine, RADVQA_VENV=named)
    assert f"bringing {machine.resolve()}/venv up to date" in said and "interrupted" not in said
    put(machine / "venv" / ".radvqa-stamp", f"{machine}/elsewhere|{REPO}||old\n")
    assert "was interrupted, moved or broken" in source(machine, RADVQA_VENV=named)


def test_an_environment_of_another_clone_is_not_taken_from_it_by_another_name(machine: Path) -> None:
    put(machine / "bin" / "python3.11", STAND_IN.format("3.11"))
    put(machine / "venv" / "bin" / "python", "#!/bin/sh\necho 3.11\n")
    put(machine / "venv" / ".radvqa-stamp", f"{machine}/venv|{machine}||old\n")
    (machine / "link").symlink_to(machine / "venv")
    assert f"belongs to the clone in {machine}, which would lose it" in source(machine, RADVQA_VENV=f"{machine}/link")
    assert (machine / "venv" / "bin" / "python").is_file()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no Python >= 3.11 with venv and pip was found"),
        ({"RADVQA_LOCK": "requirements-tf.lock"}, "requirements-tf.lock is for Python 3.11"),
        ({"RADVQA_PYTHON": "/bin/false"}, "RADVQA_PYTHON=/bin/false"),
    ],
)
def test_without_a_python_the_error_names_the_way_out(variables: dict[str, str], said: str, machine: Path) -> None:
    put(machine / "bin" / "python3.10", STAND_IN.format("3.10"))
    found = source(machine, **variables)
    assert said in found and "RADVQA_PYTHON=/path/to/python3" in found
