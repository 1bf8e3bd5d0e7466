"""Attention that never holds the probabilities of all queries, for passes in which nobody reads them.

`blocks` runs anywhere XLA does: queries are taken a block at a time, and the backward pass computes a block's
probabilities again (Rabe & Staats 2021). `cudnn` is NVIDIA's flash attention, for bfloat16 on Ampere and later; heads
of 256, as Gemma's are, need Hopper. `splash` is JAX's kernel for TPUs. All give what attention.attend gives, up to
rounding.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from radvqa_jax.models.activation_sharding import ROWS
from radvqa_jax.models.attention import MASKED, attended, attention_probs
from radvqa_jax.models.blocks import block_size, cut, join
from radvqa_jax.models.remat import ATTENDED, keep
from radvqa_jax.models.variants import Variant

log = logging.getLogger(__name__)

BLOCK = 256  # queries of a block, at most
SPLASH_TILE = 128  # queries and keys of a tile
PROBE_TOLERANCE = 0.03  # of the largest value: both round probabilities to bfloat16


def blocks(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
    block: int = BLOCK,
) -> Float[Array, "B T N H"]:
    """The attended values; float32 probabilities exist for at most `block` queries at a time."""
    length = query.shape[1]
    size = block_size(length, block)
    if size == length:
        return keep(attended(attention_probs(query, key, attn_mask, softcap=softcap), value), ATTENDED)

    @partial(jax.checkpoint, prevent_cse=False)  # inside a scan nothing could be merged across the boundary
    def one(part: tuple[Array, Any]) -> Array:
        return attended(attention_probs(part[0], key, part[1], softcap=softcap), value)

    # Padding rows are masked everywhere, stay finite, and are dropped.
    parts = jax.tree.map(lambda x: cut(x, size), (query, attn_mask))
    return keep(join(jax.lax.map(one, parts), length), ATTENDED)


def cudnn(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
) -> Float[Array, "B T N H"]:
    """The attended values from cuDNN; the mask becomes a bias, since cuDNN accepts a mask only together with one."""
    if softcap:
        raise ValueError("cuDNN's attention has no soft cap (Gemma 2). Set model.attention='blocks' or 'auto'.")
    if query.shape[1] % 2 or key.shape[1] % 2:  # with a bias, cuDNN's gradient needs even lengths
        return blocks(query, key, value, attn_mask)
    bias = None if attn_mask is None else jnp.where(attn_mask, 0, MASKED).astype(query.dtype)[:, None]
    return jax.nn.dot_product_attention(query, key, value, bias, scale=1.0, implementation="cudnn")


def splash(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """The attended values from JAX's splash attention; `interpret` runs it, slowly, where there is no TPU.

    On several devices it needs a mesh, and rows that can be divided over it: the compiler cannot cut the kernel.
    """
    (batch, length), keys = query.shape[:2], key.shape[1]
    if attn_mask is None:
        attn_mask = jnp.ones((batch, length, keys), bool)
    # A query without any key is a padding token, whose result nobody reads: the kernel would divide by zero.
    attn_mask = attn_mask | ~attn_mask.any(axis=-1, keepdims=True)
    # The kernel takes whole tiles. Keys of the padding are masked; its queries see all others, and are dropped.
    more, more_keys = -length % SPLASH_TILE, -keys % SPLASH_TILE
    attn_mask = jnp.pad(attn_mask, ((0, 0), (0, more), (0, 0)), constant_values=True)
    attn_mask = jnp.pad(attn_mask, ((0, 0), (0, 0), (0, more_keys)))
    query = jnp.pad(query, ((0, 0), (0, more), (0, 0), (0, 0)))
    key, value = (jnp.pad(x, ((0, 0), (0, more_keys), (0, 0), (0, 0))) for x in (key, value))
    of_rows = jax.vmap(partial(_splash_row, softcap=softcap, interpret=interpret))
    if not jax.sharding.get_abstract_mesh().empty:
        of_rows = jax.shard_map(of_rows, in_specs=ROWS, out_specs=ROWS, check_vma=False)
    return of_rows(query, key, value, attn_mask)[:, :length]


def _splash_row(query: Array, key: Array, value: Array, attn_mask: Array, *, softcap: float, interpret: bool) -> Array:
    """The attended values of one row, [T N H]."""
    # Not at the top: Pallas takes long to import, and only a TPU needs it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    sizes: Any = {f"block_{name}": SPLASH_TILE for name in names}
    kernel: Any = kernels.make_splash_mha(
        jnp.broadcast_to(attn_mask[None], (query.shape[1], *attn_mask.shape)),
        block_sizes=kernels.BlockSizes(**sizes),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=softcap or None,
        residual_checkpoint_name=ATTENDED,
        interpret=interpret,
    )
    # Inside jit it makes an array of this flag and then asks it: it is a plain fact.
    kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
    return kernel(*(x.swapaxes(0, 1) for x in (query, key, value))).swapaxes(0, 1)


KERNELS: dict[str, Callable[..., Array]] = {"blocks": blocks, "cudnn": cudnn, "splash": splash}
FUSED = {"gpu": "cudnn", "tpu": "splash"}  # what `auto` tries on a backend


def with_attention(variant: Variant, attention: str, *, dtype: Any, text_len: int = 128) -> Variant:
    """The model with a way to compute attention for each tower.

    `auto` depends on the present device: on an NVIDIA GPU cuDNN, on a TPU splash attention is tried on the shapes of
    each tower, and used if it runs, agrees with `blocks` and is faster; in all other cases `blocks` is used. The choice
    and its reason are logged. `xla` holds all probabilities.
    """
    if attention != "auto":
        name = "" if attention == "xla" else attention
        return replace(variant, img=replace(variant.img, kernel=name), llm=replace(variant.llm, kernel=name))
    patches, img, llm, dtype = variant.num_patches, variant.img, variant.llm, jnp.dtype(dtype)
    vision = choose(patches, img.num_heads, img.num_heads, img.width // img.num_heads, dtype, False, 0.0)
    length = patches + text_len
    language = choose(length, llm.num_heads, llm.num_kv_heads, llm.head_dim, dtype, True, llm.attn_softcap)
    return replace(variant, img=replace(img, kernel=vision), llm=replace(llm, kernel=language))


@lru_cache
def choose(
    length: int, num_heads: int, num_kv_heads: int, head_dim: int, dtype: Any, masked: bool, softcap: float
) -> str:
    """The name of the kernel for one tower on the present device; never raises, and logs its choice."""
    shape = f"{length} tokens, {num_heads} heads of {head_dim}"
    fused = FUSED.get(jax.default_backend())
    if fused is None or dtype == jnp.float32 or (softcap and fused == "cudnn"):
        return "blocks"
    if fused == "splash" and jax.device_count() > 1:
        log.warning("attention of %s: blocks, because splash cannot compute one image on several devices", shape)
        return "blocks"
    try:
        times = _race(fused, length, num_heads, num_kv_heads, head_dim, dtype, masked, softcap)
    except Exception as error:  # whatever a driver or a compiler raises, the run goes on without it
        log.warning("attention of %s: blocks, because %s failed the probe: %s", shape, fused, str(error)[:300])
        return "blocks"
    chosen = min(times, key=lambda name: times[name])
    told = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in times.items())
    log.warning("attention of %s: %s (forward and backward of one row: %s)", shape, chosen, told)
    return chosen


def _race(
    fused: str,
    length: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: Any,
    masked: bool,
    softcap: float,
) -> dict[str, float]:
    """Seconds of forward and backward on one row, by blocks and fused; raises if they do not agree."""
    keys = jax.random.split(jax.random.key(0), 3)
    heads = (num_heads, num_kv_heads, num_kv_heads)
    arrays = [jax.random.normal(k, (1, length, n, head_dim), dtype) for k, n in zip(keys, heads, strict=True)]
    arrays[0] = arrays[0] * head_dim**-0.5
    mask = jnp.tril(jnp.ones((1, length, length), bool), length // 2) if masked else None
    times: dict[str, float] = {}
    results: dict[str, Any] = {}
    for name in ("blocks", fused):
        kernel = partial(KERNELS[name], softcap=softcap)

        def both(query: Array, key: Array, value: Array, kernel: Callable[..., Array] = kernel) -> Any:
            out, pull = jax.vjp(lambda q, k, v: kernel(q, k, v, mask), query, key, value)
            return out, pull(jnp.ones_like(out))

        run = jax.jit(both)
        results[name] = jax.block_until_ready(run(*arrays))
        start = time.perf_counter()
        for _ in range(5):
            out = run(*arrays)
        jax.block_until_ready(out)
        times[name] = (time.perf_counter() - start) / 5
    for have, want in zip(jax.tree.leaves(results[fused]), jax.tree.leaves(results["blocks"]), strict=True):
        have, want = have.astype(jnp.float32), want.astype(jnp.float32)
        error = float(jnp.abs(have - want).max() / (jnp.abs(want).max() + 1e-9))
        if not error < PROBE_TOLERANCE:
            raise ArithmeticError(f"its results differ from those of blocks by {error:.3g} of the largest value")
    return times
