"""Attention maps, how they are measured, and questions about one image."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SaliencyConfig:
    """Which cases get maps, and how they are made."""

    cases: int = 4
    residual: float = 0.5  # weight of the identity in rollout
    head_fusion: Literal["mean", "max", "min"] = "mean"
    start_layer: int = 0
    discard: float = 0.0  # rollout: share of each row's entries, the smallest, that is left out
    layers: tuple[int, ...] = ()  # raw attention and value norms: mean over these layers; empty = all
    # mode=saliency and mode=ask: folders of adapters to look at beside base and adapter, such as one without stage 1.
    beside: tuple[str, ...] = ()
    # raw, value_norm, rollout, relevancy; with `_vision` at its end a map goes through the vision tower's own rollout.
    methods: tuple[str, ...] = ("raw", "rollout", "rollout_vision", "relevancy")


@dataclass(frozen=True)
class QualityConfig:
    """mode=saliency_quality: how attention maps are measured against masks or boxes."""

    cases: int = 200  # questions, at most; only rows with a mask or boxes count
    question_types: tuple[str, ...] = ()  # of the data set; empty = all. Ask only about what the mask marks.
    answer: Literal["own", "reference"] = "own"  # which answer is teacher-forced: the model's, or the data set's
    batch_size: int = 16
    steps: int = 8  # points of a deletion or insertion curve beside the untouched image
    random_orders: int = 3  # random orders that deletion and insertion are compared with
    curve_cases: int = 64  # cases that get curves and one-pixel shifts
    random_label_steps: int = 0  # train stage2 again on shuffled answers for so many steps; 0 = leave the check out
    bootstrap: int = 2000  # resamples for intervals, over images


@dataclass(frozen=True)
class AskConfig:
    """mode=ask: one image and a question."""

    image: str = ""  # an image or a DICOM file
    question: str = ""
    frame: int = 1  # of a DICOM file with several
    window: str = ""  # of a DICOM file: empty = its own, or lung, mediastinum, abdomen, bone, brain, … for CT
    samples: int = 5  # answers drawn beside the greedy one, to see whether they agree
    temperature: float = 1.0  # of these samples
    # An answer that the answer is held against in the viewer; empty = no for yes, yes for no, else what the base says.
    other: str = ""
