"""The configuration: frozen dataclasses, and the only reader of ConfigDict.

A file in configs/ calls `default_config()`, changes what its experiment needs and returns the ConfigDict, so that every
field can be overridden on the command line (`--config.stage1.optim.learning_rate=3e-4`). `from_config_dict` turns it
into the dataclasses below, and refuses unknown fields, wrong types and contradictions.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import ml_collections

from radvqa_jax.trees import nearest

EMBEDDED = Path(__file__).parent / "assets" / "tiny"

Mode = Literal["build_data", "train", "predict", "score", "saliency", "job"]

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
    remat: Literal["none", "dots", "full"] = "full"  # what the backward pass computes again instead of storing
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
    manual_dir: str = ""  # the official files of data sets that may not be downloaded
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
    layers: tuple[int, ...] = ()  # raw attention: mean over these layers; empty = all


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
    adapter: str = ""  # mode=predict, saliency: adapter.npz of a stage, or its folder; empty = the base model
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)

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


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def _convert(value: Any, kind: Any, path: str) -> Any:
    """Returns `value` as the annotated type, or raises ValueError that names the field."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path)
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            options = ", ".join(map(repr, get_args(kind)))
            raise ValueError(f"Config field `{path}` must be one of {options}; got {value!r}.{_near(value, kind)}")
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise ValueError(f"Config field `{path}` must be a tuple; got {value!r}.")
        args = get_args(kind)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(item, args[0], f"{path}[{i}]") for i, item in enumerate(value))
        if len(value) != len(args):
            raise ValueError(f"Config field `{path}` must have {len(args)} items; got {value!r}.")
        pairs = zip(value, args, strict=True)
        return tuple(_convert(item, arg, f"{path}[{i}]") for i, (item, arg) in enumerate(pairs))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"Config field `{path}` must be {_type_name(kind)}; got {value!r} ({type(value).__name__}).")
    return value


def _near(value: Any, kind: Any) -> str:
    return nearest(value, get_args(kind)) if isinstance(value, str) else ""


def _check_known(key: str, kind: Any, path: str) -> None:
    """Raises ValueError if the dataclass `kind`, which lies at `path`, has no field `key`."""
    known = typing.get_type_hints(kind)
    if key not in known:
        name = f"{path}.{key}" if path else key
        raise ValueError(f"Unknown config field `{name}`.{nearest(key, known)} Known here: {', '.join(known)}.")


def check_field(path: str) -> None:
    """Raises ValueError if there is no such field: `stage1.optim.learning_rate`, `stage2.sources[0].dataset`."""
    kind: Any = Config
    walked = ""
    for part in path.split("."):
        key, _, index = part.partition("[")
        if not dataclasses.is_dataclass(kind):
            raise ValueError(f"Config field `{walked}` is a value and has no fields; got `{path}`.")
        _check_known(key, kind, walked)
        kind = typing.get_type_hints(kind)[key]
        if index:
            kind = next(iter(get_args(kind)), None)
        walked = f"{walked}.{part}" if walked else part


def _build(kind: Any, value: Any, path: str) -> Any:
    """Returns the dataclass `kind` from a mapping."""
    if not isinstance(value, ml_collections.ConfigDict | dict | types.MappingProxyType):
        raise ValueError(f"Config field `{path}` must be a group of fields; got {value!r}.")
    hints = typing.get_type_hints(kind)
    for key in value:
        _check_known(key, kind, path)
    return kind(**{key: _convert(value[key], hints[key], f"{path}.{key}" if path else key) for key in value})


def from_config_dict(config: ml_collections.ConfigDict) -> Config:
    """Returns the checked, frozen configuration.

    Raises:
        ValueError: for an unknown field (with the nearest known name), a wrong type, or a contradiction.
    """
    built = _build(Config, config, "")
    check(built)
    return built


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


# The least value of fields that count something.
_LEAST = {
    "seed": 0,
    "model.resolution": 0,
    "data.seq_len": 8,
    "data.workers": 0,
    "decode.max_new_tokens": 1,
    "decode.samples": 1,
    "decode.batch_size": 1,
    "decode.top_k": 0,
    "eval.source.limit": 0,
    "saliency.cases": 0,
    "saliency.start_layer": 0,
}
_LEAST_IN_STAGE = {
    "total_steps": 0,
    "epochs": 0,
    "batch_size": 1,
    "accumulate": 1,
    "log_every": 1,
    "save_every": 1,
    "lora.rank": 0,
    "optim.warmup_steps": 0,
    "optim.weight_decay": 0,
    "optim.clip_norm": 0,  # a negative one would turn the gradient around
}

# Fields that may not be empty in some modes: (field, modes, what the mode needs, an example).
_NEEDED: tuple[tuple[str, tuple[Mode, ...], str, str], ...] = (
    ("dataset", ("build_data",), "a data set", "phantom_rad"),
    ("eval.predictions", ("score",), "answers to score", "DIR/predictions/base.jsonl"),
    ("eval.source.dataset", ("predict", "saliency", "job"), "a data set to answer", "phantom_rad"),
    ("eval.train_source.dataset", ("job",), "a data set for the question-only baseline", "phantom_rad"),
)


def _check_least(group: Any, least: dict[str, int], prefix: str = "") -> None:
    for name, low in least.items():
        value = attrgetter(name)(group)
        _require(value >= low, f"{prefix}{name}={value} must be at least {low}.")


def _check_stage(name: str, stage: StageConfig) -> None:
    optim, lora = stage.optim, stage.lora
    _check_least(stage, _LEAST_IN_STAGE, f"{name}.")
    _require(
        (stage.total_steps > 0) != (stage.epochs > 0),
        f"{name}: give either total_steps or epochs; got total_steps={stage.total_steps}, epochs={stage.epochs}.",
    )
    _require(
        stage.total_steps == 0 or optim.warmup_steps < stage.total_steps,
        f"{name}.optim.warmup_steps={optim.warmup_steps} must be below {name}.total_steps={stage.total_steps}.",
    )
    _require(bool(stage.sources), f"{name}.sources is empty. Name at least one data set: source(dataset='slake').")
    _require(optim.learning_rate > 0, f"{name}.optim.learning_rate={optim.learning_rate} must be above 0.")
    for group, rate in optim.group_learning_rates:
        _require(rate > 0, f"{name}.optim.group_learning_rates: {group}={rate} must be above 0; to freeze, use a rule.")
    _require(0 <= stage.label_smoothing < 1, f"{name}.label_smoothing={stage.label_smoothing} must be in [0, 1).")
    _require(lora.alpha > 0, f"{name}.lora.alpha={lora.alpha} must be above 0, or adapters do nothing.")
    _require(0 <= lora.dropout < 1, f"{name}.lora.dropout={lora.dropout} must be in [0, 1).")
    names_lora = any("lora" in pattern and label != "freeze" for pattern, label in stage.train)
    _require(
        not (names_lora and lora.rank == 0),
        f"{name}.train has a rule for adapters but {name}.lora.rank=0. Set the rank, or remove the rule.",
    )
    for index, item in enumerate(stage.sources):
        _require(bool(item.dataset), f"{name}.sources[{index}].dataset is empty. Give a name in tfds_builders/.")
        _require(item.weight > 0, f"{name}.sources[{index}].weight={item.weight} must be above 0.")
        _check_least(item, {"limit": 0}, f"{name}.sources[{index}].")


def check(config: Config) -> None:
    """Raises ValueError, naming the fields and the rule, if fields contradict each other."""
    _check_least(config, _LEAST)
    if config.mode in ("train", "job"):
        _require(
            bool(config.stages), "stages is empty: nothing would be trained. Give --config.stages=\"('stage1',)\"."
        )
        for name in config.stages:
            _require(
                name in ("stage1", "stage2"),
                f"stages={config.stages} may only hold 'stage1' and 'stage2'.{nearest(name, ['stage1', 'stage2'])}",
            )
            _check_stage(name, config.stage(name))
        _require(len(set(config.stages)) == len(config.stages), f"stages={config.stages} names a stage twice.")
    decode = config.decode
    _require(
        decode.samples == 1 or decode.temperature > 0,
        f"decode.samples={decode.samples} with decode.temperature=0 would give the same answer "
        f"{decode.samples} times. Set a temperature above 0, or samples=1.",
    )
    _require(decode.temperature >= 0, f"decode.temperature={decode.temperature} must not be negative.")
    _require(0 < decode.top_p <= 1, f"decode.top_p={decode.top_p} must be in (0, 1].")
    _require("{question}" in config.data.prompt, f"data.prompt={config.data.prompt!r} must contain {{question}}.")
    _require(
        0 <= config.saliency.residual < 1,
        f"saliency.residual={config.saliency.residual} must be in [0, 1): at 1 no attention is left.",
    )
    for name, modes, what, example in _NEEDED:
        _require(
            config.mode not in modes or bool(attrgetter(name)(config)),
            f"mode={config.mode} needs {what}: --config.{name}={example}.",
        )
