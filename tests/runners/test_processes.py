"""Two real processes over loopback answer, and do a whole job; one that fails ends the other."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.evaluation.kept_answers import parts_of
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json
from tests.runners.shared import contents
from tests.training.test_sharding import free_port
from tests.virtual_devices import environment, start_main

# What SLURM's srun does, on one machine: the number of processes from the script, the variables that jax reads.
SRUN = """#!/usr/bin/env bash
shift  # its own option
pids=()
for number in 0 1; do
  SLURM_NTASKS=2 SLURM_PROCID=$number SLURM_LOCALID=$number SLURM_STEP_NODELIST=localhost "$@" 2>"$LOGS/err$number" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""


def finish(*processes: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """(status, output, errors) of each process."""
    ended = []
    for process in processes:
        said, errors = process.communicate(timeout=300)
        ended.append((process.returncode, said, errors))
    return ended


def job_number() -> int:
    """The number of a SLURM job whose port, as jax computes it, is free here."""
    for number in range(4096):
        with socket.socket() as listener:
            try:
                listener.bind(("", 61440 + number))
            except OSError:
                continue
            return number
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def alone(micro_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of one process that answered."""
    folder = tmp_path_factory.mktemp("alone")
    ((status, _, errors),) = finish(start_main(micro_file, folder, mode="predict", devices=1))
    assert status == 0, errors
    return folder


@pytest.mark.slow
def test_the_script_for_slurm_answers_as_one_process_does(
    micro_file: Path, alone: Path, tmp_path: Path, repo: Path
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text(SRUN)
    (commands / "radvqa").write_text(f'#!/bin/sh\nexec {sys.executable} -m radvqa_jax.main "$@"\n')
    for path in commands.iterdir():
        path.chmod(0o755)
    own = {"PATH": f"{commands}:{os.environ['PATH']}", "LOGS": str(tmp_path), "SLURM_JOB_ID": str(job_number())}
    own |= {"SLURM_SUBMIT_DIR": str(repo), "RADVQA_VENV": str(tmp_path)}  # radvqa is the one above
    script = [*("bash", str(repo / "scripts" / "slurm" / "predict.sbatch"), "--config", str(micro_file))]
    script += ["--workdir", str(tmp_path / "two"), "--config.compilation_cache="]
    done = subprocess.run(script, env=environment(1) | own, capture_output=True, text=True, timeout=300)
    errors = [(tmp_path / f"err{number}").read_text() for number in (0, 1)]
    assert done.returncode == 0, errors
    assert done.stdout.count("10 answers are in") == 1  # one of them prints
    assert "answers of" in errors[0] and "answers of" not in errors[1]  # and shows the progress bar
    for name in ("predictions.jsonl", "predictions.json"):
        path = tmp_path / "two" / "predictions" / name
        assert path.read_bytes() == (alone / "predictions" / name).read_bytes()
    assert parts_of(path) == [] and not (tmp_path / "two" / ".lock.json").exists()


def together(micro_file: Path, folder: Path, *fields: str, mode: str, **own: Any) -> list[subprocess.Popen[str]]:
    """Starts two processes with one device each; `own` are further fields of the second one."""
    where = f"--config.process.coordinator=127.0.0.1:{free_port()}"
    shared = (*fields, where, "--config.process.count=2", "--config.mesh.data=0")
    others = [f"--config.{name.replace('__', '.')}={value}" for name, value in own.items()]
    return [
        start_main(
            micro_file, folder, *shared, *(others if i else ()), f"--config.process.index={i}", mode=mode, devices=1
        )
        for i in (0, 1)
    ]


@pytest.mark.slow
def test_a_job_in_two_processes_is_trained_answered_mapped_and_scored(
    micro_file: Path, alone: Path, tmp_path: Path
) -> None:
    fields = ("run_stages=('stage2',)", "saliency.cases=3", "saliency.methods=('raw',)", "eval.swapped=False")
    running = together(micro_file, tmp_path, *(f"--config.{field}" for field in fields), mode="job")
    (status, said, errors), (other, _, others) = finish(*running)
    assert status == other == 0, errors + others
    assert "step 7 of 7" in said and "after stage 2" in said
    # The base's answers are those of one process, to the byte; blank images are asked once per prompt.
    predictions = tmp_path / "predictions"
    assert (predictions / "base.jsonl").read_bytes() == (alone / "predictions" / "predictions.jsonl").read_bytes()
    asked = [record.question_id for record in read_records(predictions / "base.jsonl")]
    for name in ("stage2", "stage2_blank"):
        assert [record.question_id for record in read_records(predictions / f"{name}.jsonl")] == asked
    assert not list(predictions.glob("*.process*"))
    trained = load_adapter(tmp_path / "stage2")[0]
    assert any(np.any(np.asarray(leaf)) for name, leaf in trained.items() if name.endswith("lora_b"))
    # Two cases are from one process and one from the other; the page and the report show all of them.
    assert len(contents(tmp_path, "saliency/*.npz")) == 3
    page = (tmp_path / "saliency" / "viewer.html").read_text()
    assert all(f">{number}. " in page for number in (1, 2, 3)) and ">4. " not in page
    assert (tmp_path / "report.html").is_file() and len(read_json(tmp_path / "scores.json")["runs"]) == 2


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_other_with_one_message(micro_file: Path, tmp_path: Path) -> None:
    first, second = finish(*together(micro_file, tmp_path, mode="predict", decode__batch_size=8))
    assert first[0] == second[0] == 1
    said = [line for _, _, errors in (first, second) for line in errors.splitlines() if "error:" in line]
    assert len(said) == 1 and "these differ: decode/batch_size" in said[0], said
    assert not (tmp_path / "predictions").exists()
