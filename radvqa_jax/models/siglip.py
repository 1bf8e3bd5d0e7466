"""SigLIP's vision tower with big_vision's names (models/vit.py: scan, no pooling), and the projector `head`."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from radvqa_jax.models import attention
from radvqa_jax.models.activation_sharding import shard_by_rows
from radvqa_jax.models.fused_attention import KERNELS
from radvqa_jax.models.layers import residual, scan_layers
from radvqa_jax.models.lora import AdaptedModule, Lora
from radvqa_jax.models.remat import FIRST, PROJECTED, QKV, Remat, keep
from radvqa_jax.models.variants import SiglipConfig


def _plus_bias(module: nn.Module, out: Array, ndim: int) -> Array:
    """`out` plus a parameter `bias` over its last `ndim` axes."""
    shape = out.shape[-ndim:]
    bias = module.param("bias", nn.initializers.zeros, shape).astype(out.dtype)
    return out + bias.reshape((1,) * (out.ndim - ndim) + shape)


class DenseLayer(AdaptedModule):
    """A dense layer with bias, `kernel [in F]` and `bias [F]`."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T F"]:
        width = x.shape[-1]
        out = self.linear("kernel", "BTD,DF->BTF", x, shape=(width, self.features), fan_in=width)
        return _plus_bias(self, out, 1)


class HeadsIn(AdaptedModule):
    """Query, key or value projection, `kernel [D N H]` and `bias [N H]`."""

    num_heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T N H"]:
        width, head_dim = x.shape[-1], x.shape[-1] // self.num_heads
        out = self.linear("kernel", "BTD,DNH->BTNH", x, shape=(width, self.num_heads, head_dim), fan_in=width)
        return _plus_bias(self, out, 2)


class HeadsOut(AdaptedModule):
    """Output projection of attention, `kernel [N H D]` and `bias [D]`."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T N H"]) -> Float[Array, "B T D"]:
        _, _, num_heads, head_dim = x.shape
        width = num_heads * head_dim
        out = self.linear("kernel", "BTNH,NHD->BTD", x, shape=(num_heads, head_dim, width), fan_in=width)
        return _plus_bias(self, out, 1)


class SelfAttention(AdaptedModule, attention.Tapped):
    """Multi-head attention over all patches, with biases."""

    num_heads: int
    kernel: str = ""

    @nn.compact
    def __call__(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        heads = {
            name: HeadsIn(self.lora, self.dtype, self.num_heads, name=name)(x) for name in ("query", "key", "value")
        }
        query = heads["query"] * (heads["query"].shape[-1] ** -0.5)
        query, key, value = (keep(x, QKV) for x in (query, heads["key"], heads["value"]))
        project, kernel = HeadsOut(self.lora, self.dtype, name="out"), KERNELS.get(self.kernel)
        out = project(attention.attend(self, query, key, value, project=project, kernel=kernel))
        return keep(out, PROJECTED)


class MlpBlock(AdaptedModule):
    """Dense, GELU (tanh form), Dense."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        width = x.shape[-1]
        x = nn.gelu(keep(DenseLayer(self.lora, self.dtype, self.mlp_dim, name="Dense_0")(x), FIRST))
        return DenseLayer(self.lora, self.dtype, width, name="Dense_1")(x)


class EncoderBlock(AdaptedModule):
    """One pre-norm layer of the vision tower; (x, None) in and out, as a scan wants it."""

    config: SiglipConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B P D"], _: None) -> tuple[Float[Array, "B P D"], None]:
        c = self.config
        x = shard_by_rows(x)
        attn = SelfAttention(self.lora, self.dtype, c.num_heads, c.kernel, name="MultiHeadDotProductAttention_0")
        x = residual(x, attn(nn.LayerNorm(dtype=self.dtype, name="LayerNorm_0")(x)))
        mlp = MlpBlock(self.lora, self.dtype, c.mlp_dim, name="MlpBlock_0")
        return residual(x, mlp(nn.LayerNorm(dtype=self.dtype, name="LayerNorm_1")(x))), None


class Encoder(AdaptedModule):
    """All layers, stacked on axis 0 of their parameters, and the last norm."""

    config: SiglipConfig
    remat: Remat
    unroll: int

    @nn.compact
    def __call__(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        layers = scan_layers(EncoderBlock, depth=self.config.depth, remat=self.remat, unroll=self.unroll)
        x, _ = layers(self.lora, self.dtype, self.config, name="encoderblock")(x, None)
        return nn.LayerNorm(dtype=self.dtype, name="encoder_norm")(x)


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its kernel size, written as one product; `kernel [p p 3 D]`, `bias [D]`."""

    width: int
    patch: int
    dtype: Any

    @nn.compact
    def __call__(self, patches: Float[Array, "B P X"]) -> Float[Array, "B P D"]:
        shape = (self.patch, self.patch, 3, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        kernel = rearrange(kernel, "p q C D -> (p q C) D").astype(self.dtype)
        return _plus_bias(self, jnp.einsum("BPX,XD->BPD", patches.astype(self.dtype), kernel), 1)


class Siglip(nn.Module):
    """Image to image tokens in the width of the language model."""

    config: SiglipConfig
    num_patches: int
    out_width: int
    lora: Lora | None = None
    dtype: Any = jnp.float32
    remat: Remat = "none"
    unroll: int = 1  # layers in one turn of the loop over layers

    @nn.compact
    def __call__(self, image: Float[Array, "B h w 3"]) -> Float[Array, "B P D"]:
        width, patch = self.config.width, self.config.patch
        side = math.isqrt(self.num_patches) * patch
        if image.shape[1:3] != (side, side):
            have = f"{image.shape[1]} x {image.shape[2]}"
            raise ValueError(f"The model takes images of {side} x {side} pixels, got {have}. See model.resolution.")
        patches = rearrange(image, "B (i p) (j q) C -> B (i j) (p q C)", p=patch, q=patch)
        x = PatchEmbedding(width, patch, self.dtype, name="embedding")(patches)
        position = self.param("pos_embedding", nn.initializers.normal(width**-0.5), (1, self.num_patches, width))
        x = x + position.astype(self.dtype)
        x = Encoder(self.lora, self.dtype, self.config, self.remat, self.unroll, name="Transformer")(x)
        return DenseLayer(self.lora, self.dtype, self.out_width, name="head")(x)
