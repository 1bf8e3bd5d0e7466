"""Attention weighted by the size of the vectors that it moves: |alpha f(x)| instead of alpha. Pure functions.

A head may put much weight on a token whose value vector is almost zero (an attention sink). The head adds alpha *
f(x_s) to the residual stream from token s, with f(x) = (x W_V + b_V) W_O for that head, so the norm of this term is a
fairer measure than alpha. It still leaves out the norm after attention (Gemma 2), the MLP and later layers.

Source: Kobayashi et al. 2020, "Attention is Not Only a Weight: Analyzing Transformers with Vector Norms", section 3.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float


def output_weight(project: Callable[[Any], Any], *, num_heads: int, head_dim: int, dtype: Any) -> Float[Array, "N H D"]:
    """The matrix that an output projection applies, with any adapter or quantised weight.

    The projection is linear, so the matrix is its response to unit vectors; its bias, if any, is subtracted.
    """
    size = num_heads * head_dim
    units = jnp.eye(size, dtype=dtype).reshape(1, size, num_heads, head_dim)
    at_zero = project(jnp.zeros((1, 1, num_heads, head_dim), dtype))
    out = (project(units) - at_zero).astype(jnp.float32)
    return rearrange(out, "1 (N H) D -> N H D", N=num_heads)


def moved(value: Float[Array, "B S K H"], weight: Float[Array, "N H D"]) -> Float[Array, "B N S D"]:
    """f(x): the vector that each head would add to the residual stream if it read only one token."""
    groups = weight.shape[0] // value.shape[2]
    values = jnp.repeat(value.astype(jnp.float32), groups, axis=2)  # query head n reads value head n // groups
    return jnp.einsum("BSNH,NHD->BNSD", values, weight, precision="highest")


def head_norms(probs: Float[Array, "B N A S"], vectors: Float[Array, "B N S D"]) -> Float[Array, "B N A S"]:
    """|alpha f(x)| for each head: the size of the vector that the head moved from token s to query a."""
    return probs * jnp.linalg.norm(vectors, axis=-1)[:, :, None]


def layer_norms(probs: Float[Array, "B N A S"], vectors: Float[Array, "B N S D"]) -> Float[Array, "B A S"]:
    """|sum over heads of alpha f(x)|: the size of the vector that the layer moved; heads may cancel.

    Computed one query at a time, so that no array of size A x S x D exists.
    """

    def one(row: jax.Array) -> jax.Array:
        return jnp.linalg.norm(jnp.einsum("BNS,BNSD->BSD", row, vectors, precision="highest"), axis=-1)

    return jnp.moveaxis(jax.lax.map(one, jnp.moveaxis(probs, 2, 0)), 0, 1)
