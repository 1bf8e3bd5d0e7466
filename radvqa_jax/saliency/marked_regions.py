"""The region in which the answer to a question is visible, as a data set marks it: a mask or boxes of a row."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from radvqa_jax.data.image import read_mask

MARKS = ("boxes", "box_labels", "mask")  # fields of a row that mark a region


def draw_boxes(boxes: Any, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """A mask that is True within any of the boxes, `x0 y0 x1 y1` as shares of width and height from the upper left.

    A pixel belongs to a box if its centre does.
    """
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in np.asarray(boxes, float).reshape(-1, 4):
        mask |= np.outer((y0 <= y) & (y < y1), (x0 <= x) & (x < x1))
    return mask


def named_boxes(boxes: Sequence[Any], labels: Sequence[str], *, text: str) -> list[Any]:
    """The boxes whose label occurs in `text` as whole words, in singular or plural.

    >>> named_boxes([1, 2, 3], ["Left Lung", "Heart", "Lung"], text="Are the lungs healthy?")
    [3]
    """
    found = []
    for box, label in zip(boxes, labels, strict=True):
        words = re.escape(label.strip().lower().removesuffix("s"))
        if words and re.search(rf"\b{words}(s|es)?\b", text.lower()):
            found.append(box)
    return found


def find_region(row: Mapping[str, Any], *, height: int, width: int) -> tuple[Bool[np.ndarray, "h w"] | None, str]:
    """(the region that a map should mark, "") or (None, the reason why there is none), from the fields of a row.

    Boxes with labels count if question or answer names the label; boxes without labels all count; otherwise the mask
    counts, wherever it is not black. The mask of a data set that labels its boxes is never used, with or without boxes:
    its levels are organs, of which a question names some or none. Texts in these fields, which are columns of a table
    with the same name, mark nothing.
    """
    boxes, labels, mask_file = (None if isinstance(row.get(f), str) else row.get(f) for f in MARKS)
    if boxes is not None and len(boxes):
        if labels is not None and len(labels):
            boxes = named_boxes(list(boxes), list(labels), text=f"{row['question']} {row['answer']}")
        mask = draw_boxes(boxes, height, width)
        return (mask, "") if mask.any() else (None, "no box is named in question or answer")
    if not mask_file:
        return None, "no mask and no boxes"
    if labels is not None:
        return None, "the mask shows every organ, and no box says which one the question names"
    mask = read_mask(mask_file)
    if mask.shape != (height, width):
        return None, f"the mask is {mask.shape[0]} x {mask.shape[1]} pixels and the image {height} x {width}"
    return (mask, "") if mask.any() else (None, "nothing is marked")
