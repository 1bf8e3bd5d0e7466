"""The means that keep a tower fast on its devices and small in their memory, apart from its mathematics.

gemma.py and siglip.py define what is computed. This module defines how: the loop over layers, the results that a
backward pass stores, products of a few tokens at a time, and the sharing of a residual stream and a token table over a
mesh.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from radvqa_jax.models import attention
from radvqa_jax.models.activation_sharding import shard_by_rows, shard_for_vocabulary
from radvqa_jax.models.blocks import map_blocks
from radvqa_jax.models.lora import LORA
from radvqa_jax.models.quantize import QUANTIZED
from radvqa_jax.models.remat import Remat, by_blocks, policy_of, rematerialise

MLP_TOKENS = 2048  # of a block: enough that products with the weights are limited by arithmetic


def scan_layers(layer: Any, *, depth: int, remat: Remat, unroll: int, in_axes: Any = 0) -> Any:
    """A class like `layer` of `depth` layers, whose leaves, adapters and quantised weights stand on axis 0.

    Args:
        layer: the class of one layer.
        depth: layers.
        remat: the results that a layer stores for the backward pass.
        unroll: layers in one turn of the loop.
        in_axes: of the arguments after the carry, as `nn.scan` takes them.
    """
    return nn.scan(
        rematerialise(layer, remat),
        variable_axes={"params": 0, LORA: 0, QUANTIZED: 0, attention.TAPS: 0},
        variable_carry=attention.FOLD,
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=depth,
        unroll=unroll,
    )


def residual(x: Float[Array, "B T D"], y: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """The residual stream x + y; on a mesh each device keeps its own rows of it."""
    return shard_by_rows(x + y)


def map_tokens(
    function: Callable[[Array], Array], x: Float[Array, "B T D"], *, remat: Remat, drops: bool
) -> Float[Array, "B T D"]:
    """`function` of x token by token; by blocks of tokens if `remat` asks for it.

    With `drops`, because an adapter draws random numbers, it is one block: each block would have to draw its own, and
    flax's draws are made once for a loop.
    """
    if drops or not by_blocks(remat):
        return function(x)
    return map_blocks(function, x, most=MLP_TOKENS, policy=policy_of(remat))


def looped_axis(axis: str, x: Float[Array, "B T D"], remat: Remat) -> str:
    """The axis of a weight that must be whole before `map_tokens` loops; empty if it does not loop."""
    return axis if by_blocks(remat) and x.shape[1] > 1 else ""


def look_up(table: Float[Array, "V D"], tokens: Int[Array, "B T"], dtype: Any) -> Float[Array, "B T D"]:
    """The rows of a token table, in `dtype`; on a mesh the table stays in shares."""
    return shard_for_vocabulary(table[shard_for_vocabulary(tokens)]).astype(dtype)


def logits_of(states: Float[Array, "B T D"], table: Float[Array, "V D"]) -> Float[Array, "B T V"]:
    """The products of states with a token table's rows, accumulated in float32."""
    alone = states.shape[0] * states.shape[1] == 1
    if alone:  # XLA for GPUs makes a product with one row a sum over a float32 copy of the table, of 2 GB
        states = jnp.repeat(states, 8, axis=1)
    logits = jnp.einsum("BTD,VD->BTV", states, table, preferred_element_type=jnp.float32)
    return logits[:, :1] if alone else logits
