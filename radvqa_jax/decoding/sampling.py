"""Choosing the next token from its logits. Pure functions of logits and PRNG keys."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from radvqa_jax.config import DecodeConfig

EXCLUDED = -1e30  # finite, and far below any logit


def keep_top_k(logits: Float[Array, "B V"], k: int) -> Float[Array, "B V"]:
    """Returns logits with all but the k largest excluded; k = 0 or k >= V keeps all. Ties with the k-th are kept.

    >>> keep_top_k(jnp.array([[1.0, 3.0, 2.0]]), 2).tolist()[0][1:]
    [3.0, 2.0]
    """
    if k == 0 or k >= logits.shape[-1]:
        return logits
    threshold = jax.lax.top_k(logits, k)[0][:, -1:]
    return jnp.where(logits >= threshold, logits, EXCLUDED)


def keep_top_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Returns logits with all but the smallest set of tokens whose probability reaches p excluded.

    Nucleus sampling (Holtzman et al. 2020). The most likely token is always kept.
    """
    if p >= 1:
        return logits
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs  # mass of the more likely tokens
    threshold = jnp.min(jnp.where(before < p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= threshold, logits, EXCLUDED)


def sample(logits: Float[Array, "B V"], keys: Key[Array, " B"], config: DecodeConfig) -> Int[Array, " B"]:
    """Returns a token for each row: the most likely one at temperature 0, else drawn with the row's own key [B].

    The order is that of the usual libraries: temperature, then top-k, then top-p.
    """
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = keep_top_p(keep_top_k(logits / config.temperature, config.top_k), config.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
