"""The plan of a split: the content of every image and the questions about it, decided before anything is drawn.

The plan follows from (seed, split); the pixels of an image follow from its content and (seed, patient, image number).
"""

from typing import NamedTuple

import numpy as np

from tfds_builders.phantom_rad.anatomy import Body
from tfds_builders.phantom_rad.attributes import SIDES, SIZES, VIEWS, Attributes, View
from tfds_builders.phantom_rad.questions import Balance, Question, ask_all
from tfds_builders.phantom_rad.render import Phantom, render_case

SPLITS = ("train", "validation", "test")
PATIENTS_PER_SPLIT = 100_000  # patients of a split are numbered from a multiple of this, so no two splits share one
PLAN_STREAM = 2**31  # apart from patient numbers, so that plans and pixels draw from different streams

# Only a third of the views show a bone that can break. With this weight there, one lesion in seven is a fracture.
FRACTURE_WEIGHT = 3.0


class PlannedImage(NamedTuple):
    """One image to draw, and its questions."""

    patient: int
    number: int  # of the image within the patient
    attributes: Attributes
    questions: tuple[Question, ...]

    @property
    def case_id(self) -> str:
        """The id of the phantom patient."""
        return f"phantom-{self.patient:06d}"

    @property
    def image_id(self) -> str:
        """The id of the image."""
        return f"{self.case_id}-{self.number}"

    def question_id(self, index: int) -> str:
        """The id of one of its questions."""
        return f"{self.image_id}-q{index}"


def _plan_attributes(view: View, balance: Balance) -> Attributes:
    """The content of an image of this view, chosen so that all combinations are about equally frequent."""
    status = balance.pick(("normal", "abnormal"), [("status", view), "status"])
    if status == "normal":
        return Attributes(view)
    weights = {"fracture": FRACTURE_WEIGHT}
    finding = balance.pick(view.findings, [("finding", view)], weights=weights)
    size = balance.pick(SIZES, [("size", view), ("size", finding), ("size", view.modality)])
    if not view.has_side:
        return Attributes(view, finding, "", size)
    side = balance.pick(SIDES, [("side", view), ("side", finding), ("side", size), ("side", view.modality)])
    return Attributes(view, finding, side, size)


def plan_split(split: str, images: int, *, seed: int = 0) -> list[PlannedImage]:
    """The images of a split; patients have one to three each.

    Args:
        split: one of SPLITS.
        images: their number.
        seed: of the whole data set.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown. Choose one of {SPLITS}.")
    if not 0 <= images <= PATIENTS_PER_SPLIT:
        raise ValueError(f"images={images} must be between 0 and {PATIENTS_PER_SPLIT}.")
    index = SPLITS.index(split)
    rng = np.random.default_rng([seed, PLAN_STREAM + index])
    balance = Balance(rng)
    # The order of views, and so the views of a patient, is random; all views are equally frequent.
    order = [VIEWS[k] for _ in range(-(-images // len(VIEWS))) for k in rng.permutation(len(VIEWS))][:images]
    planned: list[PlannedImage] = []
    patient, left, number = index * PATIENTS_PER_SPLIT - 1, 0, 0
    for view in order:
        if left == 0:
            patient, left, number = patient + 1, int(rng.integers(1, 4)), 0
        attributes = _plan_attributes(view, balance)
        planned.append(PlannedImage(patient, number, attributes, tuple(ask_all(attributes, balance))))
        left, number = left - 1, number + 1
    return planned


def draw_image(item: PlannedImage, *, seed: int = 0) -> Phantom:
    """The rendered image; it depends on its content, the seed, the patient and the number, not on other images."""
    body = Body.draw(np.random.default_rng([seed, item.patient, 0]))
    return render_case(np.random.default_rng([seed, item.patient, item.number + 1]), item.attributes, body=body)
