"""Data sets, what is taken from them, how rows become tokens, and what splits may share."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import Angle, Below1, Count, Factor, Seed, Share, Weight

SUSPECT_BITS = 64  # from here on two unrelated images may look alike to a perceptual hash (data/image_hashes.py)


@dataclass(frozen=True)
class FilterConfig:
    """Which rows of a source stay: those for which every condition holds that is given."""

    field: str = (
        ""  # a text feature: organ, modality, language, answer_type, answer, or one that the data set alone has
    )
    values: tuple[str, ...] = ()  # one of these, whatever the case of letters
    exclude: bool = False  # none of `values` instead
    min_count: Count = 0  # values that occur at least so often among the rows at hand
    most_common: Count = 0  # the so many most common values
    count_by: Literal["rows", "images", "cases"] = "rows"  # what min_count and most_common count
    min_words: Count = 0  # words of the field
    max_words: Count = 0  # 0 = any number


@dataclass(frozen=True)
class SourceConfig:
    """One data set in a mixture."""

    dataset: str = ""  # a name in tfds_builders/
    builder_config: str = ""  # of the builder; empty = its default
    split: str = "train"  # train, validation or test
    task: Literal["vqa", "caption"] = "vqa"  # question and answer, or the caption of an image
    where: tuple[FilterConfig, ...] = ()  # applied in this order
    limit: Count = 0  # first so many rows after a seeded shuffle; 0 = all
    weight: Weight = 1.0  # share of the mixture, relative to the other sources
    count: Count = 0  # instead of a weight: rows drawn from it in the whole stage, exactly
    # How the weight changes: (share of training done, factor on weight); the first factor holds before its point, the
    # last one after it. `piecewise` keeps a factor until the next point, `linear` and `cosine` go over to it. With a
    # count the points say when its rows come.
    anneal: Literal["constant", "piecewise", "linear", "cosine"] = "constant"
    points: tuple[tuple[Share, Factor], ...] = ()  # (share of training done, factor on weight)
    prompt: str = ""  # task=caption: what asks for the caption; empty = "caption" and the row's language


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images, none by default. Left becomes right only under `flip_left_right`."""

    rotate: Angle = 0.0  # up to so many degrees either way
    crop: Below1 = 0.0  # up to this share of height and of width is cut off
    brightness: Below1 = 0.0  # a factor in 1 -/+ this
    contrast: Below1 = 0.0  # a factor in 1 -/+ this
    flip_left_right: bool = False  # half of the images; makes `left` and `right` in questions and answers wrong


@dataclass(frozen=True)
class DataConfig:
    """Where data sets are, and how rows become tokens."""

    data_dir: str = "~/tensorflow_datasets"  # where prepared data sets lie
    manual_dir: str = ""  # official files: a folder for one data set, or one that holds a folder for each
    allow_count_mismatch: bool = False  # build files that are not the whole official release
    download: bool = False  # download what a given manual_dir lacks; without a manual_dir that is done anyway
    rebuild: bool = False  # prepare anew; the data set that is there is kept until the new one is whole
    # Bits of grey images whose pixels lie in 16: 12 spreads 0..4095 over black to white. 0 = all 16.
    bit_depth: Annotated[int, Interval(ge=0, le=16)] = 0
    # The data set `table`: your own folder, or one archive, with one table (tfds_builders/table/README.md).
    name: str = ""  # of the table; where a source names none, this one is meant
    columns: tuple[tuple[str, str], ...] = ()  # (feature, column), where a column is not called as its feature
    table: str = ""  # the file, where the folder holds several
    split_seed: Seed = 0  # of the split into train, validation and test, where the table has none
    window: str = ""  # of DICOM files: empty = each file's own, or a name in data/dicom_window.py for CT, such as lung
    hash_ids: bool = False  # ids of cases, images and questions become keyed hashes; no file name is kept
    prompt: str = "answer en {question}"  # what the model is asked
    seq_len: Annotated[int, Interval(ge=8)] = 128  # text tokens, BOS to EOS
    overlong: Literal["error", "reject", "cut"] = "reject"  # an answer that does not fit; `cut` keeps its EOS
    # A question that does not fit is never cut: `reject` leaves it out and counts it, in training and evaluation.
    overlong_question: Literal["error", "reject"] = "reject"
    workers: Count = 0  # worker processes that decode images; 0 = threads of this process
    image_cache_mb: Count = 512  # resized images kept in memory where several rows share one; of all workers together
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class AuditConfig:
    """What the splits may share. Training stops before its first step at a leak that is not accepted by name."""

    # Leaks to go on with, each as "slake/zh:train~slake/en:test"; `slake:train` is that of the default builder config.
    accept: tuple[str, ...] = ()
    also_evaluate: tuple[SourceConfig, ...] = ()  # sets that are compared beside eval.source
    # Two images are nearly the same if so many of the 256 bits of their perceptual hashes differ, or fewer; the choice
    # is measured in data/image_hashes.py.
    near_bits: Count = 20
