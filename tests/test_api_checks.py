"""Values of wrong types as arguments of the public API, as from a notebook: the message names the argument."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
from PIL import Image

from radvqa_jax import api_checks, load, mask_of, read_rows
from radvqa_jax.api_maps import Maps
from radvqa_jax.config.check import flat_fields
from radvqa_jax.data.opened import check_choices, check_kind, encode_png, open_any
from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.passes import PassOptions

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


@pytest.mark.parametrize(
    "answers", ["yes", b"yes", 5, None, [], ["yes", "yes"], ["yes", 5], ["yes", ""], [1, "1"], ["yes", " yes\n"]]
)
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
def test_a_value_that_is_not_an_image_is_refused(image: Any) -> None:
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
        (lambda: load(settings={"mode": "job"}), "^settings cannot set `mode`"),
        (
            lambda: load(settings={"ask": {"samples": 3}}),
            r"^settings cannot set `ask\.samples`: .*calls with arguments",
        ),
        (lambda: load(settings={"saliency.beside": ("a",)}), r"^settings cannot set `saliency\.beside`"),
        (lambda: load(settings={"data.prompt.x": 5}), r"data\.prompt"),
        (lambda: load(settings={"model": {"quantise": "nf4"}}), r"`model\.quantise`\. Did you mean `quantize`\?"),
        (lambda: load(settings={"model": {"quantize": "nf5"}}), r"`model\.quantize` must .*Did you mean `nf4`\?"),
        (lambda: load(settings={"decode": {"samples": 0}}), r"^decode\.samples=0 must be"),
        (lambda: load(settings={"decode": 3}), r"`decode` must be a group of fields; got 3 \(int\)\. Give a dict"),
        (lambda: load(settings={"decode.samples": "3"}), r"`decode\.samples` must be int; got '3' \(str\)\.$"),
        (lambda: load(settings={"decode": {"samples": {"a": 1}}}), r"`decode\.samples` must be int; got \{'a': 1\}"),
        (lambda: load(settings={"decode": {1: 2}}), "Names of config fields in `decode` must be texts; got 1"),
        (lambda: load(settings={"decode": {"samples": 2}, "decode.samples": 3}), "`decode.samples` is given twice"),
        (lambda: load("a.npz", settings={"model.checkpoint": "b.npz"}), "`model.checkpoint` is given twice, as an arg"),
        (
            lambda: load(adapter="a", settings={"adapter": "b"}),
            "`adapter` is given twice, as an argument and in settings",
        ),
        (lambda: load(settings={"saliency.methods": "raw"}), r"`saliency\.methods` must be .*Write \('raw',\)\."),
        (lambda: load(settings={"stages": ("stage1",)}), "`stages` must hold one group of fields for each stage"),
        (lambda: load(settings={"stage1": {"a": 1}}), "stage1"),
        (lambda: load(settings={"stage1": {}}), "stage1"),
        (lambda: load(settings={"stages.stage1.total_steps": 3}), "^settings cannot be used: .*stages.stage1"),
        (lambda: load("~nobody_here/model"), "^model is '~nobody_here/model', and no such user has a home here"),
        (lambda: load(adapter="a\0b"), "^adapter is .*A path cannot contain the character 0"),
        (lambda: mask_of({}), "row has no image; it has nothing"),
        (lambda: read_rows("phantom_rad", builder_config="~nobody_here/a"), "`source.builder_config` is '~nobody_here"),
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


PIXELS = np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": "1"}, "^frame must be an integer, at least 0 .*; got '1'"),
        ({"frame": None}, "^frame must be an integer"),
        ({"frame": 1.5}, "^frame must be an integer"),
        ({"frame": True}, "^frame must be an integer"),
        ({"frame": -1}, "^frame must be an integer, at least 0 .*; got -1"),
        ({"window": 5}, "^window must be text, such as lung; got 5"),
        ({"bit_depth": -1}, "^bit_depth must be 0 .* or an integer from 8 to 16; got -1"),
        ({"bit_depth": 99}, "^bit_depth must be"),
        ({"bit_depth": 7}, "^bit_depth must be"),
        ({"bit_depth": "12"}, "^bit_depth must be"),
    ],
)
def test_options_of_opening_an_image_are_checked_by_name(options: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"frame": 0, "window": "", "bit_depth": 12}
    check_choices(**good)
    with pytest.raises(ValueError, match=message):
        check_choices(**good | options)


def test_every_form_of_image_is_opened_with_arguments_that_are_checked() -> None:
    for image in (PIXELS, Image.fromarray(PIXELS), encode_png(np.zeros((4, 5, 3), np.uint8))):
        assert open_any(image, bit_depth=12).image.shape == (4, 5, 3)
        wrongs: list[dict[str, Any]] = [{"frame": -1}, {"bit_depth": 99}]
        for wrong in wrongs:
            with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
                open_any(image, **wrong)


def test_bos_and_eos_are_words_of_their_own() -> None:
    def place(*words: str, word: str) -> float:
        """The place of the word's state, counted from 0 in the answer and from 10 in the prompt."""
        bundle = CaseBundle(
            answer="left.",
            token_ids=np.arange(len(words)),
            logprobs=np.zeros(len(words)),
            words=[(text, [at]) for at, text in enumerate(words)],
            prompt_ids=np.arange(4),
            prompt_words=[(text, [at]) for at, text in enumerate(("<s>", "Left", "or", "\n"))],
            ended=words[-1] == "</s>",
            image={"relevancy": np.arange(len(words))[:, None]},
            text={},
            prompt={"relevancy": 10 + np.arange(4)[:, None]},
            layers={},
            vision_rollout=np.eye(1),
            options=PassOptions(),
        )
        return Maps(bundle, np.zeros((1, 1, 3), np.uint8), "Left or").map("relevancy", word=word).item()

    ended = ("left.", "lung", "</s>")
    assert [place(*ended, word=word) for word in ("<s>", "</s>", "LEFT", "or", "\n")] == [10, 2, 0, 12, 13]
    assert place(*ended, word="") == 0.5  # without its end
    for word in ("</s>", "s", "?"):  # of a cut answer, and of none
        with pytest.raises(ValueError, match="Neither answer nor question has the word"):
            place("left.", "lung", word=word)


def test_an_unknown_user_has_no_home(tmp_path: Path) -> None:
    for path in ("~nobody_here/x.png", Path("~nobody_here/x.png")):
        with pytest.raises(ValueError, match=r"'~nobody_here/x\.png'.* no such user has a home here"):
            open_any(path)
        with pytest.raises(ValueError, match=r"^folder is '~nobody_here/x\.png', and no such user has a home here"):
            api_checks.home_path(path, "folder")
    assert api_checks.home_path(str(tmp_path), "folder") == tmp_path


def test_one_value_or_several_are_accepted() -> None:
    assert api_checks.texts_of("raw", "method") == ["raw"] and api_checks.texts_of(("a", "b"), "word") == ["a", "b"]
    assert api_checks.numbers_of(np.float32(0.5), "residual") == [0.5] and api_checks.weights_of((), "residuals") == ()
    assert api_checks.weights_of(np.array([0.25, 1]), "residuals") == (0.25, 1.0)
    assert api_checks.integers_of(range(2), "layers") == api_checks.integers_of(np.arange(2), "layers") == [0, 1]


@pytest.mark.parametrize("value", [5, None, (), [], ["raw", 5], b"raw", {"raw"}])
def test_names_are_texts(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^method must be a text or a list of texts, at least one; got"):
        api_checks.texts_of(value, "method")


@pytest.mark.parametrize("value", [5, None, "yes", 1, np.True_])
def test_a_flag_is_true_or_false(value: Any) -> None:
    api_checks.check_flag(False, "prepare")
    with pytest.raises(ValueError, match=r"^prepare must be True or False; got"):
        api_checks.check_flag(value, "prepare")


@pytest.mark.parametrize("value", ["0.5", ["0.5"], [True], True, None, math.nan, [math.inf], -0.1, (0.5, 2.0)])
def test_weights_are_numbers_from_0_to_1(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^residuals must be"):
        api_checks.weights_of(value, "residuals")


@pytest.mark.parametrize("value", ["0", 0, None, [1.5], [True], ["0"], np.zeros((1, 1), int)])
def test_layers_are_integers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^layers must be a list of integers, such as \[0, 1\]; got"):
        api_checks.integers_of(value, "layers")


def test_settings_in_groups_are_those_with_dotted_names() -> None:
    given = {"decode": {"samples": 2, "temperature": 1}, "stages": {"stage1": {"optim": {"b2": 0.9}}}, "seed": 3}
    assert flat_fields(given) == {
        "decode.samples": 2,
        "decode.temperature": 1,
        "stages.stage1.optim.b2": 0.9,
        "seed": 3,
    }
    assert flat_fields({}) == {} and flat_fields({"saliency.methods": ["raw"]}) == {"saliency.methods": ["raw"]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"residuals": 0.5}, "residuals=0.5 must be a tuple of numbers"),
        ({"residuals": ()}, "residuals=.* at least one"),
        ({"residuals": [0.5]}, r"residuals=\[0.5\] must be a tuple"),
        ({"residuals": ("0.5",)}, "residuals=.* must be a tuple of numbers"),
        ({"windows": "8"}, "windows='8' must be an integer of at least 1"),
        ({"windows": 0}, "windows=0 must be"),
        ({"knockout_layers": 3}, "knockout_layers=3 must be a tuple of layers"),
    ],
)
def test_options_of_a_pass_are_checked_when_they_are_given(fields: dict[str, Any], message: str) -> None:
    """By its own check: under test, annotations are checked first."""
    given = {"residuals": (0.5,), "windows": 8, "knockout_layers": ()} | fields
    with pytest.raises(ValueError, match=message):
        PassOptions.__post_init__(cast(Any, SimpleNamespace(**given)))
