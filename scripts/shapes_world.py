"""Simple grey pictures and questions about them: the task on which the tiny PaliGemma is pre-trained.

A scene has a background pattern, perhaps one large body, and up to three small marks on it. Nothing here is
radiological: the marks are discs, rings, crosses and the like. It teaches what any later task needs: contrast, texture,
form, place, size, number, "yes" and "no", and to spell words (by copying them).
"""

from typing import NamedTuple

import numpy as np

SIZE = 112  # pixels
BACKGROUNDS = ("plain", "noise", "gradient", "stripes", "waves", "spots")
BODIES = ("oval", "box", "pair", "bell", "arch", "none")
MARKS = ("disc", "ring", "square", "cross", "line", "dots", "wedge")
SHADES = ("bright", "dark")
SIZES = ("small", "large")
NUMBERS = ("no", "one", "two", "three")

# Words that the model shall be able to write, learned by copying alone: their use is taught by the later stages.
WORDS = tuple(
    """yes no left right upper lower middle center small large medium bright dark round long none normal abnormal
    healthy X-ray CT MRI ultrasound chest abdomen head brain knee pelvis hand foot spine neck heart lung lungs liver
    kidney spleen stomach bone rib skull bladder nodule mass cyst effusion pneumothorax fracture calcification
    hemorrhage hematoma edema tumor lesion opacity consolidation stone infarct atrophy cardiomegaly pneumonia axial
    coronal sagittal frontal lateral plane side image scan film slice contrast T1 T2 weighted fluid air fat soft tissue
    acute chronic mild severe bilateral unilateral diffuse focal anterior posterior superior inferior medial lobe hilum
    diaphragm aorta trachea mediastinum ventricle cortex white gray matter vessel artery vein bowel colon appendix
    gallbladder pancreas uterus prostate femur tibia joint disc vertebra cerebellum temporal frontal parietal occipital
    abnormality finding visible seen present absent shows located part body region organ modality imaging picture
    enlarged dilated thickened displaced calcified enhanced hyperdense hypodense ring shadow midline shift""".split()
)
# Words of ordinary questions: they shape the tokenizer and are copied, too.
FUNCTION_WORDS = tuple(
    """what which where when why who how many much does do are was were can could is it there this that these those the
    of in on at to from with without and or not any all some more than most least between above below behind near
    inside outside patient person man woman child age old year day taken type kind name cause reason describe explain
    identify evidence suggest consistent likely possible diagnosis disease condition treatment history size shape
    color density intensity signal area structure object line border margin edge wall space level view position first
    second third number multiple single both each other same different""".split()
)


class Mark(NamedTuple):
    """One small thing: what, where (fractions of the picture), how large (radius in pixels) and which shade."""

    kind: str
    x: float
    y: float
    size: str
    shade: str


class Scene(NamedTuple):
    """A picture and what is in it."""

    image: np.ndarray  # uint8 [SIZE SIZE]
    background: str
    body: str
    marks: list[Mark]


_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE


def _soft(distance: np.ndarray, blur: float = 0.012) -> np.ndarray:
    """Returns 1 inside (distance < 0), 0 outside, with a soft edge."""
    return np.clip(0.5 - distance / blur, 0, 1)


def _background(rng: np.random.Generator, kind: str) -> np.ndarray:
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.08, 0.2)
    along = _X * np.cos(angle) + _Y * np.sin(angle)
    level = rng.uniform(0.05, 0.45)
    if kind == "plain":
        return np.full_like(_X, level)
    if kind == "noise":
        return level + 0.16 * rng.standard_normal(_X.shape).astype(np.float32)
    if kind == "gradient":
        return 0.05 + 0.5 * (along - along.min()) / np.ptp(along)
    if kind == "stripes":
        return level + 0.12 * np.sign(np.sin(2 * np.pi * along / period))
    if kind == "waves":
        across = -_X * np.sin(angle) + _Y * np.cos(angle)
        return level + 0.1 * (np.sin(2 * np.pi * along / period) + np.sin(2 * np.pi * across / (period * 1.3)))
    coarse = rng.random((14, 14)).astype(np.float32)
    return level + 0.3 * (np.kron(coarse, np.ones((8, 8), np.float32)) > 0.75)


def _body(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Returns the body's coverage in [0, 1]."""
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


def _mark(rng: np.random.Generator, mark: Mark) -> np.ndarray:
    """Returns the mark's coverage in [0, 1]."""
    r = {"small": rng.uniform(0.045, 0.06), "large": rng.uniform(0.1, 0.13)}[mark.size]
    x, y = _X - mark.x, _Y - mark.y
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    radius = np.sqrt(x**2 + y**2)
    if mark.kind == "disc":
        return _soft(radius - r)
    if mark.kind == "ring":
        return _soft(np.abs(radius - r) - 0.016)
    if mark.kind == "square":
        return _soft(np.maximum(np.abs(u), np.abs(v)) - r * 0.9)
    if mark.kind == "cross":
        arm = 0.3 * r
        bars = (np.maximum(np.abs(u) - r, np.abs(v) - arm), np.maximum(np.abs(v) - r, np.abs(u) - arm))
        return _soft(np.minimum(*bars))
    if mark.kind == "line":
        return _soft(np.maximum(np.abs(u) - 1.6 * r, np.abs(v) - 0.012))
    if mark.kind == "dots":
        centers = rng.uniform(-r, r, (7, 2))
        near = np.min([np.hypot(x - dx, y - dy) for dx, dy in centers], axis=0)
        return _soft(near - 0.013)
    return _soft(np.maximum(np.maximum(-y - r, y - r), np.abs(x) - 0.5 * (y + r)))  # wedge


def _clutter(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Returns the picture with a few faint large ovals, arches and bars that no question asks about."""
    for _ in range(rng.integers(0, 6)):
        angle, (cx, cy) = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9, 2)
        x, y = _X - cx, _Y - cy
        u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        a, b = rng.uniform(0.12, 0.4), rng.uniform(0.04, 0.3)
        oval = np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1
        thin = rng.uniform(0.02, 0.05) / min(a, b)
        distance = (oval, np.abs(oval) - thin, np.maximum(np.abs(u) - a, np.abs(v) - 0.15 * b))[rng.integers(3)]
        alpha = rng.uniform(0.3, 0.9) * _soft(distance * min(a, b), rng.uniform(0.01, 0.05))
        image = image * (1 - alpha) + rng.uniform(0.15, 0.8) * alpha
    return image


def make_scene(rng: np.random.Generator, *, clutter: bool = False) -> Scene:
    """Returns a random scene; marks are kept apart and off the middle line, so that left and right are clear."""
    background, body = str(rng.choice(BACKGROUNDS)), str(rng.choice(BODIES))
    image = _background(rng, background)
    cover, level = _body(rng, body), rng.uniform(0.45, 0.7)
    image = image * (1 - cover) + level * cover
    if clutter:
        image = _clutter(rng, image)
    marks: list[Mark] = []
    for _ in range(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1])):
        side = rng.choice([-1, 1])
        x, y = 0.5 + side * rng.uniform(0.1, 0.33), rng.uniform(0.18, 0.82)
        if all(np.hypot(x - m.x, y - m.y) > 0.28 for m in marks):
            marks.append(Mark(str(rng.choice(MARKS)), x, y, str(rng.choice(SIZES)), str(rng.choice(SHADES))))
    for mark in marks:
        alpha = _mark(rng, mark) * rng.uniform(0.75, 1.0)
        image = image * (1 - alpha) + (0.98 if mark.shade == "bright" else 0.02) * alpha
    gain, noise = rng.uniform(0.8, 1.05), rng.uniform(0, 0.06)
    image = gain * image + noise * rng.standard_normal(image.shape).astype(np.float32)
    return Scene((np.clip(image, 0, 1) * 255).astype(np.uint8), background, body, marks)


# A patch's class is 0 without a mark, else 1 + its place in (kind, shade, size).
PATCH_CLASSES = 1 + len(MARKS) * len(SHADES) * len(SIZES)


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """Returns the class of each patch, int [grid * grid]; a mark covers the patches whose centre is near its own."""
    labels = np.zeros((grid, grid), np.int32)
    center = (np.arange(grid) + 0.5) / grid
    for m in scene.marks:
        reach = max(0.5 / grid, 0.06 if m.size == "small" else 0.1)
        near = np.maximum(np.abs(center[None] - m.x), np.abs(center[:, None] - m.y)) <= reach
        index = (MARKS.index(m.kind) * len(SHADES) + SHADES.index(m.shade)) * len(SIZES) + SIZES.index(m.size)
        labels[near] = 1 + index
    return labels.ravel()


SCENE_CLASSES = {"background": len(BACKGROUNDS), "body": len(BODIES), "count": len(NUMBERS)} | dict.fromkeys(
    ("left", "right", "upper", "lower", *SHADES, *SIZES, *MARKS), 2
)


def scene_labels(scene: Scene) -> dict[str, int]:
    """Returns the class of each thing in SCENE_CLASSES: patterns, number, and whether some mark is so."""
    said = {word for m in scene.marks for word in (m.kind, m.size, m.shade, *_where(m).split())}
    classes = {
        "background": BACKGROUNDS.index(scene.background),
        "body": BODIES.index(scene.body),
        "count": len(scene.marks),
    }
    return classes | {name: int(name in said) for name in SCENE_CLASSES if name not in classes}


def _where(mark: Mark) -> str:
    return f"{'upper' if mark.y < 0.5 else 'lower'} {side(mark)}"


def side(mark: Mark) -> str:
    """Returns left or right, as seen in the picture."""
    return "left" if mark.x < 0.5 else "right"


def caption(scene: Scene) -> str:
    """Returns one sentence about everything in the scene."""
    body = "nothing" if scene.body == "none" else f"a {scene.body}"
    text = f"{body} on {scene.background}"
    return text + "".join(f", a {m.size} {m.shade} {m.kind} {_where(m)}" for m in scene.marks)


def questions(rng: np.random.Generator, scene: Scene) -> list[tuple[str, str]]:
    """Returns (prefix, suffix) pairs about a scene; closed questions are true half of the time."""
    pairs = [
        ("What is the background?", scene.background),
        ("What is the large body?", scene.body),
        ("How many marks are there?", NUMBERS[len(scene.marks)]),
        ("Is there a mark?", "yes" if scene.marks else "no"),
    ]
    kinds = {m.kind for m in scene.marks}
    absent = [kind for kind in MARKS if kind not in kinds]
    for kind in (*kinds, str(rng.choice(absent))):
        pairs.append((f"Is there a {kind}?", "yes" if kind in kinds else "no"))
    guess = scene.background if rng.random() < 0.5 else str(rng.choice(BACKGROUNDS))
    pairs.append((f"Is the background {guess}?", "yes" if guess == scene.background else "no"))
    for mark in scene.marks:
        name = "mark" if len(scene.marks) == 1 else mark.kind
        if name != "mark" and [m.kind for m in scene.marks].count(mark.kind) > 1:
            continue
        guess = str(rng.choice(("left", "right")))
        pairs += [
            (f"Which side is the {name} on?", side(mark)),
            (f"Is the {name} on the {guess} side?", "yes" if guess == side(mark) else "no"),
            (f"Where is the {name}?", _where(mark)),
            (f"Is the {name} small or large?", mark.size),
            (f"Is the {name} bright or dark?", mark.shade),
        ]
        if name == "mark":
            pairs.append(("What is the mark?", mark.kind))
    rows = [(f"answer en {question}", answer) for question, answer in pairs]
    if len(scene.marks) < 2:
        rows.append(("caption en", caption(scene)))
    return [*rows, copy_task(rng)] if rng.random() < 0.4 else rows


def copy_task(rng: np.random.Generator) -> tuple[str, str]:
    """Returns a pair that has the model spell a few words."""
    words = " ".join(rng.choice(WORDS + FUNCTION_WORDS, rng.integers(1, 3)))
    return f"answer en Repeat: {words}", words


def corpus(seed: int, scenes: int) -> list[str]:
    """Returns sentences for the tokenizer: everything the scenes say, and every word."""
    rng = np.random.default_rng(seed)
    lines = [text for _ in range(scenes) for pair in questions(rng, make_scene(rng)) for text in pair]
    frames = ("Is there a {}?", "What {} is shown in this image?", "Is the {} on the left side of this picture?", "{}")
    words = [frame.format(word) for word in WORDS for frame in frames for _ in range(3)]
    return lines + words + [f"{a} {b}" for a in FUNCTION_WORDS for b in FUNCTION_WORDS[:8]]
