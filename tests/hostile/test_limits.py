"""The limits of the fuzz tests fail a reader that breaks them."""

import time

import numpy as np
import pytest

from . import limits


def raises(error: Exception) -> None:
    raise error


def test_a_good_reader_and_its_errors_pass() -> None:
    limits.survives(lambda: 3)
    limits.survives(lambda: raises(ValueError("a.csv is no table")))
    limits.survives(lambda: raises(OSError("no such file")), errors=(ValueError, OSError))


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), OSError("c"), MemoryError("d"), RecursionError("e")])
def test_an_error_that_is_not_ours_fails(error: Exception) -> None:
    with pytest.raises(type(error)):
        limits.survives(lambda: raises(error))


def test_an_error_without_a_message_fails() -> None:
    with pytest.raises(AssertionError, match="without a word"):
        limits.survives(lambda: raises(ValueError(" ")))


def test_a_slow_reader_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.05)

    def slow() -> None:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass

    with pytest.raises(AssertionError, match="s of processor time"):
        limits.survives(slow)


@pytest.mark.parametrize("make", [bytearray, lambda size: np.zeros(size, np.uint8)])
def test_a_greedy_reader_fails(monkeypatch: pytest.MonkeyPatch, make: type[bytearray]) -> None:
    monkeypatch.setattr(limits, "BYTES", 1 << 20)
    with pytest.raises(AssertionError, match="GB"):
        limits.survives(lambda: make(2 << 20))
