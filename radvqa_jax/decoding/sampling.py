"""Choosing the next token from its logits. Pure functions of logits and PRNG keys."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from radvqa_jax.config import DecodeConfig

EXCLUDED = -1e30  # finite, and far below any logit


def _ordered(values: Float[Array, "..."]) -> Int[Array, "..."]:
    """Integers in the order of the values, as float32."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _threshold(
    logits: Float[Array, "B V"], enough: Callable[[Bool[Array, "B V"]], Bool[Array, "B 1"]]
) -> Bool[Array, "B V"]:
    """The smallest set of most likely tokens of each row that is `enough`, with all ties of the last one.

    The smallest kept logit is found by halving the range of float32 values 32 times: a CPU needs longer to sort a
    vocabulary than for the rest of a decoding step. If even all tokens are not enough, all are returned.
    """
    order = _ordered(logits)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # from `low` on it is enough
        middle = (low | high) - ((low ^ high) >> 1)  # the mean, rounded up, without overflow
        holds = enough(order >= middle)
        return jnp.where(holds, middle, low), jnp.where(holds, high, middle - 1)

    low, _ = jax.lax.fori_loop(0, 32, halve, (order.min(axis=-1, keepdims=True), order.max(axis=-1, keepdims=True)))
    return order >= low


def keep_top_k(logits: Float[Array, "B V"], k: int) -> Float[Array, "B V"]:
    """Logits with all but the k largest excluded; k = 0 or k >= V keeps all. Ties with the k-th are kept.

    >>> keep_top_k(jnp.array([[1.0, 3.0, 2.0]]), 2).tolist()[0][1:]
    [3.0, 2.0]
    """
    if k == 0 or k >= logits.shape[-1]:
        return logits
    kept = _threshold(logits, lambda chosen: chosen.sum(axis=-1, keepdims=True) >= k)
    return jnp.where(kept, logits, EXCLUDED)


def keep_top_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Logits with all but the smallest set of tokens whose probability reaches p excluded.

    Nucleus sampling (Holtzman et al. 2020). The most likely token is always kept, and so are ties with the last one.
    """
    if p >= 1:
        return logits
    probs = jax.nn.softmax(logits, axis=-1)
    kept = _threshold(logits, lambda chosen: jnp.where(chosen, probs, 0).sum(axis=-1, keepdims=True) >= p)
    return jnp.where(kept, logits, EXCLUDED)


def sample(logits: Float[Array, "B V"], keys: Key[Array, " B"], config: DecodeConfig) -> Int[Array, " B"]:
    """A token for each row: the most likely one at temperature 0, else drawn with the row's own key [B].

    The order is that of the usual libraries: temperature, then top-k, then top-p.
    """
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = keep_top_p(keep_top_k(logits / config.temperature, config.top_k), config.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
