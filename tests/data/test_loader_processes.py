"""Batches that processes share, and worker processes that make them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.data.loader import LoaderError
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

from .conftest import fake_rows
from .loader_case import DATA, assert_equal, loader, which


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batches_of_one(tokenizer: Tokenizer, processes: int) -> None:
    sources = [fake_rows(7, weight=2.0), fake_rows(5, first=100)]
    whole = loader(sources, tokenizer)
    parts = [loader(sources, tokenizer, process=(index, processes)) for index in range(processes)]
    for _ in range(4):
        batches = [next(part) for part in parts]
        together = Batch(*(np.concatenate(leaves) for leaves in zip(*batches, strict=True)))
        assert_equal(together, next(whole))
    assert {json.dumps(part.get_state()) for part in parts} == {json.dumps(whole.get_state())}
    # A state of one number of processes continues under another.
    again = loader(sources, tokenizer)
    again.set_state(parts[0].get_state())
    assert_equal(next(again), next(whole))


def test_every_process_knows_the_longest_row_of_every_part(tokenizer: Tokenizer) -> None:
    answers = [" ".join(["no"] * (1 + 7 * i % 5)) for i in range(11)]
    sources = [fake_rows(11, answer=answers, weight=2.0), fake_rows(5, first=100)]
    whole = loader(sources, tokenizer, total=6, batch_size=8)
    batches = [np.asarray(batch.mask_input).sum(axis=1) for batch in whole]
    for parts in (1, 4):
        want = [int(lengths[part::parts].max()) for lengths in batches for part in range(parts)]
        for index in range(2):
            one = loader(sources, tokenizer, total=6, batch_size=8, process=(index, 2))
            one.set_state({"batches_drawn": 3})  # a restart has the same
            assert one.longest_rows(parts) == want
            assert one.longest_row == max(max(lengths) for lengths in batches)
            some = one.longest_rows(parts, batches=3)
            assert some == [n for b in (0, 2, 5) for n in want[b * parts : (b + 1) * parts]]
    assert len(set(want)) > 1


def test_processes_that_cannot_share_a_batch_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"batch_size=4 cannot be shared by process_count=3"):
        loader([fake_rows(3)], tokenizer, process=(0, 3))
    with pytest.raises(ValueError, match=r"process_index=2 must be at least 0 and below process_count=2"):
        loader([fake_rows(3)], tokenizer, process=(2, 2))


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(tokenizer: Tokenizer, dummy_dir: Path) -> None:
    source = SourceConfig(dataset="vqa_rad", builder_config="official")
    data = DataConfig(data_dir=str(dummy_dir), seq_len=64)
    rows = load_rows(source, data)
    here = loader([rows], tokenizer, data=data)
    there = loader([rows], tokenizer, data=dataclasses.replace(data, workers=2))
    batches = [next(here) for _ in range(5)]
    for want in batches[:3]:
        assert_equal(next(there), want)
    there.set_state({"batches_drawn": 3})
    assert_equal(next(there), batches[3])
    there.close()
    with pytest.raises(ValueError, match="loader is closed"):
        next(there)


KILLED = """
import os, pathlib, signal, sys
from radvqa_jax.config import EMBEDDED, DataConfig, SourceConfig
from radvqa_jax.data.loader import make_train_loader
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer

if __name__ == "__main__":
    data = DataConfig(data_dir=sys.argv[1], workers=1)
    rows = load_rows(SourceConfig("vqa_rad"), data)
    given = {"data": data, "tokenizer": Tokenizer(EMBEDDED / "tokenizer.model"), "resolution": 8, "batch_size": 2}
    loader = make_train_loader([rows], seed=0, total_batches=lambda n: 50, **given)
    next(loader)
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        parent = int(stat.read_text().rpartition(")")[2].split()[1])
        if parent == os.getpid() and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
            print(stat.parent.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid: int) -> bool:
    """Whether a process runs: one that has ended may wait to be reaped."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads processes from /proc")
def test_workers_end_when_their_run_is_killed(dummy_dir: Path, tmp_path: Path) -> None:
    script, said = tmp_path / "killed.py", tmp_path / "said"
    script.write_text(KILLED)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    errors = tmp_path / "errors"
    with said.open("w") as out, errors.open("w") as err:  # no pipes: a worker that survives would keep them open
        done = subprocess.run([sys.executable, script, dummy_dir], env=env, stdout=out, stderr=err, check=False)
    assert done.returncode == -signal.SIGKILL, errors.read_text()
    workers = [int(pid) for pid in said.read_text().split()]
    assert workers
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.slow
def test_a_killed_worker_ends_as_one_message(tokenizer: Tokenizer) -> None:
    stream = loader([fake_rows(50)], tokenizer, data=dataclasses.replace(DATA, workers=1), batch_size=2, total=20000)
    next(stream)
    (worker,) = [child for child in psutil.Process().children() if "resource_tracker" not in " ".join(child.cmdline())]
    worker.kill()
    with pytest.raises(LoaderError, match=r"Training data end after batch \d+: .*--config\.data\.workers"):
        for _ in stream:
            pass


@pytest.mark.slow
def test_workers_leave_ctrl_c_to_the_run(tokenizer: Tokenizer) -> None:
    """A terminal sends it to every process; a worker that ended by it would cost the run its next batch."""
    alone = loader([fake_rows(50)], tokenizer, data=dataclasses.replace(DATA, workers=0), batch_size=2, total=200)
    stream = loader([fake_rows(50)], tokenizer, data=dataclasses.replace(DATA, workers=2), batch_size=2, total=200)
    first = [which(next(stream))]
    workers = [each for each in psutil.Process().children() if "resource_tracker" not in " ".join(each.cmdline())]
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    found = first + [which(batch) for batch in stream]
    assert found == [which(batch) for batch in alone]
    stream.close()
    assert not psutil.wait_procs(workers, timeout=10)[1]


@pytest.mark.parametrize("n", [1, 7, 8, 9])
def test_processes_share_evaluation(tokenizer: Tokenizer, n: int) -> None:
    rows = fake_rows(n)
    given = {"data": DATA, "tokenizer": tokenizer, "resolution": 4, "batch_size": 4}
    parts = [list(eval_batches(rows, **given, process_index=index, process_count=2)) for index in range(2)]
    assert len(parts[0]) == len(parts[1]) == -(-n // 4)  # collectives need the same number of steps everywhere
    asked = [row["question_id"] for pair in zip(*parts, strict=True) for _, part in pair for row in part]
    assert asked == [str(i) for i in range(n)]
    for batch, part in parts[0] + parts[1]:
        assert np.asarray(batch.mask_example).tolist() == [i < len(part) for i in range(2)]
