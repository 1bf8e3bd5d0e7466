"""Attention maps, how they are measured, and questions about one image."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import Above0, Below1, Count, Positive


@dataclass(frozen=True)
class SaliencyConfig:
    """Which cases get maps, and how they are made."""

    cases: Count = 4  # questions that get maps
    residual: Below1 = 0.5  # weight of the identity in rollout
    head_fusion: Literal["mean", "max", "min"] = "mean"  # rollout: how the heads of a layer become one
    start_layer: Count = 0  # rollout: the first layer that counts
    discard: Below1 = 0.0  # rollout: share of each row's entries, the smallest, that is left out
    layers: tuple[Count, ...] = ()  # methods by layer: mean over these layers; empty = all
    windows: Positive = 8  # occlusion, knockout: windows of patches along a side, each covered or hidden in turn
    knockout_layers: tuple[Count, ...] = ()  # in which the answer cannot read a window; empty = all
    # Patches that are covered, and hidden from the answer, in every case: `marked` (by the mask), or a rectangle of
    # patches `row,column,row,column`, counted from 1. What the answer loses stands among the facts of the viewer.
    patches: tuple[str, ...] = ()
    # mode=saliency and mode=ask: folders of adapters to look at beside base and adapter, such as one without stage 1.
    beside: tuple[str, ...] = ()
    # Names in saliency/methods.py; with `_vision` at its end a map goes through the vision tower's own rollout. Methods
    # that cost more than one pass (relevancy, occlusion, knockout, lens) and scores are computed only if named.
    methods: tuple[str, ...] = ("raw", "rollout", "rollout_vision", "relevancy")


@dataclass(frozen=True)
class QualityConfig:
    """mode=saliency_quality: how attention maps are measured against masks or boxes."""

    cases: Positive = 200  # questions, at most; only rows with a mask or boxes count
    question_types: tuple[str, ...] = ()  # of the data set; empty = all. Ask only about what the mask marks.
    answer: Literal["own", "reference"] = "own"  # which answer is teacher-forced: the model's, or the data set's
    # Names in saliency/methods.py, each measured with and without the vision tower; empty = all that need no other
    # answer. occlusion and knockout cost 2 x saliency.windows^2 passes a batch.
    methods: tuple[str, ...] = ()
    batch_size: Positive = 16  # questions at a time
    steps: Annotated[int, Interval(ge=2)] = 8  # points of a deletion or insertion curve beside the untouched image
    random_orders: Positive = 3  # random orders that deletion and insertion are compared with
    # Cases that get curves, one-pixel shifts, and the marked patches covered and hidden from the answer.
    curve_cases: Positive = 64
    random_label_steps: Count = 0  # train stage2 again on shuffled images for so many steps; 0 = leave the check out
    bootstrap: Positive = 2000  # resamples for intervals, over images


@dataclass(frozen=True)
class AskConfig:
    """mode=ask: one image and a question."""

    image: str = ""  # an image or a DICOM file
    question: str = ""  # what is asked about it
    frame: Positive = 1  # of a DICOM file with several
    window: str = ""  # of a DICOM file: empty = its own, or lung, mediastinum, abdomen, bone, brain, … for CT
    samples: Positive = 5  # answers drawn beside the greedy one, to see whether they agree
    temperature: Above0 = 1.0  # of these samples
    # An answer that the answer is held against in the viewer; empty = no for yes, yes for no, else what the base says.
    other: str = ""
