"""A model of the real size without its weights: random leaves, made on the device, and a stage that starts from them.

For full_size_smoke.py, make_random_checkpoint.py and device_day.py.
"""

import itertools
import math
import os
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from radvqa_jax.backbones import PALIGEMMA, make_model
from radvqa_jax.config import Config
from radvqa_jax.models import lora
from radvqa_jax.models.lora import equation_of
from radvqa_jax.training.base_leaves import keep_leaf, loaded_shapes
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.optimizer import label_leaves
from radvqa_jax.training.stage_plan import plan_stage
from radvqa_jax.trees import Flat, split

BLOCK = 1 << 24  # values drawn at a time: more would take memory in addition to the largest leaf
SMALL = 0.02  # standard deviation of leaves that are not linear weights, and of token embeddings, as at initialisation


def stddev(name: str, shape: tuple[int, ...]) -> float:
    """The standard deviation of a leaf that keeps the scale of activations."""
    equation = equation_of(name, PALIGEMMA.equations)
    if equation is None:
        return SMALL
    axes = equation.split("->")[0].split(",")
    contracted = [letter for letter in axes[1] if letter in axes[0]]
    sizes = dict(zip(reversed(axes[1]), reversed(shape), strict=False))
    return math.prod(sizes[letter] for letter in contracted) ** -0.5


@partial(jax.jit, static_argnames=("shape", "dtype"))
def _normal(key: jax.Array, scale: Any, *, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    size = math.prod(shape)
    parts = next(n for n in itertools.count(-(-size // BLOCK)) if size % n == 0)
    drawn = jax.lax.map(
        lambda part: scale.astype(dtype) * jax.random.normal(jax.random.fold_in(key, part), (size // parts,), dtype),
        jnp.arange(parts),
    )
    return drawn.reshape(shape)


def draw_leaf(name: str, shape: tuple[int, ...], dtype: Any, *, seed: int = 0) -> jax.Array:
    """A leaf on the default device; its values depend on its name, the seed and the kind of device alone."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return _normal(key, jnp.asarray(stddev(name, shape)), shape=shape, dtype=jnp.dtype(dtype))


def draw_base(config: Config, stages: tuple[str, ...]) -> Flat:
    """The leaves of the base as these stages hold them, in their dtypes and quantised. One is made at a time."""
    loaded = loaded_shapes(config, stages)
    keep = keep_leaf(config, stages, loaded)
    # The largest first: the extra memory of making it then adds least to the peak.
    order = sorted(loaded, key=lambda name: -math.prod(loaded[name].shape))
    made = {name: keep(name, draw_leaf(name, loaded[name].shape, loaded[name].dtype)) for name in order}
    return jax.block_until_ready(made)


def begin_stage(name: str, config: Config, base: Flat) -> tuple[Plan, Flat, Flat]:
    """(plan, trainable leaves, frozen leaves) of a stage that starts from the base with new adapters."""
    stage = config.stages[name]
    adapters = lora.resolve(stage.lora, base, PALIGEMMA.equations)
    leaves = base | (lora.init(jax.random.key(0), adapters, base) if adapters is not None else {})
    labels = label_leaves(leaves, stage, what=f"stages.{name}.train")
    plan = plan_stage(name, config, make_model(config.model, adapters), labels, rows_per_epoch=1)
    return plan, *split(leaves, labels)


def forget(path: Path) -> None:
    """Drops the file from the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    """Reads the file once and does nothing with it."""
    block = bytearray(1 << 22)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass
