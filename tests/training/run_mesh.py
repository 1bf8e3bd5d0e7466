"""Trains a small model by the loop and writes the trained leaves; test_sharding.py runs it in a separate process.

python run_mesh.py FOLDER DATA FSDP TENSOR STOP_AT

A run that is to stop ends with a signal after that step, and is continued, in the same process.
"""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import LoraConfig, MeshConfig, OptimConfig, StageConfig
from radvqa_jax.models import lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch
from radvqa_jax.training.loop import Plan, TrainingStopped, train
from radvqa_jax.training.optimizer import label_leaves, make_optimizer, make_schedule
from radvqa_jax.training.sharding import make_mesh, put, put_batch, replicated, shard_flat, shard_state
from radvqa_jax.training.step import StepOptions, init_state, step_on
from radvqa_jax.trees import Flat, split

VARIANT = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=4),
    GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=4, num_kv_heads=1, head_dim=8, vocab_size=64),
    8,
)
TRAIN = (
    (r"llm/embedder/.*", "train:table"),
    (r".*/lora_[ab]", "train:lora"),
    (r"img/head/.*", "train:head"),
    (r"llm/.*/linear", "train:mlp"),
)
TOTAL = 4


class Stream:
    """Batches of 16 rows, short texts in the second; the last one is filled up with rows that do not count."""

    def __init__(self, stop_at: int) -> None:
        self.drawn, self.stop_at = 0, stop_at

    def __next__(self) -> Batch:
        self.drawn += 1
        if self.drawn == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        batch = Batch.fake(16, 8, 8, seed=self.drawn)
        if self.drawn == 2:  # the step's other branch, chosen by the rows of all devices
            short = (np.arange(9) <= 6).astype(np.int32)
            texts = ("tokens", "mask_loss", "mask_input")
            batch = batch._replace(**{name: getattr(batch, name) * short for name in texts})
        return batch._replace(mask_example=np.arange(16) < 5) if self.drawn == TOTAL else batch

    def get_state(self) -> dict[str, Any]:
        return {"batches_drawn": self.drawn}

    def set_state(self, state: dict[str, Any]) -> None:
        self.drawn = state["batches_drawn"]


def sent(plan: Plan, trainable: Flat, frozen: Flat, config: MeshConfig) -> tuple[int, int]:
    """Counts the arrays with rows of the batch, and the token tables, that the devices send each other in a step.

    They should send only weights and sums of gradients: if they send rows, devices repeat the work of others.
    Weights are sent along `fsdp` alone: without it nothing is gathered or exchanged but rows. The table is larger than
    everything it is multiplied with, so that it should stay where it is.
    """
    mesh = make_mesh(config)
    state = init_state(trainable, plan.tx)
    state = put(state, shard_state(mesh, state, PALIGEMMA.sharding))
    batch = put_batch(mesh, Batch.fake(80, 8, 8), accumulate=2)  # 40: a length that no weight has
    args = (
        state,
        put(frozen, shard_flat(mesh, frozen, PALIGEMMA.sharding)),
        batch,
        put(jax.random.key(0), replicated(mesh)),
    )
    step = (
        step_on(mesh, state, PALIGEMMA.sharding)
        .lower(*args, model=plan.model, tx=plan.tx, options=plan.options)
        .compile()
    )
    # Not the loss's sums over the vocabulary, [40, T] and, in the gradient, [40, T, D]; nor embedded text, and what
    # comes back to it in the gradient: to each every device gives, or from it takes, the share of its own tokens.
    own_tokens = r"embedder\.encode|transpose\(jvp\(\S*_embed/|BAV,VD->BAD"
    whole_part = rf" = f32\[(?:2,)?40,\d+,[\d,]+\]\S* all-(?:gather|reduce)\((?!.*(?:{own_tokens}))"
    anything = r" (?:all-gather|all-to-all|collective-permute)\("
    text = step.as_text()
    tables = re.findall(r" = f32\[64,16\]\S* all-gather\(", text)
    return len(re.findall(whole_part if config.fsdp > 1 else anything, text)), len(tables)


def main() -> None:
    folder, stop_at = Path(sys.argv[1]), int(sys.argv[5])
    base = {name: 0.3 * leaf for name, leaf in fake_params(VARIANT).items()}
    adapters = lora.resolve(LoraConfig(rank=2, dropout=0.1, targets=((".*", "lora"),)), base, PALIGEMMA.equations)
    assert adapters is not None
    leaves = base | lora.init(jax.random.key(1), adapters, base)
    labels = label_leaves(leaves, StageConfig(train=(*TRAIN, (".*", "freeze"))))
    trainable, frozen = split(leaves, labels)
    optim = OptimConfig(learning_rate=1e-2)
    mesh = make_mesh(MeshConfig(*map(int, sys.argv[2:5])))
    plan = Plan(
        name="stage2",
        model=PaliGemma(VARIANT, adapters, remat="products"),
        tx=make_optimizer(optim, labels, total_steps=TOTAL),
        options=StepOptions(accumulate=2, text_lengths=(6, 8)),
        schedules={"learning_rate": make_schedule(optim, TOTAL, learning_rate=optim.learning_rate)},
        total_steps=TOTAL,
        log_every=1,
        save_every=100,
        mesh=mesh if mesh.size > 1 else None,
    )
    run = {"key": jax.random.key(3), "folder": folder, "fingerprint": {}}
    if stop_at:
        try:
            train(plan, trainable, frozen, Stream(stop_at), **run)
        except TrainingStopped:
            print("stopped")
    trained = train(plan, trainable, frozen, Stream(0), **run)
    cut = sum(not where.is_fully_replicated for where in shard_flat(mesh, frozen, PALIGEMMA.sharding).values())
    meshes = [] if stop_at or mesh.size == 1 else [MeshConfig(data=0), MeshConfig(data=1, fsdp=mesh.size)]
    arrays = [sent(plan, trainable, frozen, config) for config in meshes]
    np.savez(folder / "trained.npz", **trained, cut=cut, sent=np.array(arrays, int))


if __name__ == "__main__":
    main()
