"""Fixtures of the tests of checkpoints."""

import pytest

from radvqa_jax.trees import Flat
from tests.checkpoints.hf_case import DUMMY, draw


@pytest.fixture(scope="module")
def flat() -> Flat:
    return draw(DUMMY)
