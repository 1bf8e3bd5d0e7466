"""MRI slices: bright fat and marrow, black cortical bone and air, soft tissue weighted like T1 or T2."""

from typing import NamedTuple

import numpy as np

from tfds_builders.phantom_rad.anatomy import Anatomy, Body, Bone, Draw, Wall, around
from tfds_builders.phantom_rad.shapes import (
    Ellipse,
    Grid,
    depth,
    dome,
    edge,
    ellipse,
    paint,
    radial,
    rod,
    shell,
    smooth_noise,
    stripes,
)

CORTEX, FAT = 0.05, 0.7


class Weighting(NamedTuple):
    """Brightness of soft tissues; T1: white matter over grey, dark water; T2: the reverse."""

    white: float
    grey: float
    water: float
    muscle: float
    organ: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Weighting":
        """T1 or T2 with equal probability."""
        t1, t2 = Weighting(0.58, 0.44, 0.14, 0.32, 0.46), Weighting(0.38, 0.5, 0.74, 0.26, 0.38)
        return t1 if rng.random() < 0.5 else t2


def head_axial(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice at the ventricles."""
    tissue = Weighting.draw(rng)
    image = np.zeros_like(grid.u)
    outer = around(rng, 0.98, spread=0.02)
    paint(image, ellipse(grid, Ellipse((0, 0), (0.82, outer + 0.06))), 0.62)
    paint(image, ellipse(grid, Ellipse((0, 0), (0.76, outer))), CORTEX)
    inner = Ellipse((0, 0), (0.7, outer - 0.06))
    paint(image, ellipse(grid, inner), 0.6 * tissue.water)
    brain = Ellipse((0, 0), (0.67, outer - 0.09))
    paint(image, ellipse(grid, brain), tissue.grey)
    folds = smooth_noise(rng, image.shape, cells=13)
    q = radial(grid, brain)
    paint(image, edge(0.82 + 0.18 * folds - q, 0.05), tissue.white)  # white matter reaches into the folds
    paint(image, edge(np.abs(folds) * -1 + 0.06, 0.05) * edge(q - 0.78, 0.1) * (q < 1), 0.5 * tissue.water)
    paint(image, rod(grid, (0, -0.86), (0, -0.4), 0.012) + rod(grid, (0, 0.5), (0, 0.86), 0.012), tissue.water)
    width = around(rng, 0.06, spread=0.25)
    for s in (-1, 1):
        paint(image, ellipse(grid, Ellipse((0.2 * s, 0.06), (0.09, 0.16), 0.3 * s), soft=4), tissue.grey)
        paint(image, rod(grid, (0.05 * s, -0.02), (0.14 * s, -0.32), width * 0.6, width), tissue.water)
        paint(image, rod(grid, (0.07 * s, 0.18), (0.2 * s, 0.42), width * 0.6, width), tissue.water)
    paint(image, rod(grid, (0, 0.0), (0, 0.16), 0.018), tissue.water)
    return Anatomy(image, (Ellipse((0.4, 0.0), (0.08, 0.34)),), (Wall(inner, (1.0, -0.1)),))


def head_sagittal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """The midline slice, the face on the image's left."""
    tissue = Weighting.draw(rng)
    image = np.zeros_like(grid.u)
    for part in (Ellipse((0.05, -0.28), (0.82, 0.72)), Ellipse((-0.42, 0.35), (0.42, 0.62), 0.1)):
        paint(image, ellipse(grid, part), 0.55)
    paint(image, rod(grid, (0.15, 0.2), (0.25, 1.2), 0.36), 0.45)
    paint(image, rod(grid, (-0.8, 0.1), (-0.88, 0.24), 0.07), 0.5)
    paint(image, ellipse(grid, Ellipse((-0.5, 0.42), (0.24, 0.11))), 0.08)  # nose
    paint(image, rod(grid, (-0.15, 0.4), (-0.02, 1.1), 0.06), 0.05)  # airway
    paint(image, ellipse(grid, Ellipse((-0.42, 0.68), (0.24, 0.13))), tissue.muscle)  # tongue
    paint(image, ellipse(grid, Ellipse((0.05, -0.28), (0.76, 0.66))), CORTEX)
    inner = Ellipse((0.05, -0.28), (0.7, 0.6))
    paint(image, ellipse(grid, inner), 0.6 * tissue.water)
    brain = Ellipse((0.04, -0.32), (0.66, 0.52))
    folds = smooth_noise(rng, image.shape, cells=13)
    q = radial(grid, brain)
    paint(image, ellipse(grid, brain), tissue.grey)
    paint(image, edge(0.75 + 0.2 * folds - q, 0.06), tissue.white)
    paint(image, edge(0.06 - np.abs(folds), 0.05) * edge(q - 0.72, 0.1) * (q < 1), 0.5 * tissue.water)
    arc = shell(grid, Ellipse((0.02, -0.12), (0.3, 0.24)), 0.07) * edge(-0.1 - grid.v, 0.06)
    paint(image, ellipse(grid, Ellipse((0.02, -0.14), (0.22, 0.12))), tissue.water)
    paint(image, arc, tissue.white + 0.08)
    paint(image, ellipse(grid, Ellipse((0.03, -0.05), (0.16, 0.1))), tissue.grey)
    cerebellum = Ellipse((0.4, 0.16), (0.25, 0.2), 0.3)
    leaves = stripes(np.arctan2(grid.v - 0.16, grid.u - 0.2) * 5, duty=0.5, soft=0.4)
    paint(image, ellipse(grid, cerebellum), tissue.grey + 0.12 * (leaves - 0.5))
    paint(image, rod(grid, (0.07, 0.06), (0.18, 0.42), 0.09, 0.06), tissue.white)
    paint(image, rod(grid, (0.18, 0.42), (0.24, 1.2), 0.09), tissue.water)
    paint(image, rod(grid, (0.18, 0.42), (0.24, 1.2), 0.055), tissue.white)
    for k in range(4):
        paint(image, ellipse(grid, Ellipse((0.06 + 0.02 * k, 0.55 + 0.16 * k), (0.065, 0.06))), 0.62)
    zones = (Ellipse((-0.28, -0.42), (0.12, 0.1)), Ellipse((0.36, -0.42), (0.12, 0.1)))
    return Anatomy(image, zones, (Wall(inner, (-0.5, -0.87)), Wall(inner, (0.6, -0.8))))


def knee_sagittal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice through femur, tibia and patella, the patella on the image's left."""
    tissue = Weighting.draw(rng)
    image = np.zeros_like(grid.u)
    paint(image, rod(grid, (0.1, -1.4), (0.0, 0.0), 0.78, 0.68), FAT)
    paint(image, rod(grid, (0.0, 0.0), (0.08, 1.4), 0.68, 0.6), FAT)
    fibres = 0.06 * smooth_noise(rng, image.shape, cells=20)
    paint(image, rod(grid, (0.56, -1.4), (0.44, -0.2), 0.2, 0.13, soft=3), tissue.muscle + fibres)
    paint(image, rod(grid, (0.42, 0.2), (0.44, 1.4), 0.15, 0.22, soft=3), tissue.muscle + fibres)
    paint(image, rod(grid, (-0.36, -1.4), (-0.42, -0.6), 0.13, 0.08, soft=3), tissue.muscle + fibres)
    paint(image, rod(grid, (-0.45, -0.75), (-0.52, -0.3), 0.035), CORTEX)  # tendons
    paint(image, rod(grid, (-0.5, -0.1), (-0.33, 0.45), 0.035), CORTEX)
    femur, tibia = around(rng, 0.2), around(rng, 0.2)
    upper = depth(grid, (0.05, -1.4), (0.02, -0.35), femur)
    upper = np.maximum(upper, depth(grid, (-0.08, -0.26), (0.12, -0.25), 0.29))
    lower = depth(grid, (-0.12, 0.3), (0.16, 0.3), 0.19)
    lower = np.maximum(lower, depth(grid, (0.0, 0.35), (0.04, 1.4), tibia))
    patella = depth(grid, (-0.54, -0.3), (-0.5, -0.14), 0.1)
    grain = 0.05 * smooth_noise(rng, image.shape, cells=30)
    paint(image, edge(np.maximum(upper, lower) + 0.05, 2 * grid.pixel), 0.8 * tissue.water + 0.1)  # cartilage
    for s in (-1, 1):
        paint(image, rod(grid, (0.02 + 0.27 * s, 0.07), (0.02 + 0.12 * s, 0.06), 0.05, 0.01), CORTEX)  # menisci
    for inside in (upper, lower, patella):
        paint(image, edge(inside, 1.5 * grid.pixel), CORTEX)
        paint(image, edge(inside - 0.03, 1.5 * grid.pixel), 0.56 * body.bone + grain)
    zones = (Ellipse((0.02, -0.32), (0.1, 0.12)), Ellipse((0.02, 0.42), (0.06, 0.12)))
    wall = Wall(Ellipse((-0.12, -0.36), (0.52, 0.5)), (-1.0, -0.3))
    bones = (Bone((0.04, -0.85), (0.03, -0.55), femur), Bone((0.01, 0.55), (0.03, 0.85), tibia))
    return Anatomy(image, zones, (wall,), bones)


def abdomen_coronal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A slice through liver (image's left), spleen, kidneys and spine."""
    tissue = Weighting.draw(rng)
    image = np.zeros_like(grid.u)
    trunk = 0.9 + 0.06 * np.cos(2.2 * grid.v) - np.abs(grid.u)
    paint(image, edge(trunk, 1.5 * grid.pixel), FAT)
    paint(image, edge(trunk - 0.1 * body.fat, 2 * grid.pixel), tissue.muscle)
    cavity = Ellipse((0, 0.0), (0.76, 1.3))
    paint(image, ellipse(grid, cavity, soft=3), 0.6)
    for s in (-1, 1):
        paint(image, dome(grid, Ellipse((0.4 * s, -1.15), (0.34, 0.45))) > 0.1, 0.04)  # lung bases
    paint(image, ellipse(grid, Ellipse((-0.42, -0.38), (0.36, 0.42), -0.3)), around(rng, tissue.organ))
    paint(image, ellipse(grid, Ellipse((0.5, -0.45), (0.24, 0.34), -0.2)), around(rng, tissue.organ) * 0.95)
    bowel = smooth_noise(rng, image.shape, cells=12)
    paint(image, edge(0.5 - np.abs(bowel), 0.3) * edge(grid.v - 0.3, 0.1) * ellipse(grid, cavity), tissue.grey)
    for s in (-1, 1):
        kidney = Ellipse((0.38 * s, 0.14), (0.15, 0.25), 0.3 * s)
        paint(image, ellipse(grid, kidney), 0.5)
        paint(image, ellipse(grid, Ellipse((0.34 * s, 0.14), (0.06, 0.13), 0.3 * s), soft=4), 0.62)
        paint(image, rod(grid, (0.13 * s, 0.2), (0.34 * s, 1.3), 0.09, 0.15), tissue.muscle)
    spine = rod(grid, (0, -1.3), (0, 1.3), 0.13)
    paint(image, spine, 0.5 * body.bone)
    paint(image, spine * stripes(grid.v / 0.2, duty=0.28), 0.2)
    paint(image, shell(grid, Ellipse((0, 0), (0.14, 1.6)), 0.02), CORTEX)
    paint(image, rod(grid, (0.17, -1.2), (0.17, 0.6), 0.045), 0.1)  # aorta: flowing blood is black
    zones = (Ellipse((0.46, -0.42), (0.08, 0.16)),)
    return Anatomy(image, zones, (Wall(Ellipse((0, -0.1), (0.76, 0.75)), (1.0, 0.0)),))


DRAW: dict[tuple[str, str], Draw] = {
    ("head", "axial"): head_axial,
    ("head", "sagittal"): head_sagittal,
    ("knee", "sagittal"): knee_sagittal,
    ("abdomen", "coronal"): abdomen_coronal,
}
