"""CT slices: flat tissues in a window, white bone, black air. Axial slices are seen from the feet, front upwards."""

import numpy as np

from tfds_builders.phantom_rad.anatomy import Anatomy, Body, Bone, Draw, Wall, around
from tfds_builders.phantom_rad.shapes import (
    Ellipse,
    Grid,
    Map,
    depth,
    edge,
    ellipse,
    paint,
    rod,
    shell,
    smooth_noise,
    stripes,
)

FAT, MUSCLE, BONE = 0.27, 0.5, 0.95


def _table(grid: Grid, image: Map, bottom: float) -> None:
    """Paints the couch under the patient as a thin arc."""
    paint(image, shell(grid, Ellipse((0, bottom - 1.6), (1.9, 1.68)), 0.03) * (grid.v > bottom - 0.2), 0.3)


def _trunk(grid: Grid, body: Body, radii: tuple[float, float]) -> tuple[Map, Ellipse]:
    """Skin, fat and the muscle wall of a trunk in the air, and the cavity inside."""
    image = np.zeros_like(grid.u)
    _table(grid, image, radii[1] + 0.05)
    skin = Ellipse((0, 0), radii)
    paint(image, ellipse(grid, skin), 0.42)
    rim = 0.02
    paint(image, ellipse(grid, Ellipse((0, 0), (radii[0] - rim, radii[1] - rim))), FAT)
    rim += 0.06 * body.fat
    paint(image, ellipse(grid, Ellipse((0, 0.01), (radii[0] - rim, radii[1] - rim))), MUSCLE)
    rim += 0.07
    return image, Ellipse((0, 0), (radii[0] - rim, radii[1] - rim))


def _vertebra(grid: Grid, image: Map, center: float, body: Body) -> None:
    """Paints a vertebra with its canal and processes."""
    for s in (-1, 1):
        paint(image, rod(grid, (0.05 * s, center + 0.1), (0.2 * s, center + 0.14), 0.035), BONE * body.bone)
    paint(image, rod(grid, (0, center + 0.15), (0, center + 0.24), 0.03), BONE * body.bone)
    paint(image, ellipse(grid, Ellipse((0, center + 0.08), (0.1, 0.09))), BONE * body.bone)
    paint(image, ellipse(grid, Ellipse((0, center), (0.14, 0.1))), BONE * body.bone)
    paint(image, ellipse(grid, Ellipse((0, center - 0.005), (0.11, 0.075))), 0.78 * body.bone)
    paint(image, ellipse(grid, Ellipse((0, center + 0.12), (0.05, 0.045))), 0.45)


def _ribs(grid: Grid, image: Map, cavity: Ellipse, count: float, body: Body) -> None:
    """Paints cut ribs as short arcs in the wall."""
    turn = np.arctan2(grid.v / cavity.radii[1], np.abs(grid.u) / cavity.radii[0]) / np.pi
    wall = Ellipse(cavity.center, (cavity.radii[0] + 0.055, cavity.radii[1] + 0.055))
    paint(image, shell(grid, wall, 0.045) * stripes(turn * count, duty=0.5, soft=0.06), BONE * body.bone)


def chest_axial(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice at the heart, in a window that shows the lung."""
    image, cavity = _trunk(grid, body, (0.93, 0.68))
    _ribs(grid, image, cavity, 7.0, body)
    paint(image, ellipse(grid, cavity), 0.5)
    noise = smooth_noise(rng, image.shape, cells=26)
    for lung in (Ellipse((0.44, 0.0), (0.31, 0.46), 0.1), Ellipse((-0.44, 0.0), (0.32, 0.46), -0.1)):
        paint(image, ellipse(grid, lung), 0.13 + 0.2 * np.clip(noise - 0.45, 0, 1))
    paint(image, ellipse(grid, Ellipse((0.12, -0.14), (around(rng, 0.3), around(rng, 0.25)), 0.5)), 0.6)
    paint(image, ellipse(grid, Ellipse((0.13, 0.2), (0.075, 0.075))), 0.64)
    paint(image, ellipse(grid, Ellipse((-0.02, 0.14), (0.045, 0.04))), 0.4)
    paint(image, rod(grid, (-0.1, -0.56), (0.1, -0.56), 0.035), BONE * body.bone)
    _vertebra(grid, image, 0.38, body)
    wall = Wall(Ellipse((0.46, 0.02), (0.3, 0.44)), (0.5, 0.87))
    return Anatomy(image, (Ellipse((0.52, 0.0), (0.1, 0.2)),), (wall,))


def abdomen_axial(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice at the kidneys: liver on the image's left, spleen and stomach on its right."""
    image, cavity = _trunk(grid, body, (0.93, 0.7))
    _ribs(grid, image, cavity, 8.0, body)
    paint(image, ellipse(grid, cavity), FAT + 0.04)
    paint(image, ellipse(grid, Ellipse((-0.4, -0.06), (0.37, 0.42), -0.25)), around(rng, 0.56))
    paint(image, ellipse(grid, Ellipse((-0.02, -0.3), (0.3, 0.15), 0.2)), around(rng, 0.55))
    paint(image, ellipse(grid, Ellipse((0.56, 0.14), (0.17, 0.27), 0.3)), around(rng, 0.58))
    paint(image, ellipse(grid, Ellipse((0.38, -0.2), (around(rng, 0.26), 0.22), 0.4)), 0.48)
    paint(image, ellipse(grid, Ellipse((0.32, -0.33), (0.1, 0.04))), 0.06)
    for s in (-1, 1):
        kidney = Ellipse((0.34 * s, 0.33), (0.13, 0.11), -0.5 * s)
        paint(image, ellipse(grid, kidney), 0.66)
        paint(image, ellipse(grid, Ellipse((0.29 * s, 0.31), (0.06, 0.04), -0.5 * s)), 0.4)
    bowel = ellipse(grid, Ellipse((0.02, 0.0), (0.2, 0.14)), soft=4)
    paint(image, bowel, 0.42 + 0.2 * smooth_noise(rng, image.shape, cells=16))
    paint(image, ellipse(grid, Ellipse((0.06, 0.2), (0.065, 0.065))), 0.66)
    paint(image, ellipse(grid, Ellipse((-0.11, 0.2), (0.075, 0.055))), 0.6)
    _vertebra(grid, image, 0.36, body)
    return Anatomy(image, (Ellipse((0.48, -0.06), (0.1, 0.13)),), (Wall(cavity, (1.0, 0.15)),))


def head_axial(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice at the ventricles in a brain window."""
    image = np.zeros_like(grid.u)
    skull = Ellipse((0, 0), (0.76, around(rng, 0.96, spread=0.02)))
    paint(image, rod(grid, (-0.4, 1.12), (0.4, 1.12), 0.04), 0.3)
    paint(image, ellipse(grid, Ellipse((0, 0), (0.81, skull.radii[1] + 0.05))), 0.4)
    paint(image, ellipse(grid, skull), min(1.0, BONE * body.bone))
    brain = Ellipse((0, 0), (skull.radii[0] - 0.09, skull.radii[1] - 0.09))
    folds = smooth_noise(rng, image.shape, cells=14)
    paint(image, ellipse(grid, brain), 0.46 + 0.03 * folds)
    paint(image, shell(grid, brain, 0.14, soft=6), 0.52)
    paint(image, edge(0.05 - np.abs(folds), 0.06) * shell(grid, brain, 0.16, soft=8), 0.3)  # furrows
    paint(image, rod(grid, (0, -0.86), (0, -0.42), 0.012) + rod(grid, (0, 0.5), (0, 0.86), 0.012), 0.68)
    width = around(rng, 0.06, spread=0.25)
    for s in (-1, 1):
        paint(image, rod(grid, (0.05 * s, -0.02), (0.14 * s, -0.32), width * 0.6, width), 0.16)
        paint(image, rod(grid, (0.07 * s, 0.18), (0.2 * s, 0.42), width * 0.6, width), 0.16)
        paint(image, ellipse(grid, Ellipse((0.17 * s, 0.05), (0.08, 0.13)), soft=4), 0.54)
    paint(image, rod(grid, (0, 0), (0, 0.16), 0.018), 0.16)
    return Anatomy(image, (Ellipse((0.4, 0.0), (0.08, 0.34)),), (Wall(brain, (1.0, -0.1)),))


def knee_coronal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """Both knees in a coronal slice: bone with a white rim, muscle, fat."""
    image = np.zeros_like(grid.u)
    femur, tibia = around(rng, 0.15), around(rng, 0.14)
    marrow = 0.58 + 0.06 * smooth_noise(rng, image.shape, cells=40)
    for s in (-1, 1):
        m = 0.49 * s
        paint(image, rod(grid, (m, -1.3), (m * 0.97, 1.3), 0.41, 0.35), FAT)
        limb = 0.36 - 0.04 * body.fat
        paint(image, rod(grid, (m, -1.3), (m * 0.97, 1.3), limb, limb - 0.05), 0.42)
        upper = depth(grid, (m, -1.3), (m, -0.3), femur)
        lower = depth(grid, (m, 0.25), (m * 0.97, 1.3), tibia * 1.15, tibia * 0.9)
        for du in (-0.13, 0.13):
            upper = np.maximum(upper, 0.16 * (1 - np.hypot((grid.u - m - du) / 0.16, (grid.v + 0.22) / 0.18)))
        lower = np.maximum(lower, 0.15 * (1 - np.hypot((grid.u - m) / 0.28, (grid.v - 0.18) / 0.15)))
        fibula = depth(grid, (m + 0.25 * s, 0.34), (m + 0.22 * s, 1.3), 0.05)
        for inside in (upper, lower, fibula):
            paint(image, edge(inside, 1.5 * grid.pixel), min(1.0, BONE * body.bone))
            paint(image, edge(inside - 0.032, 1.5 * grid.pixel), marrow)
    zones = (Ellipse((0.49, -0.3), (0.07, 0.1)), Ellipse((0.48, 0.26), (0.07, 0.08)))
    wall = Wall(Ellipse((0.5, -0.02), (0.36, 0.46)), (1.0, -0.12))
    bones = (Bone((0.49, -0.7), (0.49, -0.45), femur), Bone((0.48, 0.45), (0.48, 0.68), tibia))
    return Anatomy(image, zones, (wall,), bones)


DRAW: dict[tuple[str, str], Draw] = {
    ("chest", "axial"): chest_axial,
    ("abdomen", "axial"): abdomen_axial,
    ("head", "axial"): head_axial,
    ("knee", "coronal"): knee_coronal,
}
