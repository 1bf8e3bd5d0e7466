"""Bars without a terminal are lines with the time left; steps come in order; training is never silent for long."""

import pytest

from radvqa_jax import progress
from radvqa_jax.training import hooks


def test_without_a_terminal_a_bar_is_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    for _ in progress.bar(range(3), name="answers of base", unit="question"):
        pass
    err = capsys.readouterr().err
    lines = err.splitlines()
    assert "\r" not in err and len(lines) >= 3
    assert all(line.startswith("answers of base:") for line in lines) and "3/3" in lines[-1]
    assert any("<00:00" in line for line in lines)  # the time left


def test_the_time_left_follows_from_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    eta = progress.Eta(5, 30)
    assert eta.left(5) == ""
    assert eta.left(10) == "00:40 left"  # 2 s a step


def test_steps_are_announced_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    steps = progress.Steps(["data", "train stage1"])
    steps.next("data")
    steps.next("train stage1")
    assert capsys.readouterr().out == "\nstep 1 of 2: data\n\nstep 2 of 2: train stage1\n"
    with pytest.raises(ValueError, match=r"step 1 of 1 is 'data'; got 'maps'"):
        progress.Steps(["data"]).next("maps")


def test_training_without_a_terminal_speaks_between_logged_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hooks.Progress("stage1", start_step=0, total_steps=10)
    shown.step()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(hooks, "EVERY", 0.0)
    shown.step()
    assert capsys.readouterr().out.startswith("stage1 step 2/10, 00:0")
    shown.close()
