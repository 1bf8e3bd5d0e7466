"""Every number of the configuration has bounds."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from radvqa_jax.config import Config, StageConfig
from radvqa_jax.config.check import from_config_dict
from tests.config_case import put, valid


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (name, default) of every field of a configuration that is a number."""
    for field in dataclasses.fields(value):
        name, item = f"{path}{field.name}", getattr(value, field.name)
        if dataclasses.is_dataclass(item):
            yield from _numbers(item, f"{name}.")
        elif isinstance(item, dict):
            for key, inner in item.items():
                yield from _numbers(inner, f"{name}.{key}.")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield name, item


NUMBERS = dict(_numbers(Config(stages={"stage2": StageConfig()})))


def test_there_are_many_numbers() -> None:
    assert len(NUMBERS) > 100 and {"stages.stage2.optim.b2", "judge.timeout", "mesh.data"} <= set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_bound_and_is_finite(name: str) -> None:
    """A field that is added without one fails here; none has a use for a negative number, or one that no device has."""
    config = valid()
    for value in (-1, 2**40) if isinstance(NUMBERS[name], int) else (-1.0, 1e300, math.nan, math.inf):
        put(config, name, value)
        with pytest.raises(ValueError, match=rf"^{re.escape(name)}={re.escape(str(value))} must be "):
            from_config_dict(config)
