"""Trains a small model on a mesh and writes what it learned; run by test_sharding.py in a process of its own.

python run_mesh.py OUT.npz DATA FSDP TENSOR
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.config import LoraConfig, MeshConfig, OptimConfig, StageConfig
from radvqa_jax.models import lora
from radvqa_jax.models.paligemma import PaliGemma, fake_params
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch
from radvqa_jax.training import sharding
from radvqa_jax.training.optimizer import label_leaves, make_optimizer
from radvqa_jax.training.step import StepOptions, init_state, step_on
from radvqa_jax.trees import split

VARIANT = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=4),
    GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=4, num_kv_heads=1, head_dim=8, vocab_size=64),
    8,
)
TRAIN = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (r"llm/.*/linear", "train:mlp"))


def main() -> None:
    base = {name: 0.3 * leaf for name, leaf in fake_params(VARIANT).items()}
    adapters = lora.resolve(LoraConfig(rank=2, targets=((".*", "lora"),)), base)
    assert adapters is not None
    leaves = base | lora.init(jax.random.key(1), adapters, base)
    labels = label_leaves(leaves, StageConfig(train=(*TRAIN, (".*", "freeze"))))
    trainable, frozen = split(leaves, labels)
    tx = make_optimizer(OptimConfig(learning_rate=1e-2), labels, total_steps=10)
    mesh = sharding.make_mesh(MeshConfig(*map(int, sys.argv[2:5])))
    state = init_state(trainable, tx)
    state = sharding.put(state, sharding.shard_state(mesh, state))
    frozen = sharding.put(frozen, sharding.shard_flat(mesh, frozen))
    key = sharding.put(jax.random.key(3), sharding.replicated(mesh))
    step = step_on(mesh, state)
    losses = []
    for number in range(3):
        batch = Batch.fake(16, 8, 8, seed=number)
        if number == 2:  # the last batch is short: rows that only fill it do not count
            batch = batch._replace(mask_example=np.arange(16) < 5)
        batch = sharding.put_batch(mesh, batch, accumulate=2)
        static = {"model": PaliGemma(VARIANT, adapters), "tx": tx, "options": StepOptions(accumulate=2)}
        state, metrics = step(state, frozen, batch, key, **static)
        losses.append(metrics["loss"])
    whole = jax.jit(lambda tree: tree, out_shardings=sharding.replicated(mesh))(state.trainable)
    out = {name: np.asarray(leaf) for name, leaf in whole.items()} | {"losses": np.asarray(jnp.stack(losses))}
    cut = sum(not leaf.sharding.is_fully_replicated for leaf in frozen.values())
    np.savez(sys.argv[1], **out, compiled=step._cache_size(), cut=cut)


if __name__ == "__main__":
    main()
