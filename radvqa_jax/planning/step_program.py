"""The training step of a stage as a program with shapes: what the loop will call, without an array."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from radvqa_jax.backbones import backbone_of
from radvqa_jax.schema import Batch
from radvqa_jax.training import sharding
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.step import init_state
from radvqa_jax.trees import Flat


@contextlib.contextmanager
def refused() -> Iterator[list[str]]:
    """Around a compilation: the list has XLA's message afterwards, if it refused a program for its memory, as XLA for
    TPUs does."""
    said: list[str] = []
    try:
        yield said
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said.append(str(error))


def shaped(tree: Any, shardings: Any) -> Any:
    """Shapes with their sharding."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def batch_shapes(mesh: Mesh | None, rows: int, resolution: int, seq_len: int) -> Batch:
    """The shapes of a batch, cut by rows where the mesh can cut them."""
    spec = Batch.spec(rows, resolution, seq_len)
    if mesh is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), spec)
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    where = sharding.replicated(mesh) if rows % share else NamedSharding(mesh, sharding.ROWS)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), spec)


def key_shape(mesh: Mesh | None) -> Any:
    """The shape of a key."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return key if mesh is None else jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))


def step_shapes(plan: Plan, trainable: Flat, frozen: Flat, mesh: Mesh | None, *, rows: int, seq_len: int) -> Any:
    """The shapes that the step is called with: state, frozen leaves, a batch of `rows`, key."""
    state = jax.eval_shape(partial(init_state, tx=plan.tx), trainable)
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), frozen)
    if mesh is not None:
        rules = backbone_of(plan.model.variant).sharding
        state = shaped(state, sharding.shard_state(mesh, state, rules))
        frozen = shaped(frozen, sharding.shard_flat(mesh, frozen, rules))
    return state, frozen, batch_shapes(mesh, rows, plan.model.variant.resolution, seq_len), key_shape(mesh)
