"""The keys and values that decoding keeps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.models.variants import GemmaConfig


class KVCache(NamedTuple):
    """Keys and values of every layer; a slot is written once and is the same column for every row."""

    key: Float[Array, "L B S K H"]
    value: Float[Array, "L B S K H"]

    @staticmethod
    def empty(config: GemmaConfig, batch_size: int, slots: int, dtype: Any) -> "KVCache":
        """A cache of zeros with room for `slots` tokens (image, prompt and answer)."""
        shape = (config.depth, batch_size, slots, config.num_kv_heads, config.head_dim)
        return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def repeat(self, samples: int) -> "KVCache":
        """The cache with every row `samples` times in a row, so that samples of a prompt share its prefill."""
        return KVCache(jnp.repeat(self.key, samples, axis=1), jnp.repeat(self.value, samples, axis=1))


class DecodeState(NamedTuple):
    """The state of decoding: the cache, the slots that may be read, and the slot of the next token."""

    cache: KVCache
    readable: Bool[Array, "B S"]
    position: Int[Array, " B"]  # of the next token: input tokens so far
    slot: Int[Array, ""]

    def repeat(self, samples: int) -> "DecodeState":
        """The state with every row `samples` times in a row."""
        readable, position = jnp.repeat(self.readable, samples, axis=0), jnp.repeat(self.position, samples, axis=0)
        return DecodeState(self.cache.repeat(samples), readable, position, self.slot)


def write(cache: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
    """One layer's cache [B S K H] with `new` [B T K H] in the slots from `slot` on, in the cache's dtype."""
    return jax.lax.dynamic_update_slice_in_dim(cache, new.astype(cache.dtype), slot, axis=1)
