"""Bounds of numbers, written at their field: `timeout: Above0 = 120.0`. Every number must also be finite."""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Interval

# Limits that memory or devices set. An error names one only if the value is above it.
LARGEST, LARGEST_FLOAT = 2**31 - 1, 1e30  # the largest int32; float32 products with ordinary numbers stay finite
MOST_ROWS, MOST_RESAMPLES, MOST_EPOCHS = 2**16, 10**6, 1e6
MOST_PIXELS = 1260  # per side: 8,100 patches of 14 x 14 pixels
MOST_TEXT = 8192  # tokens: Gemma's context length
MOST_PATTERN, MOST_PATTERNS = 1000, 1000  # characters of a pattern in lora.targets, and patterns
CAPS = frozenset((LARGEST, LARGEST_FLOAT, MOST_ROWS, MOST_PIXELS, MOST_RESAMPLES, MOST_EPOCHS))
Count = Annotated[int, Interval(ge=0, le=LARGEST)]
Positive = Annotated[int, Interval(ge=1, le=LARGEST)]
NotNegative = Annotated[float, Interval(ge=0, le=LARGEST_FLOAT)]
Above0 = Annotated[float, Interval(gt=0, le=LARGEST_FLOAT)]
Rows = Annotated[int, Interval(ge=1, le=MOST_ROWS)]  # rows, answers or requests at a time
RowsOrAuto = Annotated[int, Interval(ge=0, le=MOST_ROWS)]
Epochs = Annotated[float, Interval(ge=0, le=MOST_EPOCHS)]
Pixels = Annotated[int, Interval(ge=0, le=MOST_PIXELS)]  # per side; 0 = the variant's
Resamples = Annotated[int, Interval(ge=1, le=MOST_RESAMPLES)]
Share = Annotated[float, Interval(ge=0, le=1)]
Below1 = Annotated[float, Interval(ge=0, lt=1)]
Probability = Annotated[float, Interval(gt=0, le=1)]
Weight = Annotated[float, Interval(gt=0, le=1e9)]  # a larger one leaves the other sources no rows
Factor = Annotated[float, Interval(ge=0, le=1e9)]
Rank = Annotated[int, Interval(ge=0, le=4096)]  # no weight of the largest model has more rows
Alpha = Annotated[float, Interval(gt=0, le=1e6)]
Angle = Annotated[float, Interval(ge=0, le=180)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """{field: annotation} of a dataclass, with bounds."""
    return typing.get_type_hints(kind, include_extras=True)


def check_bounds(value: Any, path: str = "") -> None:
    """Raises ValueError that names the field, if a number in a configuration is not finite or outside its bounds.

    Args:
        value: a dataclass of the configuration.
        path: its path in the whole configuration, such as `stages.stage1.optim`; empty for the whole.
    """
    for name, kind in hints(type(value)).items():
        _check(getattr(value, name), kind, f"{path}.{name}" if path else name)


def _check(value: Any, kind: Any, path: str) -> None:
    if dataclasses.is_dataclass(value):
        check_bounds(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check(item, get_args(kind)[1], f"{path}.{name}")
    elif isinstance(value, tuple):
        args = get_args(kind)
        kinds = [args[0]] * len(value) if args[1:] == (Ellipsis,) else args
        for index, (item, item_kind) in enumerate(zip(value, kinds, strict=True)):
            _check(item, item_kind, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{path}={value} must be a finite number.")
        for bound in _intervals(kind):
            if not _holds(value, bound):
                above = bound.le in CAPS and value > bound.le
                raise ValueError(f"{path}={value} {f'must be at most {bound.le}' if above else _text(bound)}.")


def _intervals(kind: Any) -> list[Any]:
    return [item for item in get_args(kind)[1:] if isinstance(item, Interval)] if get_origin(kind) is Annotated else []


def describe_bounds(kind: Any) -> str:
    """The bounds of a field and of its items in words, from its annotation; empty if it has none."""
    own = [_text(bound) for bound in _intervals(kind)]
    inner = [] if get_origin(kind) is Annotated else [describe_bounds(item) for item in get_args(kind)]
    return "; ".join([*own, *(f"an item {text.removeprefix('an item ')}" for text in inner if text)])


def _holds(value: Any, bound: Any) -> bool:
    # Written so that NaN, which compares as false with everything, is outside.
    return all(
        (
            bound.ge is None or value >= bound.ge,
            bound.gt is None or value > bound.gt,
            bound.le is None or value <= bound.le,
            bound.lt is None or value < bound.lt,
        )
    )


def _text(bound: Any) -> str:
    """The rule in words."""
    least = bound.ge if bound.ge is not None else bound.gt
    most = bound.le if bound.le is not None else bound.lt
    if most is None or most in CAPS:
        return f"must be {'at least' if bound.ge is not None else 'above'} {least}"
    if least is None:
        return f"must be {'at most' if bound.le is not None else 'below'} {most}"
    return f"must be in {'[' if bound.ge is not None else '('}{least}, {most}{']' if bound.le is not None else ')'}"
