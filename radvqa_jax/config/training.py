"""Training stages: what trains, on which data, and how."""

from dataclasses import dataclass, field
from typing import Literal

from radvqa_jax.config.bounds import Above0, Below1, Count, Epochs, NotNegative, Positive, Rank, Rows
from radvqa_jax.config.data import SourceConfig

# Linear weights, by what they do. A recipe's rules for adapters are made of these.
TOWER_QKV = r"img/.*/(query|key|value)/kernel"  # of the vision tower's attention
TOWER_ATTENTION = r"img/.*/(query|key|value|out)/kernel"
TOWER_MLP = r"img/.*/Dense_[01]/kernel"
PROJECTOR = r"img/head/kernel"
LANGUAGE_ATTENTION = r"llm/.*/(q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum)/w"
LANGUAGE_MLP = r"llm/.*/(gating_einsum|linear)"  # gate and up are one weight
# Query, key, value and output weights of the attention of both towers: MedM's stage 2.
ATTENTION_WEIGHTS = f"{TOWER_ATTENTION}|{LANGUAGE_ATTENTION}"


@dataclass(frozen=True)
class LoraConfig:
    """Adapters. rank=0 means none."""

    rank: Rank = 0  # rank of the adapters; 0 = no adapters
    alpha: Above0 = 32.0  # adapters are scaled by alpha / rank
    dropout: Below1 = 0.0  # dropout on the adapter's input
    rslora: bool = False  # scale alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023)
    # Ordered (pattern, "lora" or "none") over full names of linear weights; the first match wins.
    targets: tuple[tuple[str, str], ...] = ((ATTENTION_WEIGHTS, "lora"), (".*", "none"))


@dataclass(frozen=True)
class OptimConfig:
    """Adam, with decoupled weight decay if asked. The defaults are MedM's table 3."""

    learning_rate: Above0 = 1e-5  # the peak, after warm-up
    group_learning_rates: tuple[tuple[str, Above0], ...] = ()  # (group, rate) instead of learning_rate
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # cosine and linear fall to 0 at the last step
    warmup_steps: Count = 0  # steps of linear warm-up from 0
    weight_decay: NotNegative = 0.0  # decoupled from the gradient (AdamW)
    b1: Below1 = 0.9  # Adam: decay of the mean of gradients
    b2: Below1 = 0.999  # Adam: decay of the mean of their squares
    eps: Above0 = 1e-8  # Adam: added to the root of that mean
    clip_norm: NotNegative = 1.0  # largest norm of the gradient over all trainable leaves; 0 = no clipping


@dataclass(frozen=True)
class StageConfig:
    """One training stage: what trains, on which data, for how long."""

    init_from: str = ""  # adapter.npz of an earlier stage, or its folder; empty = the stage before, or the base
    # Ordered (pattern, "train:<group>" or "freeze") over leaf names; adapters are named <weight>/lora_a and /lora_b.
    train: tuple[tuple[str, str], ...] = ((r"img/head/.*", "train:head"), (".*", "freeze"))
    lora: LoraConfig = field(default_factory=LoraConfig)
    sources: tuple[SourceConfig, ...] = ()  # the data sets of the mixture
    weight_by: Literal["source", "row"] = "source"  # row: weights are multiplied by the number of rows of their source
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: Rows = 6  # examples per forward and backward pass
    accumulate: Rows = 16  # batches per optimizer step; 6 x 16 = 96 is MedM's
    total_steps: Count = 0  # optimizer steps; set this or epochs
    epochs: Epochs = 0.0  # passes over the sources; set this or total_steps
    loss_weighting: Literal["per_example", "per_token"] = (
        "per_example"  # mean over the tokens of each example, or over all tokens
    )
    label_smoothing: Below1 = 0.0  # share of the target probability spread over the vocabulary
    log_every: Positive = 10  # steps between log lines
    save_every: Positive = 200  # steps between checkpoints
    # A held-out split whose loss is logged as eval/…; no data set = no such loss.
    eval_source: SourceConfig = field(default_factory=SourceConfig)
    eval_every: Positive = 100  # steps between evaluations; there is always one after the last step


@dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases (extra `wandb`): sends the scalars of training, and nothing else (training/wandb_run.py)."""

    project: str = ""  # empty = nothing is sent. The key is that of WANDB_API_KEY; WANDB_MODE=offline keeps all here.
    entity: str = ""  # user or team; empty = the default one of the key
    name: str = ""  # of the run, before the stage's name; empty = the stage's name alone
