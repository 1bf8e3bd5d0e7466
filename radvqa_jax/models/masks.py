"""The prefix-LM mask of big_vision (models/proj/paligemma/paligemma.py): the tokens that each token may read."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def make_attn_mask(mask_input: Bool[Array, "B T"], mask_ar: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """A mask that is True where a token (row) may read a token (column).

    A token reads another if both are input and cumsum(mask_ar) of the other is not above its own. An image patch and a
    prefix token (mask_ar 0) read each other; a suffix token (mask_ar 1) reads all before it and itself:

    >>> make_attn_mask(jnp.ones((1, 4), bool), jnp.array([[0, 0, 1, 1]])).astype(int)[0].tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    >>> make_attn_mask(jnp.array([[True, True, False]]), jnp.array([[0, 0, 0]])).astype(int)[0].tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    block = jnp.cumsum(mask_ar, axis=1)
    readable = block[:, None, :] <= block[:, :, None]
    return readable & mask_input[:, None, :] & mask_input[:, :, None]


def make_positions(mask_input: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """The position of each token, counting input tokens only.

    >>> make_positions(jnp.array([[True, True, True, False]])).tolist()
    [[0, 1, 2, 2]]
    """
    return jnp.cumsum(mask_input, axis=1) - 1
