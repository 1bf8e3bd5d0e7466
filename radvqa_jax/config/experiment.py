"""A whole experiment: every group of fields, and the mode."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from radvqa_jax.config.bounds import Positive, Rows, Seed
from radvqa_jax.config.chat import JudgeConfig
from radvqa_jax.config.data import AuditConfig, DataConfig
from radvqa_jax.config.evaluation import AblationConfig, DecodeConfig, EvalConfig, ReportConfig, ScoreConfig
from radvqa_jax.config.export import ConvertConfig, ExportConfig
from radvqa_jax.config.model import MeshConfig, ModelConfig, ProcessConfig
from radvqa_jax.config.papers import BookConfig
from radvqa_jax.config.saliency import AskConfig, QualityConfig, SaliencyConfig
from radvqa_jax.config.scaling import ScalingConfig
from radvqa_jax.config.synthesis import SynthesisConfig
from radvqa_jax.config.training import StageConfig, WandbConfig

Mode = Literal[
    "build_data",
    "train",
    "predict",
    "judge",
    "write_questions",
    "score",
    "compare",
    "saliency",
    "saliency_quality",
    "ask",
    "audit",
    "fit",
    "ablations",
    "job",
    "convert",
    "export",
    "fit_scaling",
    "reproduce",
]


@dataclass(frozen=True)
class FitConfig:
    """mode=fit: what to plan for the experiment on the target."""

    # Fields of the experiment to change for the plan: ("stages.stage2.accumulate=1", "model.variant=…").
    override: tuple[str, ...] = ()
    # Image sizes in pixels at which to search for the largest batch; empty = no search.
    resolutions: tuple[Positive, ...] = (224, 448, 896)
    frontier: bool = True  # if model.remat=auto, also report memory against arithmetic; takes some minutes
    # Text positions that a stage pads to, as training prints them; empty = data.seq_len. Each is compiled.
    text_lengths: tuple[Positive, ...] = ()
    samples: Rows = 5  # sampled answers per question
    new_tokens: Positive = 32  # tokens of each answer


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    mode: Mode = "train"  # what to do
    seed: Seed = 0  # seed of all random draws but those of weights that the checkpoint lacks
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    dataset: str = ""  # mode=build_data: the data set to prepare
    builder_config: str = ""  # mode=build_data: the variant of the data set; empty = its default
    # The training stages by name. A stage's folder, adapter and answers have its name, and its random draws depend on
    # it.
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    run_stages: tuple[str, ...] = ()  # names of the stages to run, in order; empty = the only one
    adapter: str = ""  # mode=predict, saliency, ask…: adapter.npz of a stage, or its folder; empty = the base model
    # Names of fields that may differ from the adapter's training: ("data.prompt",). Fields that are not set take the
    # adapter's values (training/base_use.py).
    adapter_accept: tuple[str, ...] = ()
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    ask: AskConfig = field(default_factory=AskConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    # Let other users read files with questions, answers or images, as far as the umask allows.
    share_files: bool = False
    # Folder that keeps compiled programs between runs; `auto` = the user's cache folder; empty = none.
    compilation_cache: str = "auto"
    experiment: str = ""  # mode=fit: the experiment to plan, a file such as configs/medm_stage2.py
    target: str = "local"  # mode=fit: a name in planning/devices.py; local = the devices of this machine
    fit: FitConfig = field(default_factory=FitConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    ablations: AblationConfig = field(default_factory=AblationConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    book: BookConfig = field(default_factory=BookConfig)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages that run, in order."""
        return self.run_stages or tuple(self.stages)

    def with_stages(self, changed: Mapping[str, StageConfig]) -> "Config":
        """A copy of the experiment with these stages, each replacing one of the same name."""
        return dataclasses.replace(self, stages={**self.stages, **changed})

    @property
    def only_plans(self) -> bool:
        """Whether the run only compiles, for devices that need not be present, and computes on none."""
        return self.mode == "fit" or (self.mode == "reproduce" and bool(self.book.targets))
