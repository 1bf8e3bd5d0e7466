"""The region in which an answer is visible, from any kind of mark in a data set."""

import io

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.saliency.marked_regions import draw_boxes, find_region


def png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


ROW = {"question": "Is the lung healthy?", "answer": "No"}


def test_a_box_covers_the_pixels_whose_centres_it_holds() -> None:
    drawn = draw_boxes([[0.5, 0.0, 1.0, 0.25], [0.0, 0.9, 0.1, 1.0]], 8, 4)
    assert drawn.sum() == 4 and drawn[:2, 2:].all()  # the second box holds no centre


def test_a_named_box_counts_and_the_others_do_not() -> None:
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32)
    mask, why = find_region(ROW | {"boxes": boxes, "box_labels": ["Heart", "Lung"]}, height=4, width=4)
    assert why == "" and mask is not None and mask[:, 2:].all() and not mask[:, :2].any()
    nothing = find_region(ROW | {"boxes": boxes, "box_labels": ["Liver", "Heart"]}, height=4, width=4)
    assert nothing == (None, "no box is named in question or answer")
    mask, _ = find_region(ROW | {"boxes": boxes}, height=4, width=4)  # without labels there is nothing to choose by
    assert mask is not None and mask.all()


def test_a_mask_counts_where_it_is_not_black() -> None:
    drawn = np.eye(4, dtype=bool)
    mask, why = find_region(ROW | {"mask": png(drawn)}, height=4, width=4)
    assert why == "" and np.array_equal(mask, drawn)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "no mask and no boxes"),
        ({"mask": b""}, "no mask and no boxes"),
        ({"mask": "masks/a.png", "boxes": "10 20 30 40", "box_labels": "Lung"}, "no mask and no boxes"),
        ({"mask": b"", "boxes": np.zeros((0, 4), np.float32), "box_labels": []}, "no mask and no boxes"),
        (
            {"mask": png(np.eye(4, dtype=bool)), "boxes": np.zeros((0, 4), np.float32), "box_labels": []},
            "the mask shows every organ, and no box says which one the question names",
        ),
        ({"mask": png(np.zeros((4, 4), bool))}, "nothing is marked"),
        ({"mask": png(np.ones((5, 4), bool))}, "the mask is 5 x 4 pixels and the image 4 x 4"),
    ],
)
def test_unusable_marks_give_the_reason(fields: dict, why: str) -> None:
    assert find_region(ROW | fields, height=4, width=4) == (None, why)
