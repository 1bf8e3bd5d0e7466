"""The scripts for SLURM: their requests fit the processes that they start, and their commands would run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.test_docs import check_experiment

REPO = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((REPO / "scripts" / "slurm").glob("*.sbatch"))
PAGES = [REPO / "docs" / "planning.md", *SCRIPTS]


def started(script: Path) -> list[str]:
    """The words of the command that a script starts in every process; "$@" stands for the script's arguments."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^srun .*", text, re.MULTILINE)
    return shlex.split(line)


def submissions() -> list[tuple[str, list[str]]]:
    """(script, its arguments) of every sbatch command in the documentation and in the scripts' own comments."""
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n#?\s*", " ", page.read_text(encoding="utf-8"))
        for script, rest in re.findall(r"sbatch scripts/slurm/(\w+\.sbatch) (--.*)", text):
            found.append((script, shlex.split(rest.partition(" [further")[0], comments=True)))
    return found


def test_every_script_is_shown_in_the_documentation() -> None:
    shown = re.findall(r"sbatch scripts/slurm/(\w+\.sbatch)", PAGES[0].read_text(encoding="utf-8"))
    assert len(SCRIPTS) == 3 and set(shown) == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_bash_and_asks_for_one_gpu_a_process(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, capture_output=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    # Bound to one GPU each, a task does not see the number that jax takes for its own.
    assert "gpus-per-task" not in asked and "gpu-bind" not in asked
    words = started(script)
    assert "--config.process.coordinator=auto" in words and "--config.mesh.data=0" in words
    assert "--kill-on-bad-exit=1" in words
    for word in words:
        if word.startswith("--config.mesh.fsdp="):
            assert int(asked["gpus-per-node"]) % int(word.partition("=")[2]) == 0  # a node holds all weights


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(("script", "given"), submissions())
def test_a_submitted_command_would_run(script: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    words = started(REPO / "scripts" / "slurm" / script)
    words = words[words.index("radvqa") + 1 :]
    place = words.index("$@")
    check_experiment([*words[:place], *given, *words[place + 1 :]], monkeypatch)
