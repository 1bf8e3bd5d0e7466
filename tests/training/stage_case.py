"""Two small stages, and a function that runs them."""

from dataclasses import replace
from pathlib import Path

from radvqa_jax.backbones import fake_params
from radvqa_jax.config import Config, LoraConfig, ModelConfig, OptimConfig, SourceConfig, StageConfig
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.stage import Base, Trained, run_stage
from radvqa_jax.training.way import Choose

from .conftest import Batches

BASE = Base(fake_params(get_variant("dummy")), "dummy.npz", "a" * 64)
WEIGHT = "llm/layers/attn/q_einsum/w"
LORA = LoraConfig(rank=2, alpha=6.0, dropout=0.2, targets=((WEIGHT, "lora"), (".*", "none")))
HEAD = {"img/head/bias", "img/head/kernel"}
OPTIM = OptimConfig(learning_rate=0.05)
SOURCES = SourceConfig("fake"), SourceConfig("fake", task="caption", prompt="Describe the image.")
STAGE1 = StageConfig(optim=OPTIM, sources=SOURCES, batch_size=2, accumulate=2, total_steps=3, log_every=1)
STAGE2 = replace(STAGE1, sources=SOURCES[:1], lora=LORA, train=((r".*/lora_[ab]", "train:lora"), (".*", "freeze")))
CONFIG = Config(
    model=ModelConfig(variant="dummy", compute_dtype="float32", param_dtype="float32", remat="none"),
    stages={"stage1": STAGE1, "stage2": STAGE2},
    run_stages=("stage1", "stage2"),
)


def run(
    name: str,
    folder: Path,
    *,
    config: Config = CONFIG,
    start: Trained | None = None,
    batches: Batches | None = None,
    base: Base = BASE,
    choose: Choose | None = None,
) -> Trained:
    return run_stage(
        name,
        config,
        base=base,
        start=start or Trained.nothing(),
        batches=batches or Batches(),
        rows_per_epoch=10,
        data={"0": {"dataset": "fake"}},
        folder=folder,
        choose=choose,
    )
