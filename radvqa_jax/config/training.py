"""Training stages: what trains, on which data, and how."""

from dataclasses import dataclass, field
from typing import Literal

from radvqa_jax.config.bounds import Above0, Alpha, Below1, Count, Epochs, NotNegative, Positive, Rank, Rows
from radvqa_jax.config.data import SourceConfig

# Patterns for linear weights, by their part of the model. Recipes build their rules for adapters from these.
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
    alpha: Alpha = 32.0  # adapters are scaled by alpha / rank
    dropout: Below1 = 0.0  # dropout on the adapter's input
    rslora: bool = False  # scale alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023)
    # Ordered (pattern, "lora" or "none") over full names of linear weights; the first match wins.
    targets: tuple[tuple[str, str], ...] = ((ATTENTION_WEIGHTS, "lora"), (".*", "none"))


@dataclass(frozen=True)
class OptimConfig:
    """Adam, with decoupled weight decay if asked. The defaults are MedM's table 3."""

    learning_rate: Above0 = 1e-5  # the peak learning rate, after warm-up
    group_learning_rates: tuple[tuple[str, Above0], ...] = ()  # (group, rate) instead of learning_rate
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # cosine and linear decay to 0 after the last step
    warmup_steps: Count = 0  # steps of linear warm-up from 0
    weight_decay: NotNegative = 0.0  # weight decay, decoupled from the gradient (AdamW)
    b1: Below1 = 0.9  # Adam: decay rate of the running mean of gradients
    b2: Below1 = 0.999  # Adam: decay rate of the running mean of squared gradients
    eps: Above0 = 1e-8  # Adam: added to the square root of that mean
    clip_norm: NotNegative = 1.0  # largest global norm of the gradient over all trainable leaves; 0 = no clipping


@dataclass(frozen=True)
class StageConfig:
    """One training stage: what trains, on which data, for how long."""

    init_from: str = ""  # adapter.npz of an earlier stage, or its folder; empty = the stage before, or the base
    # Ordered (pattern, "train:<group>" or "freeze") over leaf names; adapters are named <weight>/lora_a and /lora_b.
    train: tuple[tuple[str, str], ...] = ((r"img/head/.*", "train:head"), (".*", "freeze"))
    lora: LoraConfig = field(default_factory=LoraConfig)
    sources: tuple[SourceConfig, ...] = ()  # the data sets of the mixture
    # source: weights as given; row: a source's weight is multiplied by its number of rows.
    weight_by: Literal["source", "row"] = "source"
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: Rows = 6  # examples per forward and backward pass
    accumulate: Rows = 16  # batches per optimizer step; MedM's 6 x 16 = 96 examples
    total_steps: Count = 0  # optimizer steps; set this or epochs
    epochs: Epochs = 0.0  # passes over the sources; set this or total_steps
    # per_example: mean over examples of the mean over each one's tokens; per_token: mean over all tokens.
    loss_weighting: Literal["per_example", "per_token"] = "per_example"
    label_smoothing: Below1 = 0.0  # share of the probability that the other tokens get
    log_every: Positive = 10  # steps between log lines
    save_every: Positive = 200  # steps between checkpoints
    # A held-out split whose loss is logged as eval/…; no dataset = no such loss.
    eval_source: SourceConfig = field(default_factory=SourceConfig)
    eval_every: Positive = 100  # steps between evaluations; the last step is always followed by one


@dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases (extra `wandb`): sends the scalars of training, and nothing else (training/wandb_run.py)."""

    # Project of the runs; empty = send nothing. WANDB_API_KEY holds the key; WANDB_MODE=offline keeps runs here.
    project: str = ""
    entity: str = ""  # user or team; empty = the key's default
    name: str = ""  # prefix of the run's name, before the stage's name; empty = the stage's name alone
