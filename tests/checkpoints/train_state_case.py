"""A small state of training, and the folder of its steps."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from radvqa_jax.checkpoints.train_state import Checkpointer
from radvqa_jax.schema import TrainState

FINGERPRINT = {"seed": 0, "stage2": {"optim": {"learning_rate": 1e-5}, "train": [(".*/lora_.*", "train:lora")]}}
DATA = {"next_index": 96, "epoch": 1, "rng": [1, 2]}
LABELS = {"img/head/kernel": "train:head", "llm/w/lora_a": "train:lora", "llm/w/lora_b": "train:lora"}


def make_tx() -> optax.GradientTransformation:
    schedule = optax.linear_schedule(0.0, 1e-2, 10)
    groups = {"train:head": optax.adam(schedule), "train:lora": optax.inject_hyperparams(optax.adamw)(schedule)}
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition(groups, LABELS))


def make_state() -> TrainState:
    rng = np.random.default_rng(0)
    shapes = {"img/head/kernel": (4, 6), "llm/w/lora_a": (6, 2), "llm/w/lora_b": (2, 8)}
    trainable = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    trainable["img/head/kernel"] = trainable["img/head/kernel"].astype(jnp.bfloat16)
    return TrainState(jnp.zeros((), jnp.int32), trainable, make_tx().init(trainable))


def open_folder(folder: Path, **more: Any) -> Checkpointer:
    return Checkpointer(folder, **({"fingerprint": FINGERPRINT} | more))


def save_steps(folder: Path, *steps: int, **more: Any) -> None:
    with open_folder(folder, **more) as checkpointer:
        for step in steps:
            assert checkpointer.save(step, make_state()._replace(step=jnp.asarray(step, jnp.int32)), DATA, force=True)


ABSTRACT = jax.eval_shape(make_state)
