"""The values that an .npz file of a case may hold: those that `to_arrays` writes, and no others."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.saliency.bundle_file import FORMAT, RULES, SHAPES, from_arrays, load_bundle, to_arrays
from radvqa_jax.saliency.passes import PassOptions

SIZES = {"A": 3, "U": 4, "S": 7, "P": 16, "L": 2, "N": 3, "R": 2, "W": 3, "V": 4}
SCALARS = {
    "format": np.array(FORMAT),
    "answer": np.array("left lung"),
    "other": np.array("no"),
    "ended": np.array(True),
    "grid": np.array(4),
    "log_ratio": np.array(0.5, np.float32),
    "options": np.array(json.dumps(asdict(PassOptions((0.5, 0.4))))),
}


@pytest.fixture
def written() -> dict[str, np.ndarray]:
    """The arrays of a case with every method; signed ones are below zero."""
    arrays = dict(SCALARS)
    for name, axes in SHAPES.items():
        shape = tuple(SIZES[axis] for axis in axes)
        if RULES[name].kinds == "U":
            arrays[name] = np.array(["left", "lung", "</s>", "?"])[: shape[0]]
        elif "i" in RULES[name].kinds:
            arrays[name] = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        else:
            below = name == "logprobs" or RULES[name].least < 0
            arrays[name] = np.full(shape, -0.25 if below else 0.25, np.float16)
    return arrays


def test_every_array_of_a_bundle_keeps_its_rule(written: dict[str, np.ndarray]) -> None:
    assert set(written) - set(RULES) == {"format", "options"}
    assert set(to_arrays(from_arrays(written))) <= set(written)
    past = {name: np.full_like(written[name], np.inf) for name in ("relevancy", "value_norm", "contrast")}
    assert from_arrays(written | past).methods  # float16 holds a value past its range so


FLOATS = [name for name, rule in RULES.items() if rule.kinds == "f" and name != "log_ratio"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *((name, np.nan, f"{name} holds nan and must hold ") for name in FLOATS),
        ("log_ratio", np.nan, "log_ratio is nan and must be a number"),
        ("raw", -5, r"raw holds -5\.0 and must hold shares from 0 to 1"),
        ("rollout_text", 5, r"rollout_text holds 5\.0 and must hold shares from 0 to 1"),
        ("lens", -0.5, r"lens holds -0\.5 and must hold numbers from 0 on"),
        ("relevancy", -0.5, r"relevancy holds -0\.5 and must hold numbers from 0 on"),
        ("vision_rollout", -0.5, r"vision_rollout holds -0\.5 and must hold shares from 0 to 1"),
        ("logprobs", -np.inf, "logprobs holds -inf and must hold finite numbers of at most 0"),
        ("logprobs", 0.5, r"logprobs holds 0\.5 and must hold finite numbers of at most 0"),
        ("token_ids", -1, "token_ids holds -1 and must hold whole numbers from 0 on"),
        ("lens_ids", -1, "lens_ids holds -1 and must hold whole numbers from 0 on"),
        ("grid", 0, "grid is 0 and must be a whole number from 1 on"),
    ],
)
def test_one_damaged_value_is_no_bundle(
    written: dict[str, np.ndarray], tmp_path: Path, name: str, value: float, problem: str
) -> None:
    changed = written[name].copy()
    changed.reshape(-1)[-1] = value
    _refuses(tmp_path / "case.npz", written | {name: changed}, problem)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (
            "token_ids",
            lambda ids: ids + 0.5,
            r"token_ids holds \d+\.5, of the type float64, and must hold whole numbers",
        ),
        ("raw", lambda maps: maps.astype("U8"), r"raw holds '0\.\d+', of the type <U8, and must hold shares"),
        ("grid", lambda grid: grid + 0.9, r"grid is 4\.9, of the type float64, and must be a whole number"),
        ("ended", lambda _: np.array("False"), "ended is 'False', of the type <U5, and must be True or False"),
        ("ended", lambda _: np.array([True]), r"ended has the shape \(1,\) and must be True or False"),
        ("answer", lambda _: np.array(3), "answer is 3, of the type int64, and must be a text"),
        (
            "options",
            lambda _: np.array('{"residuals": [0.5, NaN]}'),
            r"options has residuals=\(0\.5, nan\), which must",
        ),
        ("options", lambda _: np.array('{"residuals": 0.5}'), r"options has residuals=0\.5, which must be numbers"),
        ("options", lambda _: np.array('{"residuals": []}'), r"options has residuals=\(\), which must be numbers"),
    ],
)
def test_values_of_another_type_are_no_bundle(
    written: dict[str, np.ndarray], tmp_path: Path, name: str, change: Any, problem: str
) -> None:
    _refuses(tmp_path / "case.npz", written | {name: change(written[name])}, problem)


def _refuses(path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(ValueError, match=rf"case\.npz is not the \.npz of a saliency case: ValueError: {problem}"):
        load_bundle(path)
