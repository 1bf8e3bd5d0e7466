"""Lesions, each kind with a distinct look: the pixels that they cover, and their brightness.

nodule: a bright disc. cyst: a dark disc in a bright rim. calcification: a cluster of white dots.
effusion: a bright crescent along a wall. fracture: a dark jagged line across a bone.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tfds_builders.phantom_rad.anatomy import Anatomy, Bone, Wall
from tfds_builders.phantom_rad.attributes import Attributes
from tfds_builders.phantom_rad.shapes import Ellipse, Grid, Map, edge, ellipse, paint, radial, rod

# Extent as a share of the image's width: diameter, diameter, cluster diameter, thickness, length.
EXTENT = {
    "nodule": {"small": (0.085, 0.1), "large": (0.19, 0.22)},
    "cyst": {"small": (0.115, 0.125), "large": (0.22, 0.25)},
    "calcification": {"small": (0.1, 0.12), "large": (0.23, 0.27)},
    "effusion": {"small": (0.06, 0.07), "large": (0.14, 0.17)},
    "fracture": {"small": (0.12, 0.14), "large": (0.27, 0.31)},
}
DOTS = {"small": 5, "large": 13}


class Lesion(NamedTuple):
    """Layers to paint in order, each a coverage and a brightness, and the pixels that belong to the lesion."""

    layers: tuple[tuple[Map, float], ...]
    mask: Bool[np.ndarray, "h w"]


def _point(rng: np.random.Generator, zone: Ellipse) -> tuple[float, float]:
    """A random point in an ellipse, uniform over its area."""
    angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform())
    u, v = zone.radii[0] * reach * np.cos(angle), zone.radii[1] * reach * np.sin(angle)
    cos, sin = np.cos(zone.angle), np.sin(zone.angle)
    return float(zone.center[0] + cos * u - sin * v), float(zone.center[1] + sin * u + cos * v)


def _round(rng: np.random.Generator, center: tuple[float, float], diameter: float) -> Ellipse:
    """A nearly round ellipse. Half the image's width is 1, so a share of the width is a radius."""
    ratio = rng.uniform(0.92, 1.08)
    return Ellipse(center, (diameter * ratio, diameter / ratio), float(rng.uniform(0, np.pi)))


def _brightness(image: Map, cover: Map) -> float:
    """The mean brightness under a coverage."""
    return float((image * cover).sum() / max(float(cover.sum()), 1e-6))


def _nodule(image: Map, grid: Grid, rng: np.random.Generator, shape: Ellipse) -> Lesion:
    cover = ellipse(grid, shape, soft=2)
    return Lesion(((cover, min(1.0, max(0.92, _brightness(image, cover) + 0.35))),), cover > 0.5)


def _cyst(image: Map, grid: Grid, rng: np.random.Generator, shape: Ellipse) -> Lesion:
    cover = ellipse(grid, shape)
    here = _brightness(image, cover)
    rim = 0.034 if shape.radii[0] < 0.17 else 0.045
    inner = Ellipse(shape.center, (shape.radii[0] - rim, shape.radii[1] - rim), shape.angle)
    bright = min(1.0, max(here + 0.28, 0.68))
    return Lesion(((cover, bright), (ellipse(grid, inner), 0.12 * here)), cover > 0.5)


def _calcification(image: Map, grid: Grid, rng: np.random.Generator, shape: Ellipse, *, dots: int) -> Lesion:
    """One dot in the middle, the others on a sunflower's spiral, so that they spread evenly and do not merge."""
    turn = rng.uniform(0, 2 * np.pi)
    cover = np.zeros_like(image)
    for k in range(dots):
        reach = shape.radii[0] * np.sqrt(k / (dots - 1)) * 0.9
        angle = turn + 2.4 * k + rng.uniform(-0.15, 0.15)
        center = (shape.center[0] + reach * np.cos(angle), shape.center[1] + reach * np.sin(angle))
        cover = np.maximum(cover, ellipse(grid, Ellipse(center, (0.024, 0.024))))
    around = ellipse(grid, Ellipse(shape.center, (shape.radii[0] * 1.1, shape.radii[0] * 1.1)), soft=6)
    dim = min(_brightness(image, around), 0.55)  # white dots would not be visible on bright bone
    return Lesion(((around * 0.7, dim), (cover, 1.0)), cover > 0.5)


def _effusion(image: Map, grid: Grid, rng: np.random.Generator, wall: Wall, *, thickness: float) -> Lesion:
    """A layer on the inside of the wall, thickest in the direction of the fluid and ending 72 degrees from it."""
    cavity = wall.cavity
    u, v = grid.u - np.float32(cavity.center[0]), grid.v - np.float32(cavity.center[1])
    length = np.hypot(*wall.toward)
    cosine = (u * np.float32(wall.toward[0] / length) + v * np.float32(wall.toward[1] / length)) / (
        np.hypot(u, v) + 1e-3
    )
    share = np.sqrt(np.clip((cosine - 0.3) / 0.7, 0, 1))
    inside = (1 - radial(grid, cavity)) * np.float32(min(cavity.radii))
    most = min(2 * thickness, 0.75 * min(cavity.radii))  # a layer past the middle of a narrow lung would have a notch
    layer = edge(most * share - inside, 2.5 * grid.pixel) * edge(cosine - 0.3, 0.05)
    cover = ellipse(grid, cavity, soft=2.5) * layer
    bright = min(0.95, max(0.84, _brightness(image, cover) + 0.2))
    return Lesion(((cover, bright),), cover > 0.5)


def _fracture(image: Map, grid: Grid, rng: np.random.Generator, bone: Bone, *, length: float) -> Lesion:
    """A zigzag through the middle of the bone, inclined so that it ends at the bone's surface."""
    along = np.asarray(bone.stop) - bone.start
    along /= np.hypot(*along)
    across = np.array([-along[1], along[0]])
    middle = np.asarray(bone.start) + rng.uniform() * (np.asarray(bone.stop) - bone.start)
    lean = np.arcsin(min(1.0, 1.15 * bone.radius / length)) * rng.choice((-1, 1))
    run = np.cos(lean) * along + np.sin(lean) * across
    normal = np.array([-run[1], run[0]])
    count = 3 if length < 0.2 else 5
    points = [
        middle + run * length * t + normal * 0.035 * (-1) ** k for k, t in enumerate(np.linspace(-1, 1, count + 1))
    ]
    gap = 0.02 if length < 0.2 else 0.028
    cover, halo = np.zeros_like(image), np.zeros_like(image)
    for start, stop in itertools.pairwise(points):
        a, b = (float(start[0]), float(start[1])), (float(stop[0]), float(stop[1]))
        cover = np.maximum(cover, rod(grid, a, b, gap))
        halo = np.maximum(halo, rod(grid, a, b, gap + 0.03, soft=3))
    bright = min(1.0, _brightness(image, halo) + 0.15)
    return Lesion(((halo * 0.6, bright), (cover, 0.03)), cover > 0.5)


def _mirror_places(anatomy: Anatomy) -> Anatomy:
    """The anatomy with its places on the image's left half."""

    def flip(point: tuple[float, float]) -> tuple[float, float]:
        return -point[0], point[1]

    return anatomy._replace(
        zones=tuple(zone.mirrored() for zone in anatomy.zones),
        walls=tuple(Wall(wall.cavity.mirrored(), flip(wall.toward)) for wall in anatomy.walls),
        bones=tuple(Bone(flip(bone.start), flip(bone.stop), bone.radius) for bone in anatomy.bones),
    )


def add_lesion(
    anatomy: Anatomy, attributes: Attributes, *, grid: Grid, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """The image with the lesion that the attributes ask for, and the lesion's mask (all False if none)."""
    image = anatomy.image.copy()
    if not attributes.finding:
        return image, np.zeros(image.shape, bool)
    # Radiological convention: the patient's left is on the image's right, where the places are given.
    places = _mirror_places(anatomy) if attributes.side == "right" else anatomy
    finding, size = attributes.finding, attributes.size
    extent = float(rng.uniform(*EXTENT[finding][size]))
    if finding == "effusion":
        wall = places.walls[rng.integers(len(places.walls))]
        lesion = _effusion(image, grid, rng, wall, thickness=extent)
    elif finding == "fracture":
        bone = places.bones[rng.integers(len(places.bones))]
        lesion = _fracture(image, grid, rng, bone, length=extent)
    else:
        shape = _round(rng, _point(rng, places.zones[rng.integers(len(places.zones))]), extent)
        if finding == "calcification":
            lesion = _calcification(image, grid, rng, shape, dots=DOTS[size])
        else:
            lesion = (_nodule if finding == "nodule" else _cyst)(image, grid, rng, shape)
    for cover, value in lesion.layers:
        paint(image, cover, value)
    return image, lesion.mask
