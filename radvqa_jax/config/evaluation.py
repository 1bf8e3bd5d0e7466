"""Fields for answers, their scores, the grid of ablations, and reports."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import (
    MOST_TEXT,
    Below1,
    Count,
    NotNegative,
    Positive,
    Probability,
    Resamples,
    Rows,
    RowsOrAuto,
)
from radvqa_jax.config.data import SourceConfig


@dataclass(frozen=True)
class DecodeConfig:
    """The decoding of answers."""

    max_new_tokens: Annotated[int, Interval(ge=1, le=MOST_TEXT)] = 32  # longest answer, in tokens
    samples: Rows = 1  # answers per question; they share one prefill
    temperature: NotNegative = 0.0  # sampling temperature; 0 = greedy
    top_k: Count = 0  # sample from this many of the likeliest tokens; 0 = all
    top_p: Probability = 1.0  # nucleus sampling: keep the likeliest tokens up to this total probability; 1 = all
    # Questions per batch; on a mesh a multiple of data x fsdp. 0 = as many as memory allows (decoding/batch_size.py).
    batch_size: RowsOrAuto = 0


@dataclass(frozen=True)
class EvalConfig:
    """The evaluated data, the baselines, and the answers to score."""

    source: SourceConfig = field(default_factory=lambda: SourceConfig(split="test"))
    train_source: SourceConfig = field(default_factory=SourceConfig)  # training rows of the question-only baseline
    swapped: bool = True  # also answer with another case's image, of the same modality and organ if there is one
    swapped_any: bool = False  # also answer with the image of any other case
    blank: bool = True  # also answer with a blank image, each distinct question once
    bootstrap: Resamples = 2000  # bootstrap resamples of images, for the intervals
    # mode=score, compare, judge: the file of answers. mode=score takes several, separated by commas, patterns such as
    # "runs/*/predictions/base.jsonl", and result files of other tools (evaluation/convert.py).
    predictions: str = ""
    names: tuple[str, ...] = ()  # mode=score: a run name for each file; empty = the name in its lines
    compare_with: str = ""  # mode=compare: the other file, with answers to the same questions


@dataclass(frozen=True)
class ScoreConfig:
    """Scores in addition to the radvqa rules (evaluation/published.py, evaluation/samples.py)."""

    # Papers whose metrics to compute.
    published: tuple[Literal["medm", "med_idefics", "llama32_med"], ...] = ("medm", "med_idefics", "llama32_med")
    bertscore_model: str = ""  # folder of an encoder for LLaMA32-Med's BERTScore (extra `bertscore`); empty = left out
    bertscore_layers: Count = 0  # the layer whose states are compared; 0 = the last
    # When MedM's five-sample rule calls the answers to a question unstable.
    instability: Literal["distinct", "no_majority", "differs_from_first", "mostly_wrong"] = "no_majority"
    # What an unstable question costs. item_zero: it counts as wrong; minus_item: one correct question is also taken
    # away; percentage_point: 0.01 of the accuracy.
    penalty: Literal["item_zero", "minus_item", "percentage_point"] = "item_zero"
    sample_size: Positive = 200  # questions in each sample of MedM's protocol
    sample_runs: Resamples = 5  # number of such samples; their mean and standard deviation are reported
    max_unscored: Below1 = 0.05  # largest share of a file's lines that cannot be scored; a file with more is refused
    workers: Count = 0  # processes that score lines; 0 = one per core
    # Most lines for which report.html is written: it needs all answers in memory. Tables are always written.
    report_lines: Count = 50_000


@dataclass(frozen=True)
class ReportConfig:
    """The content of report.html, and the sheet for clinicians to review."""

    images: bool = False  # show images and attention maps; False = placeholders
    cases: Count = 100  # number of questions to list, drawn at random
    review_rows: Count = 0  # rows of review_sheet.csv to write; 0 = none
    review_sheets: tuple[str, ...] = ()  # filled sheets to read


@dataclass(frozen=True)
class CellConfig:
    """One cell of the grid of mode=ablations, as changes to the experiment. A field at its default changes nothing."""

    name: str = ""  # the cell's name in tables and files
    against: str = ""  # the cell to compare with, if it asks the same questions; empty = the first one
    without: tuple[str, ...] = ()  # stages to leave out; all of them = the base model without adapter
    adapter: str = ""  # adapter of an earlier run (adapter.npz, or its folder), instead of training
    stage: str = ""  # the stage that stage_sources and stage_steps change; empty = the last one
    stage_sources: tuple[SourceConfig, ...] = ()  # training data of the stage, such as another share of annealing
    train_prompt: str = ""  # data.prompt while training
    prompt: str = ""  # data.prompt while answering
    # data.history while answering; empty = the experiment's, or `none` if the cell's prompt has no {history}.
    history: Literal["", "none", "references", "own"] = ""
    # The image that is shown while answering. own: the row's; swapped: that of another case of the same modality and
    # organ; swapped_any: that of any other case; blank: an empty one; borrowed: one of eval.source, for questions
    # without images.
    image: Literal["own", "swapped", "swapped_any", "blank", "borrowed"] = "own"
    source: SourceConfig = field(default_factory=SourceConfig)  # questions to ask instead of those of eval.source
    train_source: SourceConfig = field(default_factory=SourceConfig)  # training rows of the blind baselines of `source`
    seq_len: Annotated[int, Interval(ge=0, le=MOST_TEXT)] = (
        0  # text tokens while answering, for longer prompts; 0 = data.seq_len
    )
    seed: Annotated[int, Interval(ge=-1, lt=2**32)] = -1  # seed of training; -1 = the experiment's
    stage_steps: Count = 0  # optimizer steps of the stage; 0 = the experiment's
    # A name that cells share if they differ only in their seed. Group means are compared with the first group's.
    group: str = ""


@dataclass(frozen=True)
class AblationConfig:
    """mode=ablations: the grid. The first cell is the reference."""

    cells: tuple[CellConfig, ...] = ()  # the cells of the grid, the reference first
