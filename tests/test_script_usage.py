"""The scripts that take a folder: help, and options that they do not have."""

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.mark.parametrize("name", ["demo", "docs", "device_wheels", "old_transformers", "package", "sbom"])
def test_help_is_the_head_of_the_script_and_no_option_becomes_a_folder(name: str, tmp_path: Path) -> None:
    def ended(option: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", SCRIPTS / f"{name}.sh", option]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)

    for option in ("-h", "--help"):
        found = ended(option)
        assert found.returncode == 0 and f"bash scripts/{name}.sh" in found.stdout and "set -e" not in found.stdout
    for option in ("-x", "--hlep"):
        found = ended(option)
        assert found.returncode == 2 and f"{name}: unknown argument {option}. Give a folder" in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--debug", "--config.seed=1"])
def test_the_demo_passes_options_of_the_program_on(option: str, tmp_path: Path) -> None:
    """Stand-ins for env.sh and Python: the command is printed instead of run."""
    for name in ("demo.sh", "usage.sh"):
        (tmp_path / name).write_text((SCRIPTS / name).read_text())
    (tmp_path / "env.sh").write_text(f'REPO={tmp_path}\npython() {{ echo "$@"; }}\nexec() {{ "$@"; }}\n')
    command = ["bash", tmp_path / "demo.sh", option]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True).stdout
    assert said.endswith(f"--workdir runs/demo {option}\n")
