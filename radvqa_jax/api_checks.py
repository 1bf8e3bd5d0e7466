"""Checks the arguments of the public surface: an error names the argument, its rule and its value."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from radvqa_jax.config.bounds import MOST_TEXT
from radvqa_jax.data.rows import RowSource
from radvqa_jax.prompts import has_words
from radvqa_jax.trees import nearest

MOST_SAMPLES = 1000


def check_text(value: Any, name: str) -> None:
    """Raises ValueError unless a value is Unicode text with a letter or a digit in it."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {value!r:.100} ({type(value).__name__}).")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} holds a lone surrogate, which is no Unicode text. Write it again.")
    if not has_words(value):
        raise ValueError(f"{name} is empty: it has no letter and no digit.")


def check_path(value: Any, name: str) -> None:
    """Raises ValueError unless a value is the name of a file or folder: text or a path."""
    if not isinstance(value, str | Path):
        raise ValueError(f"{name} must be text or a Path; got {value!r:.100} ({type(value).__name__}).")


def check_rows(value: Any, name: str) -> None:
    """Raises ValueError unless a value is what `read_rows` gives."""
    if not isinstance(value, RowSource):
        raise ValueError(f"{name} must come from radvqa_jax.read_rows; got {value!r:.100} ({type(value).__name__}).")


def check_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A mapping with texts as keys; raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict; got {value!r:.100} ({type(value).__name__}).")
    if wrong := [key for key in value if not isinstance(key, str)]:
        raise ValueError(f"{name} must have texts as keys; got {wrong[0]!r:.100} ({type(wrong[0]).__name__}).")
    return value


def check_integer(value: Any, name: str, *, low: int, high: int) -> None:
    """Raises ValueError unless a value is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}; got {value!r}.")


def check_draws(*, samples: Any, temperature: Any, max_new_tokens: Any, seed: Any) -> None:
    """Raises ValueError, naming the argument of `Model.answer`, if one is out of its range."""
    check_integer(samples, "samples", low=0, high=MOST_SAMPLES)
    check_integer(max_new_tokens, "max_new_tokens", low=0, high=MOST_TEXT)
    check_integer(seed, "seed", low=0, high=2**32 - 1)
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not (is_number and math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature must be a finite number above 0; got {temperature!r}. It is that of the samples: at 0 all of "
            "them would say what the answer says."
        )


def check_answers(answers: Any) -> None:
    """Raises ValueError unless these are different texts, at least one."""
    if isinstance(answers, str | bytes) or not isinstance(answers, Sequence):
        raise ValueError(f"answers must be a list of texts, such as ['yes', 'no']; got {answers!r:.100}.")
    if not answers or len(set(map(str, answers))) != len(answers):
        raise ValueError(f"answers must be different texts, at least one; got {list(answers)}.")
    for number, answer in enumerate(answers, 1):
        check_text(answer, f"answers: text {number}")


def check_option(value: Any, kind: Any, name: str) -> None:
    """Raises ValueError unless a value is one of those of a Literal type."""
    if value not in get_args(kind):
        near = nearest(value, get_args(kind)) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(kind)))}; got {value!r}.{near}")


def check_mask(mask: Any, height: int, width: int) -> None:
    """Raises ValueError unless a mask is boolean and has the size of the original image."""
    found = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (height, width):
        raise ValueError(f"mask must be a boolean array [{height} {width}], as the original image; got {found}.")
