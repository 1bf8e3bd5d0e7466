"""Fields for attention maps, their measurement, and questions about one image."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import MOST_ROWS, Above0, Below1, Count, Positive, Resamples, Rows


@dataclass(frozen=True)
class SaliencyConfig:
    """The cases that get maps, and the settings of the maps."""

    cases: Count = 4  # number of questions that get maps
    residual: Below1 = 0.5  # weight of the identity in rollout
    head_fusion: Literal["mean", "max", "min"] = "mean"  # rollout: how the heads of a layer are combined
    start_layer: Count = 0  # rollout: the first layer that is used
    discard: Below1 = 0.0  # rollout: share of each row's entries to drop, the smallest first
    layers: tuple[Count, ...] = ()  # methods by layer: average over these layers; empty = all
    # occlusion, knockout: number of windows along each side of the image, covered or hidden in turn.
    windows: Positive = 8
    knockout_layers: tuple[Count, ...] = ()  # layers in which the answer cannot read a window; empty = all
    # Patches to cover, and to hide from the answer, in every case: `marked` (by the mask), or a rectangle of patches
    # `row,column,row,column`, counted from 1. The viewer shows how much log-probability the answer loses.
    patches: tuple[str, ...] = ()
    # mode=saliency and mode=ask: folders of further adapters to compare with, such as one trained without stage 1.
    beside: tuple[str, ...] = ()
    # Names in saliency/methods.py. The suffix `_vision` adds the vision tower's own rollout. Costly methods (relevancy,
    # occlusion, knockout, lens) and scores are computed only if named here.
    methods: tuple[str, ...] = ("raw", "rollout", "rollout_vision", "relevancy")


@dataclass(frozen=True)
class QualityConfig:
    """mode=saliency_quality: how attention maps are compared with masks or boxes."""

    cases: Positive = 200  # most questions to measure; only rows with a mask or boxes count
    question_types: tuple[
        str, ...
    ] = ()  # question types of the data set; empty = all. Choose those that ask about the masked finding.
    answer: Literal["own", "reference"] = "own"  # the teacher-forced answer: the model's own, or the data set's
    # Names in saliency/methods.py, each measured with and without the vision tower; empty = all that need no second
    # answer. occlusion and knockout together cost 2 x saliency.windows^2 passes per batch.
    methods: tuple[str, ...] = ()
    batch_size: Rows = 16  # questions per batch
    steps: Annotated[int, Interval(ge=2, le=MOST_ROWS)] = (
        8  # points of a deletion or insertion curve, without the untouched image
    )
    random_orders: Positive = 3  # random orders to compare deletion and insertion with
    # Cases, rounded up to whole batches, that also get deletion and insertion curves, one-pixel shifts, and tests with
    # their marked patches covered and hidden from the answer.
    curve_cases: Positive = 64
    shuffled_image_steps: Count = 0  # steps of a control run of the last stage on shuffled images; 0 = no such check
    bootstrap: Resamples = 2000  # bootstrap resamples of images, for the intervals


@dataclass(frozen=True)
class AskConfig:
    """mode=ask: one image and a question."""

    image: str = ""  # an image or a DICOM file
    question: str = ""  # the question about the image
    frame: Positive = 1  # frame of a multi-frame DICOM file, counted from 1
    # Window of a DICOM file: empty = the file's own, or lung, mediastinum, abdomen, bone, brain, … for CT.
    window: str = ""
    samples: Rows = 5  # answers to sample in addition to the greedy one, to see whether they agree
    temperature: Above0 = 1.0  # sampling temperature of these samples
    # The answer that the viewer contrasts with the model's; empty = no for yes, yes for no, else the base model's.
    other: str = ""
