"""Scalars in files, lines on the terminal, and signals that act at the end of a step."""

import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from tensorboardX.proto.event_pb2 import Event

from radvqa_jax.training.hooks import LOSSES, Progress, Scalars, StopSignal, read_losses


def write(folder: Path, steps: list[int], *, start_step: int = 0, loss: float = 1.0) -> None:
    scalars = Scalars(folder, start_step=start_step)
    for step in steps:
        scalars(step, {"loss": loss, "grad_norm": 0.5})
    scalars.close()


def read_events(folder: Path) -> list[Event]:
    """Every event of the folder's TensorBoard files: records of length, checksum, event, checksum."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_scalars_are_in_both_files(tmp_path: Path) -> None:
    write(tmp_path, [1, 10])
    assert read_losses(tmp_path) == [
        {"step": 1, "loss": 1.0, "grad_norm": 0.5},
        {"step": 10, "loss": 1.0, "grad_norm": 0.5},
    ]
    found = {(e.step, v.tag, v.simple_value) for e in read_events(tmp_path) for v in e.summary.value}
    assert found == {
        (step, name, value) for step in (1, 10) for name, value in (("train/loss", 1.0), ("train/grad_norm", 0.5))
    }


def test_events_are_on_the_disk_before_a_kill(tmp_path: Path) -> None:
    scalars = Scalars(tmp_path, start_step=0)
    scalars(1, {"loss": 1.0})
    deadline = time.monotonic() + 10
    while not (found := [e.step for e in read_events(tmp_path) for v in e.summary.value]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == [1]  # before it is closed
    scalars.close()


def full_disk(path: str) -> IO[bytes]:
    return Path("/dev/full").open("wb")


@pytest.mark.parametrize("rows", [0, 30])
def test_a_full_disk_ends_training_and_names_the_file(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tensorboardX's own writer would die in its thread, and the run would wait for it for ever."""
    monkeypatch.setattr("tensorboardX.record_writer.open_file", full_disk)
    with pytest.raises(OSError, match="No space left on device") as error, Scalars(tmp_path, start_step=0) as scalars:
        for step in range(1, rows + 1):
            scalars(step, {"loss": 1.0, "grad_norm": 0.5})
    assert str(error.value.filename).startswith(str(tmp_path / "tensorboard" / "events"))
    assert len(read_losses(tmp_path)) == min(rows, 1)


def test_an_error_of_training_is_not_hidden_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboardX.record_writer.open_file", full_disk)
    with pytest.raises(FloatingPointError, match="the loss"), Scalars(tmp_path, start_step=0):
        raise FloatingPointError("the loss is nan")


def test_a_restart_drops_the_rows_that_it_computes_again(tmp_path: Path) -> None:
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], start_step=2, loss=2.0)
    assert [(row["step"], row["loss"]) for row in read_losses(tmp_path)] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    # TensorBoard hides older events from this step on.
    starts = [e.step for e in read_events(tmp_path) if e.session_log.status == e.session_log.START]
    assert starts[-1] == 3


def test_a_restart_survives_a_row_that_was_cut(tmp_path: Path) -> None:
    write(tmp_path, [1, 2])
    with (tmp_path / LOSSES).open("a") as file:
        file.write('{"step": 3, "lo')
    write(tmp_path, [3], start_step=2)
    assert [row["step"] for row in read_losses(tmp_path)] == [1, 2, 3]


def test_a_stage_that_was_not_trained_has_no_losses(tmp_path: Path) -> None:
    assert read_losses(tmp_path / "stage1") == []


def test_without_a_terminal_a_logged_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("stage1", start_step=2, total_steps=10)
    progress.step()
    progress(3, {"loss": 1.23456, "learning_rate": 1e-5})
    progress.close()
    assert capsys.readouterr().out == "stage1 step 3/10 loss 1.235 learning_rate 1e-05\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_only_noted(signum: int) -> None:
    previous = signal.getsignal(signum)
    with StopSignal() as stop:
        assert stop.signum == 0
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
        assert signal.getsignal(signum) is previous  # a second signal acts as usual
    assert signal.getsignal(signum) is previous


@pytest.fixture
def usual_interrupt() -> Iterator[None]:
    """Python's own handler: a shell that starts pytest in the background has it ignore SIGINT."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("usual_interrupt")
def test_a_second_interrupt_acts_as_usual() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signum == signal.SIGINT


def test_handlers_come_back_without_a_signal_and_after_an_error() -> None:
    previous = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError), StopSignal():
        raise ZeroDivisionError
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == previous


def test_in_another_thread_it_does_nothing() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with StopSignal() as stop:
            seen.append((stop.signum, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, previous)]
