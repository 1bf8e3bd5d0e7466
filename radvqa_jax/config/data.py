"""Data sets, the rows to take from them, tokenisation, and what splits may share."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import MOST_TEXT, Angle, Below1, Count, Factor, Seed, Share, Weight

History = Literal["none", "references", "own"]

SUSPECT_BITS = 64  # at this distance perceptual hashes may confuse unrelated images (data/image_hashes.py)


@dataclass(frozen=True)
class FilterConfig:
    """The rows of a source to keep: those that meet every given condition."""

    field: str = (
        ""  # a text feature: organ, modality, language, answer_type, answer, or another feature of the data set
    )
    values: tuple[str, ...] = ()  # allowed values; case does not matter
    exclude: bool = False  # keep rows with none of `values` instead
    min_count: Count = 0  # keep values that occur at least this often among the remaining rows
    most_common: Count = 0  # keep this many of the most common values
    count_by: Literal["rows", "images", "cases"] = "rows"  # what min_count and most_common count
    min_words: Count = 0  # fewest words in the field
    max_words: Count = 0  # most words in the field; 0 = no limit


@dataclass(frozen=True)
class SourceConfig:
    """One data set in a mixture."""

    dataset: str = ""  # a name in tfds_builders/
    builder_config: str = ""  # the variant of the data set; empty = its first one
    split: str = "train"  # train, validation or test
    task: Literal["vqa", "caption"] = "vqa"  # question and answer, or image caption
    where: tuple[FilterConfig, ...] = ()  # filters, applied in this order
    limit: Count = 0  # number of rows, drawn by a seeded shuffle, with data.history conversations; 0 = all
    weight: Weight = 1.0  # share of the mixture, relative to the other sources
    count: Count = 0  # exact number of rows to draw in the whole stage, instead of a weight
    # How the weight changes between `points`. The first factor holds before its point, the last one after it.
    # `piecewise` keeps a factor until the next point; `linear` and `cosine` move towards it. With a count, the factors
    # spread its rows over the stage.
    anneal: Literal["constant", "piecewise", "linear", "cosine"] = "constant"
    points: tuple[tuple[Share, Factor], ...] = ()  # (share of training done, factor on weight)
    prompt: str = ""  # task=caption: the prompt; empty = "caption" and the row's language


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images, none by default. Only `flip_left_right` exchanges left and right."""

    rotate: Angle = 0.0  # largest angle in degrees, in either direction
    crop: Below1 = 0.0  # largest share of height and width to cut off
    brightness: Below1 = 0.0  # factor drawn from 1 ± this
    contrast: Below1 = 0.0  # factor drawn from 1 ± this
    flip_left_right: bool = False  # mirror half of the images; makes `left` and `right` in questions and answers wrong


@dataclass(frozen=True)
class DataConfig:
    """The folders of data sets, and the tokenisation of rows."""

    data_dir: str = "~/tensorflow_datasets"  # folder of prepared data sets
    manual_dir: str = ""  # folder of a data set's official files, or a folder with one such folder per data set
    allow_count_mismatch: bool = False  # build a data set from files that are not the whole official release
    # Download the files that a given manual_dir lacks. Without a manual_dir, missing files are always downloaded.
    download: bool = False
    rebuild: bool = False  # prepare the data set again; the old one is kept until the new one is complete
    # Bits in use in 16-bit grey images: 12 maps 0..4095 to black..white. 0 = all 16.
    bit_depth: Annotated[int, Interval(ge=0, le=16)] = 0
    # Name of a data set `table`: your own folder, or one archive, with one table (tfds_builders/table/README.md). It is
    # the builder_config of sources of `table` that give none.
    name: str = ""
    columns: tuple[tuple[str, str], ...] = ()  # (feature, column) for each column whose name differs from its feature's
    table: str = ""  # the file, if the folder has several tables
    split_seed: Seed = 0  # seed of the split into train, validation and test, if the table does not give it
    # Window of DICOM files: empty = each file's own, or a name in data/dicom_window.py for CT, such as lung. Files of
    # other kinds are shown with their own.
    window: str = ""
    hash_ids: bool = False  # replace ids of cases, images and questions by keyed hashes; keep no file name
    prompt: str = "answer en {question}"  # template of the prompt; it may also contain {choices} and {history}
    # What {history} is replaced by: nothing, or the earlier questions about the image, in the order of the data set,
    # with the reference answers or the model's own. Training always uses the reference answers. The oldest turns are
    # left out if the prompt would not fit seq_len.
    history: History = "none"
    seq_len: Annotated[int, Interval(ge=8, le=MOST_TEXT)] = 128  # text tokens of a row, BOS to EOS
    # What to do with an answer that does not fit; `cut` keeps its EOS.
    overlong: Literal["error", "reject", "cut"] = "reject"
    # What to do with a question that does not fit. A question is never cut; `reject` leaves it out and counts it.
    overlong_question: Literal["error", "reject"] = "reject"
    workers: Count = 0  # worker processes that decode images; 0 = threads of this process
    # Megabytes of memory, over all workers, that keep resized images for the next row with the same image.
    image_cache_mb: Count = 512
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class AuditConfig:
    """Accepted overlaps of splits. A leak that is not accepted by name stops training before its first step."""

    # Accepted leaks, each as "slake/zh:train~slake/en:test"; `slake:train` is a split of the default builder config.
    accept: tuple[str, ...] = ()
    also_evaluate: tuple[SourceConfig, ...] = ()  # sets to compare in addition to eval.source
    # Two images count as nearly the same if at most this many of the 256 bits of their perceptual hashes differ.
    # data/image_hashes.py has the measurements behind the default.
    near_bits: Count = 20
