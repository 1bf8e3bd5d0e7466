"""Reads SLAKE's detection.json, whose keys are not documented, in several forms.

Four numbers without names may be two corners, or a corner and a size. The boxes that fit into their image in only one
of the two ways decide this for the whole data set; without such boxes, or if they disagree, none of these is read.
"""

import collections
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

Form = Literal["corners", "size", "unnamed"]

LABEL_KEYS = ("label", "name", "category", "class", "organ")
BOX_KEYS = ("bbox", "box", "bndbox", "bounding_box", "points")
CORNER_KEYS = (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"))
SIZE_KEYS = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))
SLACK = 1.0  # pixels that a box may extend beyond its image
AGREEMENT = 0.95  # share of the boxes that fit in only one way


class RawBox(NamedTuple):
    """A box as the authors wrote it, in pixels."""

    label: str
    numbers: tuple[float, float, float, float]
    form: Form


def parse_boxes(value: Any, *, label: str = "") -> Iterator[RawBox | str]:
    """Yields the boxes of a detection.json in order; in place of an entry that is not a box, the reason.

    >>> list(parse_boxes([{"Liver": [1, 2, 3, 4]}]))
    [RawBox(label='Liver', numbers=(1.0, 2.0, 3.0, 4.0), form='unnamed')]
    """
    if isinstance(value, Mapping):
        yield from _parse_object(value, label=label)
    elif (numbers := _numbers(value)) is not None:
        yield RawBox(label, numbers, "unnamed") if label else f"box without a label: {value}"
    elif (corners := _points(value)) is not None:
        yield RawBox(label, corners, "corners") if label else f"box without a label: {value}"
    elif isinstance(value, list):
        for item in value:
            yield from parse_boxes(item, label=label)
    else:
        yield f"not a box: {str(value)[:80]}"


def _parse_object(value: Mapping[str, Any], *, label: str) -> Iterator[RawBox | str]:
    named = next((str(value[key]) for key in LABEL_KEYS if isinstance(value.get(key), str)), label)
    if (box := _named_numbers(value)) is not None:
        numbers, form = box
        yield RawBox(named, numbers, form) if named else f"box without a label: {dict(value)}"
    elif key := next((key for key in BOX_KEYS if key in value), ""):
        yield from parse_boxes(value[key], label=named)
    else:
        # {"Liver": [...]}: the keys are labels. Under a name such as "shapes", a list of objects has labels of its own.
        for key, inner in value.items():
            own = isinstance(inner, list) and any(isinstance(item, Mapping) for item in inner)
            yield from parse_boxes(inner, label="" if own else key)


def _numbers(value: Any) -> tuple[float, float, float, float] | None:
    if not (isinstance(value, list | tuple) and len(value) == 4):
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value):
        return None
    a, b, c, d = map(float, value)
    return a, b, c, d


def _points(value: Any) -> tuple[float, float, float, float] | None:
    """The corners of the smallest box around at least two points [x, y]."""
    if not (isinstance(value, list) and len(value) >= 2 and all(isinstance(p, list) and len(p) == 2 for p in value)):
        return None
    try:
        xs, ys = zip(*((float(x), float(y)) for x, y in value), strict=True)
    except (TypeError, ValueError):
        return None
    return min(xs), min(ys), max(xs), max(ys)


def _named_numbers(value: Mapping[str, Any]) -> tuple[tuple[float, float, float, float], Form] | None:
    forms: tuple[tuple[tuple[tuple[str, ...], ...], Form], ...] = ((CORNER_KEYS, "corners"), (SIZE_KEYS, "size"))
    for known, form in forms:
        for keys in known:
            if set(keys) <= set(value) and (numbers := _numbers([value[key] for key in keys])) is not None:
                return numbers, form
    return None


def _corners(box: RawBox, form: Form) -> tuple[float, float, float, float]:
    x, y, c, d = box.numbers
    return (x, y, c, d) if form == "corners" else (x, y, x + c, y + d)


def _fits(box: RawBox, form: Form, *, width: int, height: int) -> bool:
    x0, y0, x1, y1 = _corners(box, form)
    inside = -SLACK <= x0 < x1 <= width + SLACK and -SLACK <= y0 < y1 <= height + SLACK
    return inside and all(map(math.isfinite, (x0, y0, x1, y1)))


def decide_form(boxes: Iterable[tuple[RawBox, int, int]]) -> Form:
    """The meaning of four unnamed numbers in this data set; `unnamed` if its boxes do not show it.

    Takes (box, image width, image height) of every box.
    """
    votes: collections.Counter[Form] = collections.Counter()
    forms: tuple[Form, ...] = ("corners", "size")
    for box, width, height in boxes:
        fitting: list[Form] = [form for form in forms if _fits(box, form, width=width, height=height)]
        if box.form == "unnamed" and len(fitting) == 1:
            votes[fitting[0]] += 1
    if not votes:
        return "unnamed"
    form, n = votes.most_common(1)[0]
    return form if n >= AGREEMENT * votes.total() else "unnamed"


def normalise_box(box: RawBox, *, unnamed: Form, width: int, height: int) -> list[float] | str:
    """[x0, y0, x1, y1] as shares of width and height, from the upper left corner; or the reason why it is not valid.

    >>> normalise_box(RawBox("Liver", (10, 20, 30, 40), "size"), unnamed="unnamed", width=100, height=100)
    [0.1, 0.2, 0.4, 0.6]
    """
    form = unnamed if box.form == "unnamed" else box.form
    if form == "unnamed":
        return "box may be two corners or a corner and a size"
    if not _fits(box, form, width=width, height=height):
        return f"box is not inside its image of {width} x {height}"
    x0, y0, x1, y1 = _corners(box, form)
    shares = (x0 / width, y0 / height, x1 / width, y1 / height)
    return [min(max(share, 0.0), 1.0) for share in shares]
