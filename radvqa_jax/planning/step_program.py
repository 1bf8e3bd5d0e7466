"""The training step of a stage, with shapes instead of arrays, so that it can be compiled without data or weights."""

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
    """Wraps a compilation. The yielded list holds XLA's message afterwards if XLA refused the program for its memory,
    as it does for TPUs."""
    said: list[str] = []
    try:
        yield said
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said.append(str(error))


def shaped(tree: Any, shardings: Any) -> Any:
    """The shapes of a tree's arrays, each with its sharding."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def batch_shapes(mesh: Mesh | None, rows: int, resolution: int, seq_len: int) -> Batch:
    """The shapes of a batch, sharded by rows if the mesh divides them and replicated otherwise."""
    spec = Batch.spec(rows, resolution, seq_len)
    if mesh is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), spec)
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    where = sharding.replicated(mesh) if rows % share else NamedSharding(mesh, sharding.ROWS)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), spec)


def key_shape(mesh: Mesh | None) -> Any:
    """The shape of a random key, replicated over the mesh."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return key if mesh is None else jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))


def step_shapes(plan: Plan, trainable: Flat, frozen: Flat, mesh: Mesh | None, *, rows: int, seq_len: int) -> Any:
    """The shapes of the step's arguments: state, frozen leaves, a batch of `rows`, random key."""
    state = jax.eval_shape(partial(init_state, tx=plan.tx), trainable)
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), frozen)
    if mesh is not None:
        rules = backbone_of(plan.model.variant).sharding
        state = shaped(state, sharding.shard_state(mesh, state, rules))
        frozen = shaped(frozen, sharding.shard_flat(mesh, frozen, rules))
    return state, frozen, batch_shapes(mesh, rows, plan.model.variant.resolution, seq_len), key_shape(mesh)
