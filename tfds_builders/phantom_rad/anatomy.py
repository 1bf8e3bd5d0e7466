"""The parts of every anatomy: the drawn body, and the places in it where a lesion may be.

Each of `anatomy_xray`, `anatomy_ct` and `anatomy_mri` has one function per view: (grid, rng, body) -> Anatomy.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tfds_builders.phantom_rad.shapes import Ellipse, Grid, Point


class Body(NamedTuple):
    """The properties that the images of one phantom patient share, each around 1."""

    scale: float
    girth: float
    fat: float
    bone: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Body":
        """A random body."""
        return Body(rng.uniform(0.93, 1.04), rng.uniform(0.94, 1.04), rng.uniform(0.7, 1.3), rng.uniform(0.92, 1.05))


class Wall(NamedTuple):
    """A cavity in which fluid collects, and the direction in which it collects."""

    cavity: Ellipse
    toward: Point


class Bone(NamedTuple):
    """A stretch of bone that may break: a line and its half width."""

    start: Point
    stop: Point
    radius: float


class Anatomy(NamedTuple):
    """A healthy body. In a view with sides, places are given in the image's right half, and mirrored for its left."""

    image: Float[np.ndarray, "h w"]  # display brightness, 0 black to 1 white, before blur and noise
    zones: tuple[Ellipse, ...]  # where the middle of a nodule, cyst or calcification may be
    walls: tuple[Wall, ...]
    bones: tuple[Bone, ...] = ()


Draw = Callable[[Grid, np.random.Generator, Body], Anatomy]


def around(rng: np.random.Generator, value: float, *, spread: float = 0.05) -> float:
    """`value` times a random number between 1 - spread and 1 + spread."""
    return float(value * rng.uniform(1 - spread, 1 + spread))
