"""A run that is stopped, diverges or fails ends with one line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.files import read_jsonl
from tests.main_case import REPO, Said


def command(micro_file: Path, workdir: Path, *fields: str) -> list[str]:
    flags = ["--config", str(micro_file), "--workdir", str(workdir), *(f"--config.{field}" for field in fields)]
    return [sys.executable, "-m", "radvqa_jax.main", *flags]


def run(argv: list[str]) -> Said:
    env = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(argv, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_ends_as_if_there_was_none(micro_file: Path, tmp_path: Path) -> None:
    """Stage 2 with accumulation and dropout; no step but the last would be saved without the signal."""
    fields = (
        "mode=train",
        "run_stages=('stage2',)",
        "stages.stage2.total_steps=150",
        "stages.stage2.accumulate=2",
        "stages.stage2.save_every=999",
    )
    whole, cut = (command(micro_file, tmp_path / name, *fields) for name in ("whole", "cut"))
    assert run(whole).code == 0

    env = os.environ | {"PYTHONPATH": str(REPO)}
    log = tmp_path / "cut" / "stage2" / "losses.jsonl"
    with subprocess.Popen(cut, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (log.is_file() and len(log.read_bytes().splitlines()) > 20):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, err
    stopped = re.search(
        r"stage2: stopped by signal 15 after step (\d+), which is saved in \S+cut/stage2/checkpoints", out
    )
    assert stopped and 20 < int(stopped[1]) < 150
    assert not (tmp_path / "cut" / "stage2" / "adapter.npz").exists()

    code, out, err = run(cut)
    assert code == 0, err
    assert f"stage2: continues after step {stopped[1]} of 150" in out
    same = [(tmp_path / name / "stage2" / "adapter.npz").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]

    def losses(name: str) -> list[dict[str, Any]]:
        rows = read_jsonl(tmp_path / name / "stage2" / "losses.jsonl")
        return [
            {key: row[key] for key in ("step", "loss", "grad_norm", "update_norm", "learning_rate")} for row in rows
        ]

    assert [row["step"] for row in losses("cut")] == list(range(1, 151))
    assert losses("cut") == losses("whole")


@pytest.mark.slow
@pytest.mark.parametrize("debug", [False, True])
def test_a_run_that_diverges_says_so(debug: bool, micro_file: Path, tmp_path: Path) -> None:
    fields = ("mode=train", "run_stages=('stage1',)", "stages.stage1.optim.learning_rate=1e30")
    code, _, err = run([*command(micro_file, tmp_path, *fields), *["--debug"] * debug])
    assert code == 1
    assert re.search(r"stage1: update_norm is not finite at step 1\. No step was saved before it", err)
    assert ("Traceback" in err) is debug
    assert not list((tmp_path / "stage1").glob("adapter.*"))


@pytest.mark.slow
def test_a_workdir_of_another_configuration_is_refused(micro_file: Path, tmp_path: Path) -> None:
    train: Callable[..., Said] = lambda *fields: run(command(micro_file, tmp_path, "mode=train", *fields))  # noqa: E731
    assert train("run_stages=('stage1',)").code == 0
    code, _, err = train("run_stages=('stage1',)", "stages.stage1.optim.learning_rate=0.5")
    assert code == 1
    assert "stage.optim.learning_rate: 0.01 in the checkpoint, now 0.5" in err and "Traceback" not in err


RAISES = """
import os, runpy, sys
import radvqa_jax.runners as runners
from radvqa_jax.data.loader import LoaderError

kinds = {
    "Ctrl-C": KeyboardInterrupt(),
    "nested": RecursionError("maximum recursion depth exceeded"),
    "memory": MemoryError("Unable to allocate 4 TiB"),
    "library": RuntimeError("\\nINTERNAL: it broke\\nsecond line"),
    "worker": LoaderError("A worker process ended."),
    "import": ModuleNotFoundError("No module named 'torch'"),
}
for number, error in enumerate(kinds.values()):
    if os.fork():
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        continue
    os.dup2(os.open(f"{sys.argv[1]}/{number}.err", os.O_CREAT | os.O_WRONLY), 2)

    def fail(config, workdir, error=error):
        raise error

    runners.RUNNERS["score"] = fail
    sys.argv = ["main", "--config=configs/score.py", f"--workdir={sys.argv[1]}/run", "--config.eval.predictions=x"]
    runpy.run_module("radvqa_jax.main", run_name="__main__", alter_sys=True)
    sys.exit(0)
"""


def test_whatever_ends_a_run_ends_it_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RAISES, str(tmp_path)],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
    )
    kept = r"Start it again with the same command\."
    said = [
        (128 + signal.SIGINT, rf"error: stopped by Ctrl-C\. {kept}"),
        (1, r"error: maximum recursion depth exceeded: a file or a value is nested too deeply to be read\. --debug .*"),
        (1, r"error: out of memory \(Unable to allocate 4 TiB\)\. Give a smaller batch_size.*"),
        (1, rf"error: RuntimeError: INTERNAL: it broke --debug shows where\. {kept}"),
        (1, r"error: A worker process ended\."),
        (1, r"error: No module named 'torch'"),
    ]
    codes = [int(code) for code in done.stdout.split()]
    for number, (code, pattern) in enumerate(said):
        err = (tmp_path / f"{number}.err").read_text()
        assert codes[number] == code and re.fullmatch(pattern, err.strip()), err
    assert not (tmp_path / "run" / ".lock.json").exists()  # each released its workdir
