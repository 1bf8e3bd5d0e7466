"""The scripts that take a folder: help, and options that they do not have."""

import subprocess
import sys
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


CLEAN = '{"dependencies": [{"name": "some-thing", "version": "1.0", "vulns": []}]}'
OPEN = CLEAN.replace("[]}", '[{"id": "PYSEC-1"}]}')
AUDITS = {  # what pip-audit writes, its status -> the status of the script, a line
    "clean": (CLEAN, 0, 0, "no known vulnerability in 1 packages"),
    "a known vulnerability": (OPEN, 1, 1, "known vulnerabilities: some-thing PYSEC-1"),
    "the service is down": ("", 1, 2, "no answer for 1 of 1 packages. ['ProxyError']"),
    "another version": (CLEAN.replace("1.0", "0.9"), 0, 2, "no answer for 1 of 1 packages"),
    "a package is skipped": (CLEAN.replace('"vulns": []', '"skip_reason": "x"'), 0, 2, "no answer for 1 of 1 packages"),
}


@pytest.mark.parametrize("audit", AUDITS)
def test_an_audit_without_an_answer_is_not_clean_whatever_an_earlier_one_left(audit: str, tmp_path: Path) -> None:
    """Stand-ins for the environment and the tools; the folder holds the clean result of an earlier run."""
    written, ended, status, line = AUDITS[audit]
    (tmp_path / "scripts").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("sbom.sh", "usage.sh"):
        (tmp_path / "scripts" / name).write_text((SCRIPTS / name).read_text())
    lock = "# a lock\nsome_thing==1.0 ; python_version > '3' \\\n    --hash=sha256:0\nno==2 ; python_version < '3' \\\n"
    for name in ("", "-oldest"):
        (tmp_path / f"requirements{name}.lock").write_text(lock)
        (tmp_path / "out" / f"audit{name}.json").write_text(CLEAN)
    (tmp_path / "written").write_text(written)
    tools = {
        "pip": "",
        "cyclonedx-py": "",
        "python": f'exec {sys.executable} "$@"',
        "pip-audit": 'while [ "$1" != -o ]; do shift; done\n'
        f'[ ! -s {tmp_path}/written ] || cp {tmp_path}/written "$2"\necho ProxyError >&2; exit {ended}',
    }
    (tmp_path / "made").mkdir()
    for name, text in tools.items():
        (tmp_path / "made" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "made" / name).chmod(0o755)
    (tmp_path / "scripts" / "env.sh").write_text(
        f'VIRTUAL_ENV=x\npython() {{ mkdir -p "$3/bin" && cp {tmp_path}/made/* "$3/bin"; }}\n'
    )
    command = ["bash", tmp_path / "scripts" / "sbom.sh", tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status and (done.stdout + done.stderr).count(line) == 2, done.stdout + done.stderr
