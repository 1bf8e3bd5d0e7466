"""The words of radiology as names of what shapes_world.py draws, and questions with them.

The last part of pre-training. A large model has read these words long before it sees a radiograph; the tiny one has
them here as names of other things: "axial" of wavy backgrounds, "knee" of arches. So the words are familiar, and what
they look like in radiographs is not. Sides are those of a patient who faces the reader: the left of the picture is
right.
"""

import numpy as np
import shapes_text
from shapes_text import OPPOSITE, pick
from shapes_world import BACKGROUNDS, BODIES, FRAMES, MARKS, Scene

from tfds_builders.phantom_rad.attributes import article

# kind of question -> what is drawn -> its name
NAMES = {
    "modality": dict(zip(FRAMES, ("X-ray", "CT", "MRI"), strict=True)),
    "plane": dict(zip(BACKGROUNDS, ("frontal", "coronal", "posterior", "sagittal", "axial", "lateral"), strict=True)),
    "region": dict(zip(BODIES[:-1], ("head", "abdomen", "chest", "pelvis", "knee"), strict=True)),
    "finding": dict(
        zip(
            MARKS,
            ("nodule", "cyst", "mass", "stone", "hematoma", "calcification", "infarct", "fracture", "effusion"),
            strict=True,
        )
    ),
    "side": {"left": "right", "right": "left"},
    "size": {"small": "small", "large": "large"},
}
# Questions by their kind; {m} is "lesion" or its name, {w} a name that may be true, {a} the same with its article.
OPEN = {
    "modality": ("What modality is this?", "Which imaging modality was used?", "Which modality was used here?"),
    "plane": ("What plane is this?", "Which imaging plane is shown?", "In which plane was this image taken?"),
    "region": ("What body region is shown?", "Which part of the body is shown?", "Which region of the body is this?"),
    "finding": ("What lesion is seen?", "What is the main finding?", "What kind of abnormality is this?"),
    "side": ("On which side is the {m}?", "Which side of the patient has the {m}?", "Which side is affected?"),
    "size": ("How large is the {m}?", "What is the size of the {m}?"),
}
CLOSED = {
    "modality": ("Is this {a}?", "Is this {a} image?", "Was this image taken with {w}?"),
    "plane": ("Is this {a} image?", "Is the plane {w}?", "Is this {a} view?"),
    "region": ("Is this the {w}?", "Does this image show the {w}?", "Is this an image of the {w}?"),
    "finding": ("Is there {a}?", "Does the image show {a}?", "Is the lesion {a}?"),
    "side": ("Is the {m} on the {w} side?", "Is the {w} side affected?", "Is the patient's {w} side affected?"),
    "size": ("Is the {m} {w}?", "Is this a {w} {m}?"),
}
# (question, the answer if there is a mark)
ANY = (
    ("Is there an abnormality?", "yes"),
    ("Is this image abnormal?", "yes"),
    ("Is this image normal?", "no"),
    ("Does this image look normal?", "no"),
)


def _about(texts: tuple[str, ...], lesion: str) -> tuple[str, ...]:
    """The texts that can be asked: those that name the lesion, if it is one of several."""
    return texts if lesion == "lesion" else tuple(text for text in texts if "{m}" in text)


def _pair(rng: np.random.Generator, kind: str, value: str, lesion: str = "lesion") -> tuple[str, str, str]:
    """An open question or a yes/no question, which is true half of the time; (kind, question, answer)."""
    name = NAMES[kind][value]
    if rng.random() < 0.4:
        return f"open {kind}", pick(rng, _about(OPEN[kind], lesion)).format(m=lesion), name
    return _closed(rng, kind, name, lesion, true=bool(rng.random() < 0.5))


def _closed(rng: np.random.Generator, kind: str, name: str, lesion: str, *, true: bool) -> tuple[str, str, str]:
    asked = name if true else pick(rng, tuple(other for other in NAMES[kind].values() if other != name))
    text = pick(rng, _about(CLOSED[kind], lesion)).format(m=lesion, w=asked, a=article(asked))
    return f"closed {kind}", text, "yes" if true else "no"


def questions(rng: np.random.Generator, scene: Scene) -> list[tuple[str, str, str]]:
    """(kind, prefix, suffix) about a scene: modality, plane, region, whether it is normal, and what can be named."""
    text, answer = ANY[rng.integers(len(ANY))]
    asked = [("any", text, answer if scene.marks else OPPOSITE[answer])]
    asked += [_pair(rng, "modality", scene.frame), _pair(rng, "plane", scene.background)]
    if scene.body in NAMES["region"]:
        asked.append(_pair(rng, "region", scene.body))
    kinds = [mark.kind for mark in scene.marks]
    for mark in scene.marks:
        if kinds.count(mark.kind) == 1:
            lesion = "lesion" if len(kinds) == 1 else NAMES["finding"][mark.kind]
            asked += [_pair(rng, "side", mark.side, lesion), _pair(rng, "size", mark.size, lesion)]
    if len(kinds) == 1:
        asked += [
            _pair(rng, "finding", kinds[0]),
            _pair(rng, "finding", kinds[0]),
            _pair(rng, "side", scene.marks[0].side),
        ]
    return [(kind, f"answer en {question}", suffix) for kind, question, suffix in asked]


def draw_task(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    """One pair: two of three times with these names, else as in shapes_text.py, but never about a side."""
    if rng.random() < 2 / 3:
        pairs = questions(rng, scene)
        return pairs[rng.integers(len(pairs))][1:]
    while True:
        prefix, suffix = shapes_text.draw_task(rng, scene)
        if not {"left", "right"} & set(f"{prefix} {suffix}".split()) or "Repeat" in prefix:
            return prefix, suffix
