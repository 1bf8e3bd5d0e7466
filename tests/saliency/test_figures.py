"""Small multiples: the right cell at the right place, scales that are printed, files that are the same every time."""

import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.saliency.figures import (
    CELL_SIDE,
    GAP,
    TALLEST,
    THINNEST,
    Format,
    case_figure,
    heads_figure,
    number_words,
    save_figure,
)

IMAGE = np.full((40, 60, 3), 128, np.uint8)


def hot(layers: int, heads: int, layer: int, head: int) -> np.ndarray:
    maps = np.zeros((layers, heads, 4, 4), np.float32)
    maps[layer, head] = 0.5
    return maps


def draw(maps: np.ndarray, *, kind: Format = "png", **changes: object) -> bytes:
    arguments: dict = {"question": "Where?", "answer": "left"} | changes
    return save_figure(heads_figure(IMAGE, maps, **arguments), kind)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_hot_head_is_at_its_row_and_column() -> None:
    """Two figures that differ only in the hot head differ at its old and its new place."""
    places = {}
    for layer, head in ((0, 0), (1, 2)):
        changed = np.abs(pixels(draw(hot(2, 3, layer, head))) - pixels(draw(hot(2, 3, 0, 1)))).sum(axis=-1) > 60
        rows, columns = np.nonzero(changed)
        places[layer, head] = rows.min(), rows.max(), columns.min(), columns.max()
    assert places[0, 0][1] < places[1, 2][1] - 20  # layer 1 is below layer 0
    assert places[0, 0][3] < places[1, 2][3] - 20  # head 2 is right of head 1


@pytest.mark.parametrize(("height", "width"), [(3000, 1), (1, 3000), (900, 300), (300, 400), (2, 2)])
def test_cells_have_the_images_aspect_and_a_figure_its_bounds(height: int, width: int) -> None:
    """Cells of a strip would make a figure of 90,000 pixels."""
    image, maps = np.zeros((height, width, 3), np.uint8), hot(12, 3, 0, 1)
    figure = heads_figure(image, maps, question="", answer="")
    shown = figure.axes[0].images[0]
    rows, columns = np.asarray(shown.get_array()).shape[:2]
    cell = (rows + GAP) / 12 - GAP, (columns + GAP) / 3 - GAP
    assert min(cell) >= 4 and max(cell) <= 2 * CELL_SIDE
    drawn = cell[0] / cell[1] * float(figure.axes[0].get_aspect())
    assert drawn == pytest.approx(np.clip(height / width, 1 / THINNEST, THINNEST))
    assert figure.get_size_inches()[1] <= TALLEST + 1.1


def test_an_absolute_scale_tells_heads_apart_and_a_relative_one_does_not() -> None:
    maps = np.stack([np.eye(4), np.eye(4) / 10])[None].astype(np.float32)
    same = np.stack([np.eye(4), np.eye(4)])[None].astype(np.float32)
    far = np.abs(pixels(draw(maps)) - pixels(draw(same))).mean()
    # On a relative scale, only the number that is printed in the cell differs.
    near = np.abs(pixels(draw(maps, scale="relative")) - pixels(draw(same, scale="relative"))).mean()
    assert far > 3 * near > 0


@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_values_below_zero_have_colours_of_their_own(scale: str) -> None:
    """Values of one size and different sign are on two sides of white."""
    maps = np.zeros((1, 2, 4, 4), np.float32)
    maps[0, 0], maps[0, 1] = -0.5, 0.5
    shown = heads_figure(np.full((40, 40, 3), 128, np.uint8), maps, question="", answer="", scale=scale).axes[0]
    canvas = np.asarray(shown.images[0].get_array()).astype(int)
    (low_red, _, low_blue), (high_red, _, high_blue) = canvas[20, 20], canvas[20, -20]
    assert low_blue > low_red and high_red > high_blue
    if scale == "relative":
        assert [text.get_text() for text in shown.texts] == ["±0.5", "±0.5"]


def test_png_and_pdf_are_the_same_bytes_every_time() -> None:
    maps = hot(2, 2, 0, 1)
    png, pdf = draw(maps), draw(maps, kind="pdf")
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert (png, pdf) == (draw(maps), draw(maps, kind="pdf"))
    assert b"/Font" in pdf and b"CreationDate" not in pdf
    figure = heads_figure(IMAGE, maps, question="Where?", answer="left")
    assert [save_figure(figure, "png") for _ in range(2)] == [png, png]  # the layout is settled once


@pytest.mark.parametrize("text", ["costs $5 or $6", r"$\foo{$", "这是什么?", "x" * 300])
def test_any_text_can_be_shown(text: str) -> None:
    assert pixels(draw(hot(1, 1, 0, 0), question=text, answer=text)).std() > 0


def test_words_that_occur_twice_are_distinguished() -> None:
    assert number_words(["a", "b", "a", "a"]) == ["a (1)", "b", "a (2)", "a (3)"]
    assert number_words([]) == []


def panels(*, kind: Format = "png", **changes: object) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (30, 60, 3)).astype(np.uint8)
    saliency = np.random.default_rng(1).random((4, 4)) / 16
    arguments = {"question": "Where?", "answer": "left", "reference": "left lung"} | changes
    figure = case_figure(image, [None, saliency, saliency * 2], ["image", "raw", "rollout"], **arguments)
    return save_figure(figure, kind)


def test_a_figure_is_the_same_bytes_every_time_and_depends_on_what_it_shows() -> None:
    first = panels()
    assert first.startswith(b"\x89PNG") and panels() == first
    outline = np.zeros((30, 60), bool)
    outline[5:15, 10:30] = True
    variants: list[dict[str, object]] = [
        {"question": "Why?"},
        {"answer": "right"},
        {"reference": ""},
        {"note": "n"},
        {"limits": [None, (0.0, 0.125), (0.0, 0.125)]},
        {"outline": outline},
        {"columns": 2},
        {"colormap": "magma"},
    ]
    assert len({first, *(panels(**changes) for changes in variants)}) == len(variants) + 1


@pytest.mark.parametrize("text", ["costs $5 or $6", r"$\foo{$", "这是什么?", "x" * 400, "a & <b>"])
def test_any_text_can_be_shown_above_panels(text: str) -> None:
    assert pixels(panels(question=text, answer=text)).std() > 0
    image = np.zeros((8, 8, 3), np.uint8)
    assert pixels(save_figure(case_figure(image, [None], [text], question="", answer=""), "png")).std() > 0


def test_a_map_of_zeros_has_a_panel() -> None:
    figure = case_figure(np.zeros((8, 8, 3), np.uint8), [np.zeros((2, 2))], ["raw"], question="", answer="")
    assert pixels(save_figure(figure, "png")).std() > 0


def test_a_title_for_every_map() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="needs a title, and limits if any, for each of 2 maps"):
        case_figure(image, [None, None], ["one"], question="", answer="")
    with pytest.raises(ValueError, match="needs a title, and limits if any, for each of 2 maps"):
        case_figure(image, [None, None], ["one", "two"], question="", answer="", limits=[None])


def pdf_text(pdf: bytes) -> str:
    """The text in a PDF of matplotlib, by the codes of its fonts, which are those of the letters."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    pages = [zlib.decompress(s).decode("latin-1") for s in streams if s[:1] == b"x"]
    blocks = [block for page in pages for block in re.findall(r"BT\n(.*?)\nET", page, re.DOTALL)]
    return "\n".join("".join(re.findall(r"\((.*?)\)", block)) for block in blocks).replace("\0", "")


def test_a_pdf_has_words_as_text_and_its_scale() -> None:
    pdf = panels(kind="pdf", limits=[None, (0.0, 0.125), (0.0, 0.125)])
    text = pdf_text(pdf)
    assert "question: Where?" in text and "reference: left lung" in text
    assert "rollout" in text and "0.12" in text
    assert pdf == panels(kind="pdf", limits=[None, (0.0, 0.125), (0.0, 0.125)])
