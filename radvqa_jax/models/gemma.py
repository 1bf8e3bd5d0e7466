"""Gemma 1 and 2 with big_vision's names (models/ppp/gemma.py)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.models import attention
from radvqa_jax.models.activation_sharding import shard_by_rows
from radvqa_jax.models.fused_attention import KERNELS
from radvqa_jax.models.kv_cache import KVCache, write
from radvqa_jax.models.layers import logits_of, look_up, looped_axis, map_tokens, residual, scan_layers
from radvqa_jax.models.lora import AdaptedModule, Lora
from radvqa_jax.models.remat import DOWN, FIRST, PROJECTED, QKV, SECOND, Remat, keep
from radvqa_jax.models.variants import GemmaConfig

MAX_WAVELENGTH = 10_000


def rope(x: Float[Array, "B T N H"], positions: Int[Array, "B T"]) -> Float[Array, "B T N H"]:
    """x rotated by its position (Su et al. 2021); the two halves of a head are rotated against each other."""
    head_dim = x.shape[-1]
    timescale = MAX_WAVELENGTH ** (jnp.arange(head_dim // 2, dtype=jnp.float32) * 2 / head_dim)
    angle = positions[:, :, None, None].astype(jnp.float32) / timescale[None, None, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) times (1 + scale), computed in float32."""

    dtype: Any

    @nn.compact
    def prepared(self, width: int) -> Callable[[Array], Array]:
        """The norm of [B T width] as a function that a loop may call: the weight is read outside the loop."""
        scale = self.param("scale", nn.initializers.zeros, (width,)).astype(jnp.float32)

        def apply(x: Array) -> Array:
            x = x.astype(jnp.float32)
            x = x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
            return (x * (1 + scale)[None, None]).astype(self.dtype)

        return apply

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.prepared(x.shape[-1])(x)


class Einsum(AdaptedModule):
    """One weight `w` and the equation that uses it."""

    shape: tuple[int, ...]
    equation: str
    fan_in: int

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Any:
        return self.linear("w", self.equation, x, shape=self.shape, fan_in=self.fan_in)


class Attention(AdaptedModule, attention.Tapped):
    """Multi-query, grouped-query or (with as many key/value heads as heads) fused multi-head attention."""

    config: GemmaConfig

    def _einsum(self, name: str, equation: str, shape: tuple[int, ...], fan_in: int) -> Einsum:
        return Einsum(self.lora, self.dtype, shape, equation, fan_in, name=name)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        positions: Int[Array, "B T"],
        attn_mask: Bool[Array, "B T S"],
        cache: KVCache | None,
        slot: Int[Array, ""] | None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        c = self.config
        if c.num_kv_heads == c.num_heads:
            shape = (3, c.num_heads, c.width, c.head_dim)
            query, key, value = self._einsum("qkv_einsum", "BTD,CNDH->CBTNH", shape, c.width)(x)
        else:
            query = self._einsum("q_einsum", "BTD,NDH->BTNH", (c.num_heads, c.width, c.head_dim), c.width)(x)
            shape = (2, c.num_kv_heads, c.width, c.head_dim)
            key, value = self._einsum("kv_einsum", "BTD,CKDH->CBTKH", shape, c.width)(x)
        query = rope(query, positions) * jnp.asarray(c.query_scale or c.head_dim**-0.5, self.dtype)
        key = rope(key, positions)
        query, key, value = (keep(x, QKV) for x in (query, key, value))
        if cache is not None and slot is not None:
            cache = KVCache(write(cache.key, key, slot), write(cache.value, value, slot))
            key, value = cache.key.astype(self.dtype), cache.value.astype(self.dtype)
        shape = (c.num_heads, c.head_dim, c.width)
        project = self._einsum("attn_vec_einsum", "BTNH,NHD->BTD", shape, c.num_heads * c.head_dim)
        out = attention.attend(
            self,
            query,
            key,
            value,
            attn_mask=attn_mask,
            softcap=c.attn_softcap,
            project=project,
            kernel=KERNELS.get(c.kernel) if x.shape[1] > 1 else None,  # one query has nothing to fuse
        )
        return keep(project(out), PROJECTED), cache


class FeedForward(AdaptedModule):
    """GELU (tanh form) of the first gate times the second, then down.

    Inside, a token takes 2 x mlp_dim values twice in the backward pass: for six rows at 448 pixels that would be more
    than everything else except the weights, so tokens are processed in blocks. `after` (Gemma 2's norm) belongs to the
    block: outside, it would need the result of all blocks in the backward pass, and each block would be computed a
    third time.
    """

    config: GemmaConfig
    remat: Remat = "none"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], after: Callable[[Array], Array] = lambda y: y
    ) -> Float[Array, "B T D"]:
        width, mlp_dim, whole = self.config.width, self.config.mlp_dim, looped_axis("D", x, self.remat)
        gates = self.prepared("gating_einsum", "BTD,CDF->CBTF", shape=(2, width, mlp_dim), fan_in=width, whole=whole)
        down = self.prepared("linear", "BTF,FD->BTD", shape=(mlp_dim, width), fan_in=mlp_dim, whole=whole)

        def apply(x: Array) -> Array:
            gate, up = gates(x)
            y = down(nn.gelu(keep(gate, FIRST)) * keep(up, SECOND))
            return after(keep(y, DOWN) if self.config.post_norms else y)

        return map_tokens(apply, x, remat=self.remat, drops=self.drops("gating_einsum", "linear"))


class Block(AdaptedModule):
    """One layer; the carry is x, the scanned input and output is its slice of the cache."""

    config: GemmaConfig
    remat: Remat = "none"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        cache: KVCache | None,
        positions: Int[Array, "B T"],
        attn_mask: Bool[Array, "B T S"],
        slot: Int[Array, ""] | None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        def norm(name: str) -> Callable[[Array], Array]:
            return RMSNorm(self.dtype, name=name).prepared(self.config.width)

        def post_norm(name: str) -> Callable[[Array], Array]:
            return norm(name) if self.config.post_norms else lambda y: y

        x = shard_by_rows(x)
        attn = Attention(self.lora, self.dtype, self.config, name="attn")
        y, cache = attn(norm("pre_attention_norm")(x), positions=positions, attn_mask=attn_mask, cache=cache, slot=slot)
        x = residual(x, post_norm("post_attention_norm")(y))
        mlp = FeedForward(self.lora, self.dtype, self.config, self.remat, name="mlp")
        return residual(x, mlp(norm("pre_ffw_norm")(x), post_norm("post_ffw_norm"))), cache


class Embedder(nn.Module):
    """The token table, used for embedding and, transposed, for logits."""

    config: GemmaConfig
    dtype: Any

    def setup(self) -> None:
        shape = (self.config.vocab_size, self.config.width)
        self.input_embedding = self.param("input_embedding", nn.initializers.normal(0.02), shape)

    def encode(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Embeddings times sqrt(width), the factor rounded to the compute dtype as the reference does."""
        x = look_up(self.input_embedding, tokens, self.dtype)
        return x * jnp.sqrt(self.config.width).astype(self.dtype)

    def decode(self, pre_logits: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Logits, accumulated in float32."""
        return logits_of(pre_logits, self.input_embedding.astype(self.dtype))


class Gemma(nn.Module):
    """Embedded tokens to the states from which logits are made."""

    config: GemmaConfig
    lora: Lora | None = None
    dtype: Any = jnp.float32
    remat: Remat = "none"
    unroll: int = 1  # layers in one turn of the loop over layers

    def setup(self) -> None:
        self.embedder = Embedder(self.config, self.dtype)
        each = (0, nn.broadcast, nn.broadcast, nn.broadcast)  # a layer's own cache; positions, mask and slot are shared
        layers = scan_layers(Block, depth=self.config.depth, remat=self.remat, unroll=self.unroll, in_axes=each)
        self.layers = layers(self.lora, self.dtype, self.config, self.remat)
        self.final_norm = RMSNorm(self.dtype)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        positions: Int[Array, "B T"],
        attn_mask: Bool[Array, "B T S"],
        cache: KVCache | None = None,
        slot: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """(pre_logits, cache); with a cache, the new keys and values are in the slots from `slot` on."""
        x, cache = self.layers(x, cache, positions, attn_mask, slot)
        return self.final_norm(x), cache
