"""Soft-edged shapes on a grid of body coordinates, from which phantoms are made.

The unit is half the image's width: u runs from -1 (left edge of the image) to 1, v downwards, both zero in the middle.
A coverage is in [0, 1]: 1 inside the shape, 0 outside, in between on an edge of about one pixel.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

Map = Float[np.ndarray, "h w"]
Point = tuple[float, float]


class Ellipse(NamedTuple):
    """An ellipse; a positive angle (radians) turns it clockwise on the screen."""

    center: Point
    radii: Point
    angle: float = 0.0

    def mirrored(self) -> "Ellipse":
        """The ellipse on the other side of the midline."""
        return Ellipse((-self.center[0], self.center[1]), self.radii, -self.angle)


class Grid(NamedTuple):
    """Body coordinates of every pixel, and the size of a pixel in them."""

    u: Map
    v: Map
    pixel: float


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, cells: int) -> Map:
    """Noise of mean about 0 and deviation about 0.5 that varies over 1 / cells of the longer side."""
    height, width = shape
    step = max(height, width) / cells
    coarse = rng.standard_normal((int(height / step) + 4, int(width / step) + 4)).astype(np.float32)
    rows, columns = np.arange(height) / step + 1, np.arange(width) / step + 1
    # Linear in each axis, then a blur of half a cell: cheaper than a spline of order 3 and as smooth to the eye.
    left, top = columns.astype(int), rows.astype(int)
    part = (columns - left).astype(np.float32)[None]
    wide = coarse[:, left] * (1 - part) + coarse[:, left + 1] * part
    part = (rows - top).astype(np.float32)[:, None]
    return ndimage.uniform_filter(wide[top] * (1 - part) + wide[top + 1] * part, int(step / 2) | 1)


def make_grid(
    rng: np.random.Generator, shape: tuple[int, int], *, scale: float, girth: float, pose: float = 1.0
) -> Grid:
    """The grid of one exposure, with the body slightly turned, moved and unevenly stretched.

    Args:
        rng: draws the turn, the shift and the stretch.
        shape: height and width in pixels.
        scale: size of the body; 1 fills the frame as the anatomy was drawn.
        girth: its width relative to its height.
        pose: strength of turn, shift and stretch; 0 means none.
    """
    height, width = shape
    pixel = 2 / width
    turn, du, dv = pose * rng.uniform(-1, 1, 3) * (0.06, 0.04, 0.04)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None] * pixel - np.float32(du)
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None] * pixel - np.float32(dv)
    cos, sin = np.float32(np.cos(turn) / scale), np.float32(np.sin(turn) / scale)
    u = (cos * x + sin * y) / np.float32(girth) + 0.02 * pose * smooth_noise(rng, shape, cells=4)
    v = cos * y - sin * x + 0.02 * pose * smooth_noise(rng, shape, cells=4)
    return Grid(u.astype(np.float32), v.astype(np.float32), pixel)


def radial(grid: Grid, shape: Ellipse) -> Map:
    """0 at the centre of the ellipse, 1 on it, and more outside."""
    u, v = grid.u - np.float32(shape.center[0]), grid.v - np.float32(shape.center[1])
    if shape.angle:
        cos, sin = np.float32(np.cos(shape.angle)), np.float32(np.sin(shape.angle))
        u, v = cos * u + sin * v, cos * v - sin * u
    return np.hypot(u / np.float32(shape.radii[0]), v / np.float32(shape.radii[1]))


def edge(distance: Map, width: float) -> Map:
    """The coverage for a distance that is positive inside, with an edge of the given width."""
    return np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)


def ellipse(grid: Grid, shape: Ellipse, *, soft: float = 1.5) -> Map:
    """The coverage of an ellipse; `soft` is the width of its edge in pixels."""
    return edge((1 - radial(grid, shape)) * np.float32(min(shape.radii)), soft * grid.pixel)


def dome(grid: Grid, shape: Ellipse) -> Map:
    """The thickness of an ellipsoid along the beam: 1 in its middle, 0 outside."""
    return np.sqrt(np.clip(1 - radial(grid, shape) ** 2, 0, 1))


def shell(grid: Grid, shape: Ellipse, thickness: float, *, soft: float = 1.5) -> Map:
    """The coverage of a band of the given thickness just inside an ellipse."""
    inner = Ellipse(shape.center, (shape.radii[0] - thickness, shape.radii[1] - thickness), shape.angle)
    return ellipse(grid, shape, soft=soft) * (1 - ellipse(grid, inner, soft=soft))


def depth(grid: Grid, start: Point, stop: Point, radius: float, end_radius: float | None = None) -> Map:
    """The distance to the surface of a rounded rod, positive inside; it may taper to `end_radius`."""
    du, dv = stop[0] - start[0], stop[1] - start[1]
    u, v = grid.u - np.float32(start[0]), grid.v - np.float32(start[1])
    along = np.clip((u * np.float32(du) + v * np.float32(dv)) / np.float32(du * du + dv * dv), 0, 1)
    change = 0.0 if end_radius is None else end_radius - radius
    far = np.hypot(u - along * np.float32(du), v - along * np.float32(dv))
    return np.float32(radius) + along * np.float32(change) - far


def rod(
    grid: Grid, start: Point, stop: Point, radius: float, end_radius: float | None = None, *, soft: float = 1.5
) -> Map:
    """The coverage of a rounded rod."""
    return edge(depth(grid, start, stop, radius, end_radius), soft * grid.pixel)


def stripes(phase: Map, *, duty: float, soft: float = 0.12) -> Map:
    """The coverage of stripes that repeat every 1 of `phase` and fill the share `duty` of it."""
    return edge(np.float32(duty / 2) - np.abs(phase - np.rint(phase)), soft)


def paint(image: Map, cover: Map, value: float | Map) -> None:
    """Blends `value` into `image` in place, by its coverage."""
    image += cover * (value - image)
