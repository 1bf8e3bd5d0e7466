"""Batches without data, and the comparison of two trees bit for bit."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from radvqa_jax.schema import Batch
from radvqa_jax.training import stage
from radvqa_jax.training.loop import Plan
from radvqa_jax.trees import Flat


class Batches:
    """Batches that depend on their number alone; `before` is called with the number of each before it is drawn."""

    def __init__(self, before: Callable[[int], None] = lambda number: None, *, nan_at: int = 0) -> None:
        self.drawn, self.before, self.nan_at = 0, before, nan_at

    def __next__(self) -> Batch:
        self.before(self.drawn + 1)
        self.drawn += 1
        batch = Batch.fake(4, 8, 8, seed=self.drawn)
        return batch._replace(image=batch.image * np.float32(np.nan)) if self.drawn == self.nan_at else batch

    def get_state(self) -> dict[str, Any]:
        return {"batches_drawn": self.drawn}

    def set_state(self, state: dict[str, Any]) -> None:
        self.drawn = state["batches_drawn"]


class Crash(Exception):
    """Stands for a crash of the machine."""


def crash_at(number: int) -> Callable[[int], None]:
    def before(drawn: int) -> None:
        if drawn == number:
            raise Crash

    return before


def assert_same(have: Any, want: Any) -> None:
    """Raises if two trees differ in one bit."""
    assert jax.tree.structure(have) == jax.tree.structure(want)
    for path, leaf in jax.tree.leaves_with_path(want):
        other = dict(jax.tree.leaves_with_path(have))[path]
        np.testing.assert_array_equal(np.asarray(other), np.asarray(leaf), err_msg=jax.tree_util.keystr(path))


@pytest.fixture
def at_step_0(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The last arguments of the loop, which returns the leaves unchanged."""
    given: dict[str, Any] = {}

    def train(plan: Plan, trainable: Flat, frozen: Flat, batches: Batches, **others: Any) -> Flat:
        given.update(plan=plan, trainable=trainable, frozen=frozen, **others)
        return trainable

    monkeypatch.setattr(stage, "train", train)
    return given
