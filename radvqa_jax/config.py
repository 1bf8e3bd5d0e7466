"""The configuration: frozen dataclasses, each field with its default and its meaning.

A file in configs/ calls `default_config()`, changes what its experiment needs and returns the ConfigDict, so that every
field can be overridden on the command line (`--config.stage1.optim.learning_rate=3e-4`). config_check.py turns it into
the dataclasses below and refuses unknown fields and wrong types; config_rules.py refuses contradictions.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ml_collections

SUSPECT_BITS = 64  # from here on two unrelated images may look alike to a perceptual hash (data/image_hashes.py)
EMBEDDED = Path(__file__).parent / "assets" / "tiny"

Mode = Literal[
    "build_data",
    "train",
    "predict",
    "judge",
    "score",
    "compare",
    "saliency",
    "saliency_quality",
    "ask",
    "audit",
    "fit",
    "ablations",
    "job",
]

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
    # Frozen linear weights of both towers rounded to four bits (QLoRA's base) or eight (models/quantize.py).
    quantize: Literal["none", "nf4", "int8"] = "none"
    # What the backward pass computes again instead of storing: nothing; all but products with weights; all of a layer;
    # all of a layer, with the language model's MLP a block of tokens at a time (models/remat.py).
    remat: Literal["none", "dots", "full", "blocks"] = "blocks"
    remat_img: Literal["", "none", "dots", "full", "blocks"] = ""  # of the vision tower; empty = as remat
    # Layers of a tower in one turn of the compiled loop over layers. All of them: faster for a small model on a CPU
    # (docs/performance.md), with more to compile.
    unroll: int = 1
    # xla holds all probabilities; blocks, cudnn (GPU) and splash (TPU) do not (models/fused_attention.py); auto asks
    # the device.
    attention: Literal["auto", "xla", "blocks", "cudnn", "splash"] = "auto"
    # Regular expressions over leaf names that the checkpoint may lack (drawn N(0, 0.02)), or have too many.
    allow_missing: tuple[str, ...] = ()
    allow_extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class FilterConfig:
    """Which rows of a source stay: those for which every condition holds that is given."""

    field: str = (
        ""  # a text feature: organ, modality, language, answer_type, answer, or one that the data set alone has
    )
    values: tuple[str, ...] = ()  # one of these, whatever the case of letters
    exclude: bool = False  # none of `values` instead
    min_count: int = 0  # values that occur at least so often among the rows at hand
    most_common: int = 0  # the so many most common values
    count_by: Literal["rows", "images", "cases"] = "rows"  # what min_count and most_common count
    min_words: int = 0  # words of the field
    max_words: int = 0  # 0 = any number


@dataclass(frozen=True)
class SourceConfig:
    """One data set in a mixture."""

    dataset: str = ""  # a name in tfds_builders/
    builder_config: str = ""  # of the builder; empty = its default
    split: str = "train"
    task: Literal["vqa", "caption"] = "vqa"
    where: tuple[FilterConfig, ...] = ()  # applied in this order
    limit: int = 0  # first so many rows after a seeded shuffle; 0 = all
    weight: float = 1.0  # share of the mixture, relative to the other sources
    count: int = 0  # instead of a weight: rows drawn from it in the whole stage, exactly
    # How the weight changes: (share of training done, factor on weight); the first factor holds before its point, the
    # last one after it. `piecewise` keeps a factor until the next point, `linear` and `cosine` go over to it. With a
    # count the points say when its rows come.
    anneal: Literal["constant", "piecewise", "linear", "cosine"] = "constant"
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images, none by default. Left becomes right only under `flip_left_right`."""

    rotate: float = 0.0  # up to so many degrees either way
    crop: float = 0.0  # up to this share of height and of width is cut off
    brightness: float = 0.0  # a factor in 1 -/+ this
    contrast: float = 0.0  # a factor in 1 -/+ this
    flip_left_right: bool = False  # half of the images; makes `left` and `right` in questions and answers wrong


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
    image_cache_mb: int = 512  # resized images kept in memory where several rows share one; of all workers together
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class AuditConfig:
    """What the splits may share. Training stops before its first step at a leak that is not accepted by name."""

    # Leaks to go on with, each as "vqa_rad:train~vqa_rad:test"; "vqa_rad/official:train" names the builder config too.
    accept: tuple[str, ...] = ()
    also_evaluate: tuple[SourceConfig, ...] = ()  # sets that are compared beside eval.source
    # Two images are nearly the same if so many of the 256 bits of their perceptual hashes differ, or fewer; the choice
    # is measured in data/image_hashes.py.
    near_bits: int = 20


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
    weight_by: Literal["source", "row"] = "source"  # row: a weight is multiplied by its source's number of rows
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
    batch_size: int = 16  # questions answered at a time; on a mesh a multiple of data x fsdp


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, and beside which baselines."""

    source: SourceConfig = field(default_factory=lambda: SourceConfig(split="test"))
    train_source: SourceConfig = field(default_factory=SourceConfig)  # the question-only baseline looks answers up here
    swapped: bool = True  # also answer with another case's image, of the same modality and organ if there is one
    swapped_any: bool = False  # also answer with the image of any other case
    blank: bool = True  # also answer with a blank image; each distinct question once
    bootstrap: int = 2000  # resamples for intervals, over images
    predictions: str = ""  # mode=score, compare: the predictions.jsonl to score
    compare_with: str = ""  # mode=compare: the other predictions.jsonl, answers to the same questions


@dataclass(frozen=True)
class ScoreConfig:
    """What is computed beside the radvqa rules: evaluation/published.py and evaluation/samples.py."""

    published: tuple[Literal["medm", "med_idefics", "llama32_med"], ...] = ("medm", "med_idefics", "llama32_med")
    bertscore_model: str = ""  # folder of an encoder for LLaMA32-Med's BERTScore (extra `bertscore`); empty = left out
    bertscore_layers: int = 0  # the layer whose states are compared; 0 = the last
    # How MedM's five-sample rule is read, and what it takes from the accuracy.
    instability: Literal["distinct", "no_majority", "differs_from_first", "mostly_wrong"] = "no_majority"
    penalty: Literal["item_zero", "minus_item", "percentage_point"] = "item_zero"
    sample_size: int = 200  # MedM's frame: mean and standard deviation over so many runs on samples of this size
    sample_runs: int = 5


@dataclass(frozen=True)
class ChatConfig:
    """A chat model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, transformers serve, or a service."""

    base_url: str = ""  # such as http://127.0.0.1:8000/v1
    model: str = ""  # as the endpoint calls it
    key_variable: str = "OPENAI_API_KEY"  # environment variable that holds the key; a local server needs none
    allow_remote: bool = False  # an endpoint that is not this machine gets questions, references and answers
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512  # of a reply
    response_format: Literal["text", "json_object", "json_schema"] = "text"  # what the endpoint is told to hold to
    timeout: float = 120.0  # seconds for one request
    retries: int = 4  # of a request that failed (connection, timeout, 408, 409, 429, 5xx), with growing pauses
    concurrency: int = 4  # requests at a time
    requests_per_minute: int = 0  # 0 = no limit
    max_calls: int = 0  # requests that a run may make; 0 = no limit
    max_total_tokens: int = 0  # prompt and reply tokens that a run may use, as the endpoint counts; 0 = no limit
    offline: bool = False  # only what is in the cache; nothing is sent
    cache: str = ""  # file of replies; empty = chat_cache.jsonl in the workdir


@dataclass(frozen=True)
class JudgeConfig(ChatConfig):
    """The language model that judges answers (mode=judge)."""

    prompt: Literal["medm", "llama32_med"] = "medm"  # MedM's 0/1, or LLaMA32-Med's 1 to 5
    with_question: bool = True  # False: the judge sees reference and answer alone, as MedM had it
    attempts: int = 3  # replies asked for until one is a verdict; then the answer is unjudged
    max_chars: int = 4000  # of each field; the rest of a longer one is cut, and the judge is told
    max_failures: int = 5  # requests in a row that fail after their retries; then the run stops
    attacks: int = 20  # questions that get every attack of evaluation/attacks.py; 0 = none


@dataclass(frozen=True)
class ReportConfig:
    """What report.html holds, and what clinicians are given to review."""

    images: bool = False  # show images and attention maps; False = a placeholder
    cases: int = 100  # questions listed, drawn at random
    review_rows: int = 0  # rows of review_sheet.csv to write; 0 = none
    review_sheets: tuple[str, ...] = ()  # filled sheets to read


@dataclass(frozen=True)
class CellConfig:
    """One cell of the grid of mode=ablations: what it changes. A field at its default is as in the experiment."""

    name: str = ""
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
    seq_len: int = 0  # text tokens while answering, where prompts are longer; 0 = data.seq_len


@dataclass(frozen=True)
class AblationConfig:
    """mode=ablations: the grid. The first cell is the reference."""

    cells: tuple[CellConfig, ...] = ()


@dataclass(frozen=True)
class SaliencyConfig:
    """Which cases get maps, and how they are made."""

    cases: int = 4
    residual: float = 0.5  # weight of the identity in rollout
    head_fusion: Literal["mean", "max", "min"] = "mean"
    start_layer: int = 0
    discard: float = 0.0  # rollout: share of each row's entries, the smallest, that is left out
    layers: tuple[int, ...] = ()  # raw attention and value norms: mean over these layers; empty = all
    # mode=saliency and mode=ask: folders of adapters to look at beside base and adapter, such as one without stage 1.
    beside: tuple[str, ...] = ()
    # raw, value_norm, rollout, relevancy; with `_vision` at its end a map goes through the vision tower's own rollout.
    methods: tuple[str, ...] = ("raw", "rollout", "rollout_vision", "relevancy")


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
class AskConfig:
    """mode=ask: one image and a question."""

    image: str = ""  # an image or a DICOM file
    question: str = ""
    frame: int = 1  # of a DICOM file with several
    window: str = ""  # of a DICOM file: empty = its own, or lung, mediastinum, abdomen, bone, brain, … for CT
    samples: int = 5  # answers drawn beside the greedy one, to see whether they agree
    temperature: float = 1.0  # of these samples
    # An answer that the answer is held against in the viewer; empty = no for yes, yes for no, else what the base says.
    other: str = ""


@dataclass(frozen=True)
class MeshConfig:
    """How many devices lie along each axis of training and answering (training/sharding.py); the default is one."""

    data: int = 1  # copies of the weights, each with a share of the batch; 0 = what the other two leave of all devices
    fsdp: int = 1  # shares of weights and batch
    tensor: int = 1  # shares of heads, MLP and vocabulary


@dataclass(frozen=True)
class ProcessConfig:
    """The processes that train one model together, each with devices of its own (radvqa_jax/runtime.py)."""

    coordinator: str = ""  # host:port of process 0; `auto` = as SLURM, Open MPI or a TPU pod tells; empty = one process
    count: int = 1  # how many processes, and
    index: int = 0  # which of them this is; the same configuration otherwise


@dataclass(frozen=True)
class FitConfig:
    """mode=fit: what is planned for the experiment and the target."""

    # Fields of the experiment that are planned otherwise than in its file: ("stage2.accumulate=1", "model.variant=…").
    override: tuple[str, ...] = ()
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
    adapter: str = ""  # mode=predict, saliency, ask…: adapter.npz of a stage, or its folder; empty = the base model
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    ask: AskConfig = field(default_factory=AskConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    # Where compiled programs are kept from run to run: a folder; `auto` = the user's cache folder; empty = nowhere.
    compilation_cache: str = "auto"
    experiment: str = ""  # mode=fit: the file in configs/ that is planned
    target: str = "local"  # mode=fit: a name in planning/devices.py, or the devices that are here
    fit: FitConfig = field(default_factory=FitConfig)
    ablations: AblationConfig = field(default_factory=AblationConfig)

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
    config.model.unroll = 4  # all layers


def source(*, where: tuple[ml_collections.ConfigDict, ...] = (), **fields: Any) -> ml_collections.ConfigDict:
    """Returns one entry of `stage.sources`: the defaults of SourceConfig with these fields instead."""
    entry = to_config_dict(SourceConfig(**fields))
    entry.where = where  # conditions made by the function below, which are no FilterConfig yet
    return entry


def where(field: str, **conditions: Any) -> ml_collections.ConfigDict:
    """Returns one entry of `source.where`: a condition on a field of the rows."""
    return to_config_dict(FilterConfig(field=field, **conditions))


def cell(name: str, **fields: Any) -> ml_collections.ConfigDict:
    """Returns one entry of `ablations.cells`: the defaults of CellConfig with these fields instead."""
    entry = to_config_dict(CellConfig(name=name))
    entry.update(fields)
    return entry
