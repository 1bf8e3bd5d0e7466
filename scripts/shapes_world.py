"""Simple grey pictures for pre-training the tiny PaliGemma. shapes_text.py asks about them.

A scene has a background pattern, perhaps one large body, clutter that no question is about, and up to three small
marks. Nothing here is radiological: the marks are discs, rings, crosses and the like. The pictures teach what any later
task needs: contrast, texture, form, place, size, number.
"""

import itertools
from typing import NamedTuple

import numpy as np

SIZE = 112  # pixels
GRID = 8  # patches a side
BACKGROUNDS = ("plain", "noisy", "graded", "striped", "wavy", "spotted")
BODIES = ("oval", "box", "pair", "bell", "arch", "none")
MARKS = ("disc", "ring", "square", "cross", "line", "cluster", "wedge", "zigzag", "crescent")
SHADES = ("bright", "dark")
SIZES = ("small", "large")
SIDES = ("left", "right")
LEVELS = ("upper", "lower")
NUMBERS = ("no", "one", "two", "three")
FRAMES = ("open", "edge", "corners")  # nothing, a thin bright line around the picture, or dark round corners


class Mark(NamedTuple):
    """One small thing: what, where (fractions of the picture), how large and which shade."""

    kind: str
    x: float
    y: float
    size: str
    shade: str

    @property
    def side(self) -> str:
        """Left or right, as seen in the picture."""
        return "left" if self.x < 0.5 else "right"

    @property
    def level(self) -> str:
        """Upper or lower."""
        return "upper" if self.y < 0.5 else "lower"

    @property
    def classes(self) -> tuple[int, int, int]:
        """The classes (kind, shade, size) of the patches that it covers; 0 is kept for no mark."""
        return 1 + MARKS.index(self.kind), 1 + SHADES.index(self.shade), 1 + SIZES.index(self.size)


class Scene(NamedTuple):
    """A picture and what is in it."""

    image: np.ndarray  # uint8 [SIZE SIZE]
    background: str
    body: str
    marks: tuple[Mark, ...]
    patches: np.ndarray  # uint8 [GRID GRID 3]: Mark.classes, 0 without a mark
    frame: str = "open"

    def mirrored(self, *, sideways: bool, upside_down: bool) -> "Scene":
        """The mirrored scene, with the places of its marks, so that questions about it stay right."""
        across = (slice(None, None, -1 if upside_down else 1), slice(None, None, -1 if sideways else 1))
        marks = tuple(m._replace(x=1 - m.x if sideways else m.x, y=1 - m.y if upside_down else m.y) for m in self.marks)
        return self._replace(image=self.image[across], marks=marks, patches=self.patches[across])

    def framed(self, frame: str) -> "Scene":
        """The scene with one of FRAMES around it; it hardly touches a mark."""
        image = self.image.copy()
        if frame == "edge":
            image[np.maximum(abs(_X - 0.5), abs(_Y - 0.5)) > 0.47] = 220
        elif frame == "corners":
            image[np.hypot(_X - 0.5, _Y - 0.5) > 0.64] = 5
        return self._replace(image=image, frame=frame)


_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE


def _soft(distance: np.ndarray, blur: float = 0.012) -> np.ndarray:
    """1 inside (distance < 0), 0 outside, with a soft edge."""
    return np.clip(0.5 - distance / blur, 0, 1)


def _turned(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates in a frame turned by a random angle."""
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)


def _background(rng: np.random.Generator, kind: str) -> np.ndarray:
    period, level, depth = rng.uniform(0.08, 0.2), rng.uniform(0.0, 0.45), rng.uniform(0.3, 1.0)
    along, across = _turned(rng, _X, _Y)
    if kind == "plain":
        return np.full_like(_X, level)
    if kind == "noisy":
        return level + 0.14 * depth * rng.standard_normal(_X.shape).astype(np.float32)
    if kind == "graded":
        return 0.05 + 0.5 * (along - along.min()) / np.ptp(along)
    if kind == "striped":
        return level + 0.1 * depth * np.sign(np.sin(2 * np.pi * along / period))
    if kind == "wavy":
        return level + 0.08 * depth * (np.sin(2 * np.pi * along / period) + np.sin(2 * np.pi * across / (period * 1.3)))
    coarse = rng.random((14, 14)).astype(np.float32)
    return level + 0.25 * depth * (np.kron(coarse, np.ones((8, 8), np.float32)) > 0.75)


def _body(rng: np.random.Generator, kind: str) -> np.ndarray:
    """The body's coverage in [0, 1]."""
    cx, cy = 0.5 + rng.uniform(-0.06, 0.06, 2)
    a, b = rng.uniform(0.3, 0.44, 2)
    x, y = _X - cx, _Y - cy
    oval = np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1
    if kind == "oval":
        return _soft(oval * 0.4)
    if kind == "box":
        return _soft(np.maximum(np.abs(x) - a, np.abs(y) - b))
    if kind == "pair":
        half = a * 0.45
        lobes = [np.sqrt(((x - s * a * 0.55) / half) ** 2 + (y / b) ** 2) - 1 for s in (-1, 1)]
        return _soft(np.minimum(*lobes) * 0.3)
    if kind == "bell":
        return _soft(np.abs(x) - a * (0.35 + 0.65 * np.clip((y + b) / (2 * b), 0, 1))) * _soft(np.abs(y) - b)
    if kind == "arch":
        return _soft(np.abs(oval + 0.25) * 0.4 - 0.1)
    return np.zeros_like(_X)


def _clutter(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The picture with faint ovals, rings and bars, and thin bright outlines, half of the time in pairs."""
    for _ in range(rng.integers(0, 6)):
        cx, cy = rng.uniform(0.05, 0.95, 2)
        u, v = _turned(rng, _X - cx, _Y - cy)
        a, b = rng.uniform(0.1, 0.4), rng.uniform(0.04, 0.3)
        oval = np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1
        thin = rng.uniform(0.015, 0.05) / min(a, b)
        kind = rng.integers(4)
        distance = (oval, np.abs(oval) - thin, np.maximum(np.abs(u) - a, np.abs(v) - 0.15 * b), oval)[kind]
        cover = _soft(distance * min(a, b), rng.uniform(0.008, 0.05))
        # Outlines may be as bright as a mark, but they are too large to be one.
        bright = rng.uniform(0.1, 0.95) if kind == 1 and min(a, b) > 0.2 else rng.uniform(0.12, 0.75)
        if rng.random() < 0.5:
            cover = np.maximum(cover, cover[:, ::-1])
        alpha = rng.uniform(0.3, 0.95) * cover
        image = image * (1 - alpha) + bright * alpha
    return image


def _segments(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distance to a line through the points."""
    distance = np.full_like(x, np.inf)
    for start, stop in itertools.pairwise(points):
        run = stop - start
        share = np.clip(((x - start[0]) * run[0] + (y - start[1]) * run[1]) / (run @ run), 0, 1)
        distance = np.minimum(distance, np.hypot(x - start[0] - share * run[0], y - start[1] - share * run[1]))
    return distance


def _mark(rng: np.random.Generator, mark: Mark) -> tuple[np.ndarray, np.ndarray]:
    """The coverage of the mark and of what it encloses in the opposite shade, both in [0, 1]."""
    large = mark.size == "large"
    r = rng.uniform(0.1, 0.13) if large else rng.uniform(0.045, 0.06)
    x, y = _X - mark.x, _Y - mark.y
    u, v = _turned(rng, x, y)
    radius = np.hypot(x, y)
    inside = np.zeros_like(x)
    if mark.kind == "disc":
        distance = np.hypot(u, v * rng.uniform(0.85, 1.15)) - r
    elif mark.kind == "ring":
        rim = rng.uniform(0.014, 0.02)
        distance = np.abs(radius - r) - rim
        inside = _soft(radius - r + rim) * (rng.random() < 0.7)
    elif mark.kind == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - r * 0.9
    elif mark.kind == "cross":
        arm = 0.3 * r
        bars = (np.maximum(np.abs(u) - r, np.abs(v) - arm), np.maximum(np.abs(v) - r, np.abs(u) - arm))
        distance = np.minimum(*bars)
    elif mark.kind == "line":
        distance = np.maximum(np.abs(u) - 1.6 * r, np.abs(v) - 0.012)
    elif mark.kind == "cluster":
        centers = rng.uniform(-r, r, (11 if large else 6, 2))
        distance = np.min([np.hypot(x - dx, y - dy) for dx, dy in centers], axis=0) - rng.uniform(0.011, 0.015)
    elif mark.kind == "zigzag":
        along = np.linspace(-1.5 * r, 1.5 * r, 6 if large else 4)
        points = np.stack([along, 0.022 * (-1.0) ** np.arange(len(along))], axis=1)
        distance = _segments(u, v, points) - rng.uniform(0.009, 0.014)
    elif mark.kind == "crescent":
        distance = np.maximum(np.hypot(u, v) - 1.3 * r, 1.3 * r - np.hypot(u + rng.uniform(0.5, 0.9) * r, v))
    else:  # wedge
        distance = np.maximum(np.maximum(-y - r, y - r), np.abs(x) - 0.5 * (y + r))
    return _soft(distance), inside


def make_scene(rng: np.random.Generator) -> Scene:
    """A random scene; marks are kept apart and off the middle lines, so that sides are clear."""
    background, body = str(rng.choice(BACKGROUNDS)), str(rng.choice(BODIES))
    image = _background(rng, background)
    cover, level = _body(rng, body), rng.uniform(0.35, 0.7)
    image = _clutter(rng, image * (1 - cover) + level * cover)
    marks: list[Mark] = []
    for _ in range(rng.choice(4, p=[0.3, 0.45, 0.17, 0.08])):
        x, y = 0.5 + rng.choice([-1, 1], 2) * (rng.uniform(0.08, 0.36), rng.uniform(0.03, 0.36))
        if all(np.hypot(x - m.x, y - m.y) > 0.28 for m in marks):
            marks.append(Mark(str(rng.choice(MARKS)), x, y, str(rng.choice(SIZES)), str(rng.choice(SHADES))))
    patches = np.zeros((GRID, GRID, 3), np.uint8)
    for mark in marks:
        cover, inside = _mark(rng, mark)
        strength = rng.uniform(0.75, 1.0)
        outer, inner = (0.98, 0.05) if mark.shade == "bright" else (0.02, 0.95)
        for alpha, value in ((strength * inside, inner), (strength * cover, outer)):
            image = image * (1 - alpha) + value * alpha
        share = np.maximum(cover, inside).reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean(axis=(1, 3))
        patches[share > min(0.06, 0.5 * share.max())] = mark.classes
    gain, noise = rng.uniform(0.8, 1.05), rng.uniform(0, 0.05)
    image = gain * image + noise * rng.standard_normal(image.shape).astype(np.float32)
    return Scene((np.clip(image, 0, 1) * 255).astype(np.uint8), background, body, tuple(marks), patches)


PATCH_CLASSES = {"kind": 1 + len(MARKS), "shade": 1 + len(SHADES), "size": 1 + len(SIZES)}
SCENE_CLASSES = {"background": len(BACKGROUNDS), "body": len(BODIES), "count": len(NUMBERS)}


def scene_labels(scene: Scene) -> tuple[int, int, int]:
    """The classes of the whole scene, in the order of SCENE_CLASSES."""
    return BACKGROUNDS.index(scene.background), BODIES.index(scene.body), len(scene.marks)
