"""The questions about an image, of the kinds that SLAKE has, and their balance.

No question may be answered from its wording alone: `Balance` gives each yes/no wording as many yes as no, and each open
wording its answers evenly.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tfds_builders.phantom_rad.attributes import FINDINGS, SIDES, SIZES, VIEWS, Attributes, article

QuestionType = Literal["modality", "plane", "organ", "abnormality", "finding", "side", "size"]

MODALITIES = tuple(sorted({view.modality for view in VIEWS}))
PLANES = tuple(sorted({view.plane for view in VIEWS}))
ORGANS = tuple(sorted({view.organ for view in VIEWS}))
SCANS = {"CT": "CT scan", "MRI": "MRI scan", "X-ray": "X-ray"}

OPEN: dict[str, tuple[str, ...]] = {
    "modality": ("What imaging modality is this?", "Which modality was used to take this image?"),
    "plane": ("What imaging plane is this?", "In which plane was this image taken?"),
    "organ": ("What body region is shown?", "Which part of the body is this?", "Which region of the body was imaged?"),
    "finding": ("What abnormality is seen?", "What is the main finding?", "What kind of lesion is this?"),
    "side": ("On which side is the lesion?", "Which side of the patient is affected?"),
    "size": ("How large is the lesion?", "What is the size of the lesion?"),
}

# (wording, the answer if the image is abnormal)
ABNORMALITY = (
    ("Is there an abnormality in this image?", "yes"),
    ("Is this image abnormal?", "yes"),
    ("Does this image look normal?", "no"),
)

# kind -> value -> wordings with the answer yes if the image has that value
CLOSED: dict[str, dict[str, tuple[str, ...]]] = {
    "modality": {m: (f"Is this {article(SCANS[m])}?", f"Was this image taken with {m}?") for m in MODALITIES},
    "plane": {p: (f"Is this {article(p)} image?", f"Is the imaging plane {p}?") for p in PLANES},
    "organ": {o: (f"Does this image show the {o}?", f"Is this an image of the {o}?") for o in ORGANS},
    "finding": {f: (f"Is there {article(f)}?", f"Does the image show {article(f)}?") for f in FINDINGS},
    "side": {s: (f"Is the lesion on the {s} side?", f"Is the patient's {s} side affected?") for s in SIDES},
    "size": {s: (f"Is the lesion {s}?", f"Is this a {s} lesion?") for s in SIZES},
}
OPPOSITE = {"yes": "no", "no": "yes"}


class Question(NamedTuple):
    """One question about one image and its reference answer."""

    question_type: str
    question: str
    answer: str

    @property
    def closed(self) -> bool:
        """Whether the answer is yes or no."""
        return self.answer in OPPOSITE


class Balance:
    """Counts the choices under each key, and chooses the option that was chosen least."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._count: dict[Hashable, Counter[str]] = defaultdict(Counter)

    def pick(self, options: Sequence[str], keys: Iterable[Hashable], *, weights: dict[str, float] | None = None) -> str:
        """The option that is rarest under the keys, relative to its weight; ties are drawn. Counts it."""
        keys, weights = list(keys), weights or {}
        cost = [sum(self._count[key][option] for key in keys) / weights.get(option, 1.0) for option in options]
        best = [option for option, value in zip(options, cost, strict=True) if value <= min(cost) + 1e-9]
        chosen = best[self._rng.integers(len(best))]
        for key in keys:
            self._count[key][chosen] += 1
        return chosen

    def ask(self, options: Sequence[Question]) -> Question:
        """The question whose wording has had its answer too rarely, compared with the others. Counts it."""

        def surplus(option: Question) -> int:
            count = self._count[option.question]
            return count[option.answer] - (count[OPPOSITE[option.answer]] if option.closed else 0)

        cost = [surplus(option) for option in options]
        best = [option for option, value in zip(options, cost, strict=True) if value == min(cost)]
        chosen = best[self._rng.integers(len(best))]
        self._count[chosen.question][chosen.answer] += 1
        return chosen


def values(attributes: Attributes) -> dict[str, str]:
    """The image's value of each kind of question; kinds that do not apply to it are absent."""
    view = attributes.view
    found = {"modality": view.modality, "plane": view.plane, "organ": view.organ}
    lesion = {"finding": attributes.finding, "side": attributes.side, "size": attributes.size}
    return found | {kind: value for kind, value in lesion.items() if value}


def open_options(kind: str, value: str) -> list[Question]:
    """The open wordings of a kind."""
    return [Question(kind, text, value) for text in OPEN[kind]]


def closed_options(kind: str, value: str) -> list[Question]:
    """All yes/no wordings of a kind, answered for an image that has `value` ("" = none of them)."""
    return [
        Question(kind, text, "yes" if asked == value else "no")
        for asked, texts in CLOSED[kind].items()
        for text in texts
    ]


def ask_all(attributes: Attributes, balance: Balance) -> list[Question]:
    """The questions about one image: four to eight.

    Modality, plane, organ, side and size get one question each, open or closed. The finding of an abnormal image gets
    an open question, and in three of four images a closed one. Only one normal image in four gets a closed question
    about a finding, because its answer is always no: with more of them, abnormal images could not balance it with yes.
    """
    have = values(attributes)
    questions = []
    for kind in ("modality", "plane", "organ", "side", "size"):
        if kind in have:
            form = balance.pick(("open", "closed"), [("form", kind, have[kind])])
            options = (open_options if form == "open" else closed_options)(kind, have[kind])
            questions.append(balance.ask(options))
    abnormal = bool(attributes.finding)
    abnormality = [
        Question("abnormality", text, answer if abnormal else OPPOSITE[answer]) for text, answer in ABNORMALITY
    ]
    questions.append(balance.ask(abnormality))
    if abnormal:
        questions.append(balance.ask(open_options("finding", attributes.finding)))
    share = {"asked": 0.75, "left out": 0.25} if abnormal else {"asked": 0.25, "left out": 0.75}
    if balance.pick(tuple(share), [("finding asked", attributes.finding)], weights=share) == "asked":
        questions.append(balance.ask(closed_options("finding", attributes.finding)))
    return questions
