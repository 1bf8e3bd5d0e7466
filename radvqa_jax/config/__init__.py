"""The configuration: frozen dataclasses, each field with its default and its meaning.

A file in configs/ calls `default_config()`, changes what its experiment needs and returns the ConfigDict, so that every
field can be overridden on the command line (`--config.stages.stage1.optim.learning_rate=3e-4`). check.py turns it into
the dataclasses and refuses unknown fields and wrong types; rules.py and stage_rules.py refuse contradictions.
"""

from radvqa_jax.config.build import (
    EMBEDDED,
    EMBEDDED_SHA256,
    cell,
    default_config,
    follow_checkpoint,
    source,
    stage,
    to_config_dict,
    use_embedded_model,
    where,
)
from radvqa_jax.config.chat import ChatConfig, JudgeConfig
from radvqa_jax.config.data import (
    SUSPECT_BITS,
    AuditConfig,
    AugmentConfig,
    DataConfig,
    FilterConfig,
    History,
    SourceConfig,
)
from radvqa_jax.config.evaluation import AblationConfig, CellConfig, DecodeConfig, EvalConfig, ReportConfig, ScoreConfig
from radvqa_jax.config.experiment import Config, FitConfig, Mode
from radvqa_jax.config.experiment_file import change_field, configs_folder, load_experiment
from radvqa_jax.config.export import ConvertConfig, ExportConfig
from radvqa_jax.config.model import MeshConfig, ModelConfig, ProcessConfig
from radvqa_jax.config.papers import BookConfig, PaperRow, PaperTable, load_tables, paper_row
from radvqa_jax.config.saliency import AskConfig, QualityConfig, SaliencyConfig
from radvqa_jax.config.scaling import ScalingConfig
from radvqa_jax.config.synthesis import ChecksConfig, SynthesisConfig, WritingConfig
from radvqa_jax.config.training import (
    ATTENTION_WEIGHTS,
    LANGUAGE_ATTENTION,
    LANGUAGE_MLP,
    PROJECTOR,
    TOWER_ATTENTION,
    TOWER_MLP,
    TOWER_QKV,
    LoraConfig,
    OptimConfig,
    StageConfig,
    WandbConfig,
)

__all__ = [
    "ATTENTION_WEIGHTS",
    "EMBEDDED",
    "EMBEDDED_SHA256",
    "LANGUAGE_ATTENTION",
    "LANGUAGE_MLP",
    "PROJECTOR",
    "SUSPECT_BITS",
    "TOWER_ATTENTION",
    "TOWER_MLP",
    "TOWER_QKV",
    "AblationConfig",
    "AskConfig",
    "AuditConfig",
    "AugmentConfig",
    "BookConfig",
    "CellConfig",
    "ChatConfig",
    "ChecksConfig",
    "Config",
    "ConvertConfig",
    "DataConfig",
    "DecodeConfig",
    "EvalConfig",
    "ExportConfig",
    "FilterConfig",
    "FitConfig",
    "History",
    "JudgeConfig",
    "LoraConfig",
    "MeshConfig",
    "Mode",
    "ModelConfig",
    "OptimConfig",
    "PaperRow",
    "PaperTable",
    "ProcessConfig",
    "QualityConfig",
    "ReportConfig",
    "SaliencyConfig",
    "ScalingConfig",
    "ScoreConfig",
    "SourceConfig",
    "StageConfig",
    "SynthesisConfig",
    "WandbConfig",
    "WritingConfig",
    "cell",
    "change_field",
    "configs_folder",
    "default_config",
    "follow_checkpoint",
    "load_experiment",
    "load_tables",
    "paper_row",
    "source",
    "stage",
    "to_config_dict",
    "use_embedded_model",
    "where",
]
