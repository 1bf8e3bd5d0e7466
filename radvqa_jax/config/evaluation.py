"""Answers, their scores, the grid of ablations, and reports."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import Below1, Count, NotNegative, Positive, Probability
from radvqa_jax.config.data import SourceConfig

MOST_NEW_TOKENS = 8192  # what Gemma's positions reach to; the cache of keys and values grows with it


@dataclass(frozen=True)
class DecodeConfig:
    """How answers are made."""

    max_new_tokens: Annotated[int, Interval(ge=1, le=MOST_NEW_TOKENS)] = 32  # of an answer
    samples: Positive = 1  # answers per question; they share one prefill
    temperature: NotNegative = 0.0  # 0 = greedy
    top_k: Count = 0  # 0 = all
    top_p: Probability = 1.0  # nucleus sampling: the likeliest tokens of this total probability; 1 = all
    # Questions answered at a time; on a mesh a multiple of data x fsdp. 0 = as memory allows (decoding/batch_size.py).
    batch_size: Count = 0


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, and beside which baselines."""

    source: SourceConfig = field(default_factory=lambda: SourceConfig(split="test"))
    train_source: SourceConfig = field(default_factory=SourceConfig)  # the question-only baseline looks answers up here
    swapped: bool = True  # also answer with another case's image, of the same modality and organ if there is one
    swapped_any: bool = False  # also answer with the image of any other case
    blank: bool = True  # also answer with a blank image; each distinct question once
    bootstrap: Positive = 2000  # resamples for intervals, over images
    # mode=score, compare, judge: the predictions.jsonl. mode=score takes several, with commas between, patterns such as
    # "runs/*/predictions/base.jsonl", and result files of other tools (evaluation/convert.py).
    predictions: str = ""
    names: tuple[str, ...] = ()  # mode=score: what to call the run of each file; empty = as its lines say
    compare_with: str = ""  # mode=compare: the other predictions.jsonl, answers to the same questions


@dataclass(frozen=True)
class ScoreConfig:
    """What is computed beside the radvqa rules: evaluation/published.py and evaluation/samples.py."""

    # The papers whose metrics are computed.
    published: tuple[Literal["medm", "med_idefics", "llama32_med"], ...] = ("medm", "med_idefics", "llama32_med")
    bertscore_model: str = ""  # folder of an encoder for LLaMA32-Med's BERTScore (extra `bertscore`); empty = left out
    bertscore_layers: Count = 0  # the layer whose states are compared; 0 = the last
    # How MedM's five-sample rule is read, and what it takes from the accuracy.
    instability: Literal["distinct", "no_majority", "differs_from_first", "mostly_wrong"] = "no_majority"
    # What an unstable answer costs.
    penalty: Literal["item_zero", "minus_item", "percentage_point"] = "item_zero"
    sample_size: Positive = 200  # MedM's frame: mean and standard deviation over so many runs on samples of this size
    sample_runs: Positive = 5  # how many such samples
    max_unscored: Below1 = 0.05  # share of a file's lines that may be without a score; a file with more is refused
    workers: Count = 0  # processes that score lines; 0 = one for each core
    # With more lines the tables are made, but no report.html: it needs all answers in memory.
    report_lines: Count = 50_000


@dataclass(frozen=True)
class ReportConfig:
    """What report.html holds, and what clinicians are given to review."""

    images: bool = False  # show images and attention maps; False = a placeholder
    cases: Count = 100  # questions listed, drawn at random
    review_rows: Count = 0  # rows of review_sheet.csv to write; 0 = none
    review_sheets: tuple[str, ...] = ()  # filled sheets to read


@dataclass(frozen=True)
class CellConfig:
    """One cell of the grid of mode=ablations: what it changes. A field at its default is as in the experiment."""

    name: str = ""  # of the cell, in tables and files
    against: str = ""  # the cell it is compared with, if it asks the same questions; empty = the first one
    without: tuple[str, ...] = ()  # stages that are left out; all of them = adapter off, the base model
    adapter: str = ""  # what an earlier run trained (adapter.npz, or its folder), instead of training
    stage2_sources: tuple[SourceConfig, ...] = ()  # what stage 2 trains on: the share of annealing
    train_prompt: str = ""  # data.prompt while training
    prompt: str = ""  # data.prompt while answering
    # The image that is shown while answering: the row's own, another case's of the same modality and organ, any other
    # case's, a blank one, or, for questions without images, one of eval.source.
    image: Literal["own", "swapped", "swapped_any", "blank", "borrowed"] = "own"
    source: SourceConfig = field(default_factory=SourceConfig)  # what is asked, instead of eval.source
    train_source: SourceConfig = field(default_factory=SourceConfig)  # where the blind baselines of `source` learn
    seq_len: Count = 0  # text tokens while answering, where prompts are longer; 0 = data.seq_len
    seed: Annotated[int, Interval(ge=-1, lt=2**32)] = -1  # of training; -1 = the experiment's
    stage2_steps: Count = 0  # optimizer steps of stage 2; 0 = the experiment's
    group: str = ""  # cells that differ in their seed alone; their mean is compared with that of the first group


@dataclass(frozen=True)
class AblationConfig:
    """mode=ablations: the grid. The first cell is the reference."""

    cells: tuple[CellConfig, ...] = ()  # the first is the reference
