"""Values of wrong types at the door of the public surface, as a notebook gives them: a message by argument."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from radvqa_jax import api_checks, load, mask_of
from radvqa_jax.data.opened import check_kind

GOOD: dict[str, Any] = {"samples": 2, "temperature": 1.0, "max_new_tokens": 0, "seed": 0}


@pytest.mark.parametrize("value", [5, None, b"x", ["a"], "", " ", "\u200b", "?", "a\ud800"])
def test_a_text_is_text_with_words(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^question "):
        api_checks.check_text(value, "question")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 1.5),
        ("samples", True),
        ("samples", "2"),
        ("seed", 1.5),
        ("seed", None),
        ("seed", -1),
        ("max_new_tokens", 8193),
        ("temperature", 0),
        ("temperature", math.inf),
        ("temperature", "1"),
        ("temperature", True),
    ],
)
def test_draws_have_types_and_ranges(name: str, value: Any) -> None:
    api_checks.check_draws(**GOOD)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        api_checks.check_draws(**GOOD | {name: value})


@pytest.mark.parametrize("answers", ["yes", b"yes", 5, None, [], ["yes", "yes"], ["yes", 5], ["yes", ""], [1, "1"]])
def test_answers_to_choose_from(answers: Any) -> None:
    api_checks.check_answers(["yes", "no"])
    with pytest.raises(ValueError, match=r"^answers"):
        api_checks.check_answers(answers)


def test_an_option_is_one_of_its_kind() -> None:
    with pytest.raises(ValueError, match=r"scale must be one of 'absolute', 'relative'; got 'absolut'. Did you mean"):
        api_checks.check_option("absolut", Literal["absolute", "relative"], "scale")


@pytest.mark.parametrize("mask", [None, 5, np.zeros((3, 3), bool), np.full((4, 5), np.nan), np.ones((4, 5), np.uint8)])
def test_a_mask_is_boolean_and_of_the_images_size(mask: Any) -> None:
    api_checks.check_mask(np.zeros((4, 5), bool), 4, 5)
    with pytest.raises(ValueError, match=r"mask must be a boolean array \[4 5\]"):
        api_checks.check_mask(mask, 4, 5)


@pytest.mark.parametrize("image", [None, 5, [1, 2], {"a": 1}, np.float32(3)])
def test_what_is_no_image_is_said(image: Any) -> None:
    with pytest.raises(ValueError, match="An image is a path, the bytes of a file, a PIL image or a uint8 array; got"):
        check_kind(image)


@pytest.mark.parametrize(
    ("value", "message"),
    [({5: 1}, "settings must have texts as keys; got 5"), ([1], "settings must be a dict"), ("a", "must be a dict")],
)
def test_a_mapping_has_texts_as_keys(value: Any, message: str) -> None:
    assert api_checks.check_mapping({"a": 1}, "settings") == {"a": 1}
    with pytest.raises(ValueError, match=message):
        api_checks.check_mapping(value, "settings")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load(settings={"data": 5}), "data"),
        (lambda: load(settings={"data.prompt.x": 5}), r"data\.prompt"),
        (lambda: load(settings={"stage1": {"a": 1}}), "stage1"),
        (lambda: load(settings={"stage1": {}}), "stage1"),
        (lambda: mask_of({}), "row has no image; it has nothing"),
    ],
)
def test_what_is_given_is_named_when_it_is_wrong(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
