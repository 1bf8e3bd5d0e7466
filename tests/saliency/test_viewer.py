"""viewer.html without a browser: numbers keep their value, invalid cases are refused, no text ends a script."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax.pages import data_block
from radvqa_jax.saliency.methods import METHODS
from radvqa_jax.saliency.quality import Quality, centre_prior, quality
from radvqa_jax.saliency.viewer import (
    case_json,
    outline_path,
    quantise,
    render_viewer,
    write_viewer,
)
from tests.saliency.viewer_case import GRID, HOSTILE, MODELS, WORDS, make_case, make_maps


@pytest.mark.parametrize("bits", [8, 16])
def test_quantised_values_are_within_half_a_step_of_their_words_largest(bits: int) -> None:
    values = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32) * np.array([1, 1e-6, 0])[:, None, None]
    whole, scale = quantise(values, bits=bits)
    steps = 2**bits - 1
    back = whole.astype(float) * np.array(scale)[:, None, None] / steps
    assert np.abs(back - values).max(axis=(1, 2)) == pytest.approx(0, abs=1) and scale[2] == 0
    for word in range(3):
        assert np.abs(back - values)[word].max() <= 0.5001 * scale[word] / steps
    assert scale[0] == pytest.approx(values[0].max(), rel=1e-5)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_values_that_are_not_shares_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        quantise(np.array([[[0.1, bad], [0, 0]]]), bits=8)


def test_the_case_holds_every_map_where_the_index_says() -> None:
    case = make_case()
    data = json.loads(case_json(case))
    packed = zlib.decompress(base64.b64decode(data["maps"]["data"]))
    assert len(data["maps"]["index"]) == len(case.maps)
    for described, item in zip(data["maps"]["index"], case.maps, strict=True):
        keys = ("model", "query", "method", "layer", "head", "residual", "vision")
        assert {k: described[k] for k in keys} == {k: getattr(item, k) for k in keys}
        signed = item.method == "contrast"
        kind = f"<{'i' if signed else 'u'}{1 if item.head is not None else 2}"
        whole = np.frombuffer(packed, kind, item.values.size, described["offset"]).reshape(item.values.shape)
        back = whole * np.array(described["scale"])[:, None, None] / (2 ** (described["bits"] - signed) - 1)
        assert np.abs(back - item.values).max() < 0.003 * np.abs(item.values).max()


def test_values_with_a_sign_keep_it() -> None:
    values = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    whole, scale = quantise(values, bits=16, signed=True)
    assert whole.dtype == np.int16 and (np.sign(whole) == np.sign(values)).all()
    back = whole.astype(float) * np.array(scale)[:, None, None] / (2**15 - 1)
    assert np.abs(back - values).max() <= 0.5001 * max(scale) / (2**15 - 1)


def test_the_figures_are_those_of_the_whole_answer() -> None:
    case = make_case()
    rows = json.loads(case_json(case))["quality"]
    (row,) = [r for r in rows if r["model"] == "base" and r["method"] == "raw"]
    weights = [1, 2, 1, 0]  # tokens, and not the end
    assert case.mask is not None
    found = quality(np.average(case.maps[0].values, axis=0, weights=weights), case.mask)
    assert found is not None and row["mass"] == pytest.approx(found.mass) and row["area"] == pytest.approx(found.area)
    assert [r["method"] for r in rows if r["model"] is None] == ["centre of the image", "edges of the image"]
    assert quality(centre_prior(GRID), case.mask) == pytest.approx([rows[-2][key] for key in Quality._fields])
    assert not any(r["method"] == "contrast" for r in rows)  # a sign has no mass


def test_single_heads_are_left_out_with_a_note_where_a_case_would_be_too_large() -> None:
    case = make_case()
    whole = case_json(case)
    data = json.loads(case_json(case, budget=len(whole) - 1))
    assert {item["query"] for item in data["maps"]["index"] if item["head"] is not None} == {"answer"}
    assert [note[:42] for note in data["notes"]] == ["Single heads of the question's words are l"]
    data = json.loads(case_json(case, budget=1000))
    assert all(item["head"] is None for item in data["maps"]["index"])
    assert "Single heads of the answer's words are left out" in data["notes"][1]
    assert json.loads(whole)["notes"] == []


def test_a_large_image_is_shown_smaller_and_says_so() -> None:
    image = np.zeros((2000, 3200, 3), np.uint8)
    data = json.loads(case_json(make_case(image=image, mask=None)))
    assert (data["image"]["width"], data["image"]["height"], data["image"]["original"]) == (1600, 1000, [3200, 2000])
    assert data["notes"] == ["The image has 3200 x 2000 pixels and is shown with 1600 x 1000."]


def test_parts_that_do_not_belong_together_are_refused() -> None:
    maps = make_maps(len(WORDS))
    with pytest.raises(ValueError, match=r"'phantom-7': the map raw of the answer has shape \(4, 8, 8\); with 3 words"):
        case_json(make_case(words=WORDS[:3]))
    with pytest.raises(ValueError, match="a map is of 'base', but the models are"):
        case_json(make_case(models=MODELS[1:], maps=maps))
    with pytest.raises(ValueError, match=r"mask .* and image .* differ"):
        case_json(make_case(mask=np.ones((3, 3), bool)))
    with pytest.raises(ValueError, match="has 0 maps and 4 words"):
        case_json(make_case(maps=[]))
    with pytest.raises(ValueError, match="values of 4 words of the text"):
        case_json(make_case(maps=[maps[0]._replace(prompt=np.ones((4, 2)))]))
    with pytest.raises(ValueError, match="at least one case"):
        render_viewer([])


def test_an_outline_encloses_the_pixels_of_the_mask() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert sorted(re.findall(r"M[^M]+", outline_path(mask))) == ["M1 1H4", "M1 1V3", "M1 3H4", "M4 1V3"]
    assert outline_path(~np.ones((2, 2), bool)) == ""
    assert outline_path(np.ones((2, 2), bool)).count("M") == 4


def test_no_text_ends_the_block_that_contains_it() -> None:
    text = data_block({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"a": HOSTILE}


def test_the_page_is_the_same_every_time_and_names_no_other_address(tmp_path: Path) -> None:
    path = write_viewer(tmp_path / "viewer.html", [make_case()], title="t")
    text = path.read_text(encoding="utf-8")
    assert text == render_viewer([make_case()], title="t")
    assert "default-src 'none'" in text and "unsafe" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_no_method_is_called_an_explanation() -> None:
    page = render_viewer([make_case()])
    assert "It is not an explanation" in page and "not for clinical use" in page
    said = " ".join(f"{method.label} {method.unit} {method.about}" for method in METHODS.values())
    assert "expla" not in said.lower()


def test_an_image_with_fewer_pixels_than_patches_is_shown_with_more_and_the_page_says_so() -> None:
    image = np.zeros((5, 7, 3), np.uint8)
    case = json.loads(case_json(make_case(image=image, mask=None)))
    shown = case["image"]
    assert min(shown["width"], shown["height"]) >= 4 * 8 and shown["original"] == [7, 5]
    assert f"The image has 7 x 5 pixels and is shown with {shown['width']} x {shown['height']}." in case["notes"]
