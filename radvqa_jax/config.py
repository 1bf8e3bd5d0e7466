"""The configuration: frozen dataclasses, each field with its default and its meaning.

A file in configs/ calls `default_config()`, changes what its experiment needs and returns the ConfigDict, so that every
field can be overridden on the command line (`--config.stage1.optim.learning_rate=3e-4`). config_check.py turns it into
the dataclasses below, and refuses unknown fields, wrong types and contradictions.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ml_collections

EMBEDDED = Path(__file__).parent / "assets" / "tiny"

Mode = Literal["build_data", "train", "predict", "score", "saliency", "saliency_quality", "job", "fit"]

# Query, key, value and output weights of the attention of both towers: MedM's stage 2.
ATTENTION_WEIGHTS = r"img/.*/(query|key|value|out)/kernel|llm/.*/(q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum)/w"


@dataclass(frozen=True)
class ModelConfig:
    """The model, its files and how it computes."""

    variant: str = "paligemma-3b-448"  # a name in models/variants.py
    checkpoint: str = ""  # native big_vision .npz
    tokenizer: str = ""  # SentencePiece .model
    resolution: int = 0  # image height and width in pixels; 0 = the variant's
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    param_dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of frozen weights in memory; what trains is float32
    # What the backward pass computes again instead of storing: nothing; all but products with weights; all of a layer;
    # all of a layer, with the language model's MLP a block of tokens at a time (models/remat.py).
    remat: Literal["none", "dots", "full", "blocks"] = "blocks"
    remat_img: Literal["", "none", "dots", "full", "blocks"] = ""  # of the vision tower; empty = as remat
    # xla holds all probabilities; blocks and cudnn do not (models/fused_attention.py); auto asks the device.
    attention: Literal["auto", "xla", "blocks", "cudnn"] = "auto"
    # Regular expressions over leaf names that the checkpoint may lack (drawn N(0, 0.02)), or have too many.
    allow_missing: tuple[str, ...] = ()
    allow_extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceConfig:
    """One data set in a mixture."""

    dataset: str = ""  # a name in tfds_builders/
    builder_config: str = ""  # of the builder; empty = its default
    split: str = "train"
    task: Literal["vqa", "caption"] = "vqa"
    weight: float = 1.0  # share of the mixture, relative to the other sources
    limit: int = 0  # first so many rows after a seeded shuffle; 0 = all


@dataclass(frozen=True)
class DataConfig:
    """Where data sets are, and how rows become tokens."""

    data_dir: str = "~/tensorflow_datasets"  # where prepared data sets lie
    manual_dir: str = ""  # official files: a folder for one data set, or one that holds a folder for each
    allow_count_mismatch: bool = False  # build files that are not the whole official release
    prompt: str = "answer en {question}"
    seq_len: int = 128  # text tokens, BOS to EOS
    overlong: Literal["error", "reject", "cut"] = "reject"  # an answer that does not fit; `cut` keeps its EOS
    workers: int = 0  # worker processes that decode images; 0 = threads of this process


@dataclass(frozen=True)
class LoraConfig:
    """Adapters. rank=0 means none."""

    rank: int = 0
    alpha: float = 32.0
    dropout: float = 0.0  # on the adapter's input
    rslora: bool = False  # scale alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023)
    # Ordered (pattern, "lora" or "none") over full names of linear weights; the first match wins.
    targets: tuple[tuple[str, str], ...] = ((ATTENTION_WEIGHTS, "lora"), (".*", "none"))


@dataclass(frozen=True)
class OptimConfig:
    """Adam, with decoupled weight decay if asked. The defaults are MedM's table 3."""

    learning_rate: float = 1e-5
    group_learning_rates: tuple[tuple[str, float], ...] = ()  # (group, rate) instead of learning_rate
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0  # linear from 0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0  # of the gradient over all trainable leaves; 0 = never


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: what trains, on what, for how long."""

    init_from: str = ""  # adapter.npz of an earlier stage, or its folder; empty = the stage before, or the base
    # Ordered (pattern, "train:<group>" or "freeze") over leaf names; adapters are named <weight>/lora_a and /lora_b.
    train: tuple[tuple[str, str], ...] = ((r"img/head/.*", "train:head"), (".*", "freeze"))
    lora: LoraConfig = field(default_factory=LoraConfig)
    sources: tuple[SourceConfig, ...] = ()
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: int = 6  # examples computed at a time
    accumulate: int = 16  # batches per optimizer step; 6 x 16 = 96 is MedM's
    total_steps: int = 0  # optimizer steps; give this or epochs
    epochs: float = 0.0
    loss_weighting: Literal["per_example", "per_token"] = "per_example"
    label_smoothing: float = 0.0
    log_every: int = 10  # steps
    save_every: int = 200  # steps


@dataclass(frozen=True)
class DecodeConfig:
    """How answers are made."""

    max_new_tokens: int = 32
    samples: int = 1  # answers per question; they share one prefill
    temperature: float = 0.0  # 0 = greedy
    top_k: int = 0  # 0 = all
    top_p: float = 1.0
    batch_size: int = 16


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, and beside which baselines."""

    source: SourceConfig = field(default_factory=lambda: SourceConfig(split="test"))
    train_source: SourceConfig = field(default_factory=SourceConfig)  # the question-only baseline looks answers up here
    swapped: bool = True  # also answer with another case's image
    bootstrap: int = 2000  # resamples for intervals, over images
    predictions: str = ""  # mode=score: the predictions.jsonl to score


@dataclass(frozen=True)
class SaliencyConfig:
    """Which cases get maps, and how they are made."""

    cases: int = 4
    residual: float = 0.5  # weight of the identity in rollout
    head_fusion: Literal["mean", "max", "min"] = "mean"
    start_layer: int = 0
    discard: float = 0.0  # rollout: share of each row's entries, the smallest, that is left out
    layers: tuple[int, ...] = ()  # raw attention and value norms: mean over these layers; empty = all
    # raw, value_norm, rollout, relevancy; with `_vision` at its end a map goes through the vision tower's own rollout.
    methods: tuple[str, ...] = ("raw", "rollout", "rollout_vision")


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
class MeshConfig:
    """How many devices lie along each axis of training (training/sharding.py); the default is one device."""

    data: int = 1  # copies of the weights, each with a share of the batch; 0 = what the other two leave of all devices
    fsdp: int = 1  # shares of weights and batch
    tensor: int = 1  # shares of heads, MLP and vocabulary


@dataclass(frozen=True)
class FitConfig:
    """mode=fit: what is planned for the experiment and the target."""

    resolutions: tuple[int, ...] = (224, 448, 896)  # pixels, at which the largest batch is sought; empty = nowhere
    samples: int = 5  # answers of one image
    new_tokens: int = 32  # of an answer


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    mode: Mode = "train"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    dataset: str = ""  # mode=build_data: the data set to prepare
    builder_config: str = ""
    stages: tuple[str, ...] = ("stage1", "stage2")  # which stages run, in order
    stage1: StageConfig = field(default_factory=StageConfig)
    stage2: StageConfig = field(default_factory=StageConfig)
    adapter: str = ""  # mode=predict, saliency…: adapter.npz of a stage, or its folder; empty = the base model
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    experiment: str = ""  # mode=fit: the file in configs/ that is planned
    target: str = "local"  # mode=fit: a name in planning/devices.py, or the devices that are here
    fit: FitConfig = field(default_factory=FitConfig)

    def stage(self, name: str) -> StageConfig:
        """Returns the stage of that name, `stage1` or `stage2`."""
        return {"stage1": self.stage1, "stage2": self.stage2}[name]


def to_config_dict(value: Any) -> Any:
    """Returns a dataclass as a ConfigDict, with every field, at every depth; other values as they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {f.name: to_config_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return ml_collections.ConfigDict(items, convert_dict=False)
    if isinstance(value, tuple):
        return tuple(to_config_dict(item) for item in value)
    return value


def default_config() -> Any:
    """Returns a ConfigDict with every field at its default, for a file in configs/ to change."""
    return to_config_dict(Config())


def use_embedded_model(config: Any) -> None:
    """Sets the tiny PaliGemma that comes with the package (scripts/make_tiny_paligemma.py), computed in float32."""
    config.model.variant = "tiny"
    config.model.checkpoint = str(EMBEDDED / "tiny_paligemma.npz")
    config.model.tokenizer = str(EMBEDDED / "tokenizer.model")
    config.model.compute_dtype = "float32"
    config.model.param_dtype = "float32"
    config.model.remat = "none"


def source(**fields: Any) -> ml_collections.ConfigDict:
    """Returns one entry of `stage.sources`: the defaults of SourceConfig with these fields instead."""
    return to_config_dict(SourceConfig(**fields))
