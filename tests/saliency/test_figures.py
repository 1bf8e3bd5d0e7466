"""Small multiples: the right cell at the right place, scales that are printed, files that are the same every time."""

import io

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.saliency.figures import heads_figure, number_words

IMAGE = np.full((40, 60, 3), 128, np.uint8)


def hot(layers: int, heads: int, layer: int, head: int) -> np.ndarray:
    maps = np.zeros((layers, heads, 4, 4), np.float32)
    maps[layer, head] = 0.5
    return maps


def draw(maps: np.ndarray, **changes: object) -> bytes:
    arguments: dict = {"question": "Where?", "answer": "left"} | changes
    return heads_figure(IMAGE, maps, **arguments)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_hot_head_is_at_its_row_and_column() -> None:
    """Two figures that differ in the hot head alone differ at its old and its new place."""
    places = {}
    for layer, head in ((0, 0), (1, 2)):
        changed = np.abs(pixels(draw(hot(2, 3, layer, head))) - pixels(draw(hot(2, 3, 0, 1)))).sum(axis=-1) > 60
        rows, columns = np.nonzero(changed)
        places[layer, head] = rows.min(), rows.max(), columns.min(), columns.max()
    assert places[0, 0][1] < places[1, 2][1] - 20  # layer 1 lies below layer 0
    assert places[0, 0][3] < places[1, 2][3] - 20  # head 2 lies right of head 1


def test_an_absolute_scale_tells_heads_apart_and_a_relative_one_does_not() -> None:
    maps = np.stack([np.eye(4), np.eye(4) / 10])[None].astype(np.float32)
    same = np.stack([np.eye(4), np.eye(4)])[None].astype(np.float32)
    far = np.abs(pixels(draw(maps)) - pixels(draw(same))).mean()
    # What differs on a relative scale is the number that is printed in the cell.
    near = np.abs(pixels(draw(maps, scale="relative")) - pixels(draw(same, scale="relative"))).mean()
    assert far > 3 * near > 0


def test_png_and_pdf_are_the_same_bytes_every_time() -> None:
    maps = hot(2, 2, 0, 1)
    png, pdf = draw(maps), draw(maps, kind="pdf")
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert (png, pdf) == (draw(maps), draw(maps, kind="pdf"))
    assert b"/Font" in pdf and b"CreationDate" not in pdf


@pytest.mark.parametrize("text", ["costs $5 or $6", r"$\foo{$", "这是什么?", "x" * 300])
def test_any_text_can_be_shown(text: str) -> None:
    assert pixels(draw(hot(1, 1, 0, 0), question=text, answer=text)).std() > 0


def test_words_that_occur_twice_are_told_apart() -> None:
    assert number_words(["a", "b", "a", "a"]) == ["a (1)", "b", "a (2)", "a (3)"]
    assert number_words([]) == []
