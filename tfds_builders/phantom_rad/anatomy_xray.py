"""Projection X-ray: the attenuation of everything along the beam is summed; dense is bright."""

import numpy as np

from tfds_builders.phantom_rad.anatomy import Anatomy, Body, Bone, Draw, Wall, around
from tfds_builders.phantom_rad.shapes import Ellipse, Grid, Map, depth, dome, edge, ellipse, rod, shell, stripes


def _film(attenuation: Map) -> Map:
    """The brightness of the film for a summed attenuation."""
    return 1 - np.exp(-np.clip(attenuation, 0, None))


def _tube(grid: Grid, start: tuple[float, float], stop: tuple[float, float], radius: float, end: float) -> Map:
    """The attenuation of a long bone: a dense wall around a lighter marrow."""
    inside = depth(grid, start, stop, radius, end)
    return edge(inside, 2 * grid.pixel) * (0.55 + 0.45 * np.exp(-((inside - 0.025) ** 2) / 0.0012))


def chest_frontal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A chest seen from the front; the heart is on the image's right."""
    u, v = grid.u, grid.v
    side = np.abs(u)
    a = 1.05 * dome(grid, Ellipse((0, 0.5), (1.02, 1.75)))
    a += 0.5 * dome(grid, Ellipse((0.72, -0.78), (0.5, 0.4))) + 0.5 * dome(grid, Ellipse((-0.72, -0.78), (0.5, 0.4)))
    lung = Ellipse((0.44, -0.08), (0.35, 0.78), -0.06)
    floor = 0.56 - 0.28 * np.cos(2.6 * (side - 0.42)) + 0.04 * (u < 0)  # the dome of the diaphragm
    air = np.maximum(ellipse(grid, lung, soft=5), ellipse(grid, lung.mirrored(), soft=5))
    air *= edge(floor + 0.22 - v, 4 * grid.pixel)
    a -= around(rng, 0.72) * air * (0.75 + 0.25 * np.clip(1 - side, 0, 1))
    a += 0.25 * edge(v - floor - 0.2, 0.1)
    a += 0.5 * rod(grid, (0, -1.3), (0, 1.3), 0.12, soft=6)
    a += 0.12 * stripes(v / 0.17, duty=0.7, soft=0.3) * (side < 0.12)
    a += around(rng, 0.75) * dome(grid, Ellipse((0.13, 0.33), (around(rng, 0.37), 0.34), 0.5))
    a += 0.4 * dome(grid, Ellipse((0.12, -0.35), (0.14, 0.16)))
    thorax = ellipse(grid, Ellipse((0, 0.1), (0.86, 1.05)), soft=4)
    a += 0.15 * body.bone * thorax * stripes((v - 0.55 * side + 0.5 * side**2) / 0.2, duty=0.34)
    a += 0.09 * body.bone * thorax * stripes((v + 0.75 * side - 0.2) / 0.26, duty=0.3) * (side > 0.25)
    for sign in (-1, 1):
        a += 0.35 * body.bone * _tube(grid, (0.1 * sign, -0.72), (0.78 * sign, -0.88), 0.06, 0.05)
    vessels = np.exp(-((side - 0.25) ** 2) / 0.03 - (v - 0.02) ** 2 / 0.1)
    a += 0.25 * vessels * air
    low = Wall(Ellipse((0.46, 0.06), (0.36, 0.62)), (0.45, 0.9))
    return Anatomy(_film(1.1 * a), (Ellipse((0.47, -0.2), (0.12, 0.34)),), (low,))


def chest_lateral(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A chest seen from the side, the spine on the image's right."""
    u, v = grid.u, grid.v
    a = 1.15 * dome(grid, Ellipse((0, 0.4), (0.92, 1.75), 0.04))
    a += 0.5 * dome(grid, Ellipse((0.1, -1.05), (0.6, 0.35)))
    lung = Ellipse((0.02, -0.08), (0.62, 0.85), 0.05)
    floor = 0.5 + 0.3 * (u - 0.05) ** 2 + 0.28 * u
    air = ellipse(grid, lung, soft=5) * edge(floor - v, 5 * grid.pixel)
    a -= around(rng, 0.8) * air
    a += 0.3 * edge(v - floor, 0.1)
    column = 0.5 - 0.16 * np.cos(1.5 * v)  # the curve of the spine
    spine = edge(0.13 - np.abs(u - column - 0.1), 3 * grid.pixel)
    a += 0.42 * body.bone * spine * (0.55 + 0.45 * stripes(v / 0.19, duty=0.75, soft=0.2))
    a += 0.6 * dome(grid, Ellipse((-0.26, 0.33), (0.34, around(rng, 0.32)), -0.5))
    a += 0.25 * dome(grid, Ellipse((0.02, -0.45), (0.13, 0.3)))
    a += 0.3 * body.bone * rod(grid, (-0.52, -0.75), (-0.68, 0.25), 0.04, soft=3)
    thorax = ellipse(grid, Ellipse((0, 0), (0.7, 0.95)), soft=4)
    a += 0.13 * body.bone * thorax * stripes((v - 0.55 * u - 0.35 * u**2) / 0.22, duty=0.3)
    low = Wall(Ellipse((0.14, 0.02), (0.46, 0.62)), (0.5, 0.87))
    return Anatomy(_film(1.1 * a), (Ellipse((0.02, -0.2), (0.26, 0.32)),), (low,))


def knee_frontal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """Both knees from the front; each fibula is on its outer side."""
    a = np.zeros_like(grid.u)
    femur, tibia = around(rng, 0.14), around(rng, 0.12)
    for s in (-1, 1):
        m = 0.5 * s
        a += 0.42 * edge(depth(grid, (m, -1.2), (m * 0.96, 1.2), 0.43, 0.33), 0.12) * (0.9 + 0.1 * body.fat)
        bone = _tube(grid, (m, -1.2), (m, -0.34), femur, femur * 1.15)
        for du in (-0.12, 0.12):
            bone = np.maximum(bone, 0.8 * ellipse(grid, Ellipse((m + du, -0.22), (0.16, 0.18)), soft=3))
        bone = np.maximum(bone, 0.8 * ellipse(grid, Ellipse((m, 0.14), (0.27, 0.14)), soft=3))
        bone = np.maximum(bone, _tube(grid, (m, 0.2), (m * 0.97, 1.2), tibia * 1.2, tibia * 0.9))
        bone += 0.25 * shell(grid, Ellipse((m, 0.16), (0.27, 0.16)), 0.03, soft=3)
        bone = np.maximum(bone, 0.75 * _tube(grid, (m + 0.24 * s, 0.26), (m + 0.2 * s, 1.2), 0.055, 0.045))
        a += 0.62 * body.bone * bone + 0.08 * dome(grid, Ellipse((m, -0.28), (0.13, 0.14)))
    zones = (Ellipse((0.5, -0.28), (0.08, 0.1)), Ellipse((0.49, 0.2), (0.08, 0.1)))
    wall = Wall(Ellipse((0.52, -0.06), (0.37, 0.46)), (1.0, -0.12))
    bones = (Bone((0.5, -0.7), (0.5, -0.42), femur), Bone((0.49, 0.4), (0.49, 0.68), tibia))
    return Anatomy(_film(1.25 * a), zones, (wall,), bones)


def pelvis_frontal(grid: Grid, rng: np.random.Generator, body: Body) -> Anatomy:
    """A pelvis with both hips from the front."""
    u, v = grid.u, grid.v
    a = 0.55 * dome(grid, Ellipse((0, 0), (1.05, 1.4)))
    bone = (
        0.6
        * rod(grid, (0, -1.1), (0, -0.35), 0.13, 0.14, soft=4)
        * (0.7 + 0.3 * stripes(v / 0.22, duty=0.75, soft=0.2))
    )
    bone = np.maximum(bone, 0.6 * rod(grid, (0, -0.3), (0, 0.12), 0.2, 0.05, soft=4))
    femur = around(rng, 0.1)
    for s in (-1, 1):
        wing = Ellipse((0.47 * s, -0.3), (0.36, 0.3), -0.5 * s)
        parts = [
            0.62 * ellipse(grid, wing, soft=3) + 0.3 * shell(grid, wing, 0.045, soft=3),
            0.75 * rod(grid, (0.36 * s, -0.1), (0.5 * s, 0.15), 0.15, soft=3),
            0.8 * shell(grid, Ellipse((0.24 * s, 0.42), (0.21, 0.2), 0.5 * s), 0.075, soft=3),
            0.7 * rod(grid, (0.06 * s, 0.27), (0.4 * s, 0.15), 0.07, soft=3),
            0.85 * ellipse(grid, Ellipse((0.56 * s, 0.17), (0.145, 0.145)), soft=3),
            0.85 * rod(grid, (0.56 * s, 0.17), (0.76 * s, 0.36), 0.09, soft=3),
            _tube(grid, (0.77 * s, 0.36), (0.72 * s, 1.2), femur * 1.15, femur),
        ]
        for part in parts:
            bone = np.maximum(bone, part)
    a += 0.66 * body.bone * bone
    a -= 0.12 * ellipse(grid, Ellipse((0.05, -0.45), (0.3, 0.16)), soft=8) * (np.sin(14 * u + 3 * v) > 0.3)
    zones = (Ellipse((0.48, -0.28), (0.1, 0.1)), Ellipse((0.58, 0.2), (0.06, 0.06)))
    wall = Wall(Ellipse((0.58, 0.14), (0.32, 0.36)), (0.75, -0.66))
    bones = (Bone((0.75, 0.48), (0.74, 0.66), femur), Bone((0.47, -0.36), (0.5, -0.18), 0.25))
    return Anatomy(_film(1.25 * a), zones, (wall,), bones)


DRAW: dict[tuple[str, str], Draw] = {
    ("chest", "frontal"): chest_frontal,
    ("chest", "lateral"): chest_lateral,
    ("knee", "frontal"): knee_frontal,
    ("pelvis", "frontal"): pelvis_frontal,
}
