"""Checks the arguments of the public API: an error names the argument, its rule and its value."""

import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from radvqa_jax.config.bounds import MOST_TEXT
from radvqa_jax.data.opened import open_any
from radvqa_jax.data.rows import RowSource
from radvqa_jax.prompts import has_words, one_line
from radvqa_jax.trees import nearest

MOST_SAMPLES = 1000


def check_text(value: Any, name: str) -> None:
    """Raises ValueError unless a value is Unicode text with a letter or a digit in it."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {value!r:.100} ({type(value).__name__}).")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} contains a lone surrogate, which is not Unicode text. Write it again.")
    if not has_words(value):
        raise ValueError(f"{name} is empty: it has no letter and no digit.")


def check_path(value: Any, name: str) -> None:
    """Raises ValueError unless a value is the name of a file or folder: text or a path."""
    if not isinstance(value, str | Path):
        raise ValueError(f"{name} must be text or a Path; got {value!r:.100} ({type(value).__name__}).")
    if "\0" in str(value):
        raise ValueError(f"{name} is {str(value)!r:.100}. A path cannot contain the character 0.")


def home_path(value: Any, name: str) -> Path:
    """The path of a file or folder, with a `~` at its start expanded; raises ValueError as `check_path`, and for an
    unknown user."""
    check_path(value, name)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name} is {str(value)!r:.100}, and no such user has a home here.") from error


def check_rows(value: Any, name: str) -> None:
    """Raises ValueError unless a value comes from `read_rows`."""
    if not isinstance(value, RowSource):
        raise ValueError(f"{name} must come from radvqa_jax.read_rows; got {value!r:.100} ({type(value).__name__}).")


def check_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A mapping with texts as keys; raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict; got {value!r:.100} ({type(value).__name__}).")
    if wrong := [key for key in value if not isinstance(key, str)]:
        raise ValueError(f"{name} must have texts as keys; got {wrong[0]!r:.100} ({type(wrong[0]).__name__}).")
    return value


# Fields that the arguments of calls replace, or that no call has: for maps of many questions, and of many adapters.
_NOT_SETTINGS = ("mode", "ask", "saliency.cases", "saliency.patches", "saliency.beside")


def check_settings(given: Collection[str]) -> None:
    """Raises ValueError if the settings of `load` name a field that looks as if a call used it, and none does."""
    for name in given:
        if name in _NOT_SETTINGS or name.split(".")[0] in _NOT_SETTINGS:
            instead = "methods" if name == "mode" else "calls with arguments"
            raise ValueError(f"settings cannot set `{name}`: a loaded model has {instead} instead. Leave it out.")


def check_integer(value: Any, name: str, *, low: int, high: int) -> None:
    """Raises ValueError unless a value is an integer from `low` to `high`."""
    if not is_integer(value) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}; got {value!r}.")


def check_flag(value: Any, name: str) -> None:
    """Raises ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r:.100} ({type(value).__name__}).")


def texts_of(value: Any, name: str) -> list[str]:
    """One or several texts, as a list; raises ValueError for an empty list and for anything but text."""
    found = [value] if isinstance(value, str) else _items(value)
    if not found or not all(isinstance(item, str) for item in found):
        raise ValueError(f"{name} must be a text or a list of texts, at least one; got {value!r:.100}.")
    return found


def numbers_of(value: Any, name: str) -> list[float]:
    """One or several numbers, as a list; raises ValueError for an empty list and for anything but finite numbers."""
    found = [value] if isinstance(value, numbers.Real) else _items(value)
    if not found or not all(map(_is_finite, found)):
        raise ValueError(f"{name} must be a finite number or a list of them, at least one; got {value!r:.100}.")
    return [float(item) for item in found]


def weights_of(value: Any, name: str) -> tuple[float, ...]:
    """Any number of weights in [0, 1], as a tuple; raises ValueError for anything else."""
    if isinstance(value, list | tuple) and not value:
        return ()
    found = numbers_of(value, name)
    if wrong := [item for item in found if not 0 <= item <= 1]:
        raise ValueError(f"{name} must be in [0, 1]; got {wrong[0]:g}.")
    return tuple(found)


def integers_of(value: Any, name: str) -> list[int]:
    """Any number of integers, as a list; raises ValueError for anything else."""
    found = _items(value)
    if found is None or not all(map(is_integer, found)):
        raise ValueError(f"{name} must be a list of integers, such as [0, 1]; got {value!r:.100}.")
    return [int(item) for item in found]


def _is_finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _items(value: Any) -> list[Any] | None:
    """The items of a list, tuple, range or array; None for anything else."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        return None
    return list(value)


def check_draws(*, samples: Any, temperature: Any, max_new_tokens: Any, seed: Any) -> None:
    """Raises ValueError, naming the argument of `Model.answer`, if one is out of its range."""
    check_integer(samples, "samples", low=0, high=MOST_SAMPLES)
    check_integer(max_new_tokens, "max_new_tokens", low=0, high=MOST_TEXT)
    check_integer(seed, "seed", low=0, high=2**32 - 1)
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not (is_number and math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature must be a finite number above 0; got {temperature!r}. It is for the samples: at 0, each of "
            "them would repeat the answer."
        )


def check_answers(answers: Any) -> None:
    """Raises ValueError unless these are different texts, at least one; white space makes no difference."""
    if isinstance(answers, str | bytes) or not isinstance(answers, Sequence):
        raise ValueError(f"answers must be a list of texts, such as ['yes', 'no']; got {answers!r:.100}.")
    if not answers or len({one_line(str(answer)) for answer in answers}) != len(answers):
        raise ValueError(f"answers must be different texts, at least one; got {list(answers)}.")
    for number, answer in enumerate(answers, 1):
        check_text(answer, f"answers: text {number}")


def check_option(value: Any, kind: Any, name: str) -> None:
    """Raises ValueError unless a value is one of a Literal type's options."""
    if value not in get_args(kind):
        near = nearest(value, get_args(kind)) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(kind)))}; got {value!r}.{near}")


def pixels_of(image: Any, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an array of grey levels or RGB; raises ValueError for anything else."""
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"{name} must be a uint8 array [height width 3]; got {image!r:.80} ({type(image).__name__}). Give the "
            "`image` of an answer."
        )
    try:
        return open_any(image).image
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_mask(mask: Any, height: int, width: int) -> None:
    """Raises ValueError unless a mask is boolean and has the size of the original image."""
    found = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (height, width):
        raise ValueError(f"mask must be a boolean array [{height} {width}], like the original image; got {found}.")
