"""Cutting an axis into blocks, so that large intermediates exist for only one block at a time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from radvqa_jax.models.activation_sharding import row_shares


def block_size(length: int, most: int) -> int:
    """The number of positions in a block: at most `most`, and one that divides `length` where that costs little.

    >>> block_size(1152, 256), block_size(1024, 256), block_size(100, 256), block_size(97, 50)
    (192, 256, 100, 49)
    """
    count = math.ceil(length / most)
    even = next((n for n in range(count, 2 * count) if length % n == 0), count)
    return math.ceil(length / even)


def cut(x: Array, size: int) -> Array:
    """[B T …] as [blocks B size …], padded with zeros at the end."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)


def join(blocks: Array, length: int) -> Array:
    """[blocks B size …] as [B T …], the padding dropped: the inverse of `cut`."""
    whole = jnp.moveaxis(blocks, 0, 1)
    return whole.reshape(whole.shape[0], -1, *blocks.shape[3:])[:, :length]


def map_blocks(function: Callable[[Array], Array], x: Array, *, most: int, policy: Any = None) -> Array:
    """`function` of x [B T …] position by position; the backward pass computes a block's insides again.

    Args:
        function: of [B t …].
        x: all positions.
        most: positions of a block over all rows that one device has.
        policy: of jax.checkpoint: what of a block's insides is kept; None = nothing.
    """
    size = block_size(x.shape[1], max(1, most * row_shares() // x.shape[0]))
    if size == x.shape[1]:
        return function(x)
    # Inside a scan nothing could be merged across the boundary; a guard against it only costs.
    block = jax.checkpoint(function, prevent_cse=False, policy=policy)
    return join(jax.lax.map(block, cut(x, size)), x.shape[1])
