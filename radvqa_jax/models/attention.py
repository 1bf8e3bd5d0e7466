"""The one attention. Training, prefill, decoding and saliency call it, in both towers."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

TAPS = "taps"  # the flax collection in which attention probabilities are recorded when it is mutable
MASKED = -2.3819763e38  # finite: a row that is masked everywhere stays finite in the softmax


def attention_probs(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
) -> Float[Array, "B N T S"]:
    """Returns the attention probabilities in float32; each row sums to one.

    Queries come scaled. Query head n reads key head n // (N / K) (Ainslie et al. 2023, grouped queries).
    `softcap` c > 0 turns logits into c * tanh(logits / c) before the mask (Gemma 2, section 2).
    """
    grouped = rearrange(query, "B T (K G) H -> B T K G H", K=key.shape[2])
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, key, preferred_element_type=jnp.float32)
    if softcap:
        logits = jnp.tanh(logits / softcap) * softcap
    if attn_mask is not None:
        logits = jnp.where(attn_mask[:, None, None], logits, MASKED)
    return rearrange(jax.nn.softmax(logits, axis=-1), "B K G T S -> B (K G) T S")


def _newest(_: Any, new: Any) -> Any:
    return new


def attended(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T S"]]:
    """Returns (attended values in the dtype of `value`, the float32 probabilities)."""
    probs = attention_probs(query, key, attn_mask, softcap=softcap)
    grouped = rearrange(probs, "B (K G) T S -> B K G T S", K=key.shape[2]).astype(value.dtype)
    return rearrange(jnp.einsum("BKGTS,BSKH->BTKGH", grouped, value), "B T K G H -> B T (K G) H"), probs


def attend(
    module: nn.Module,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    attn_mask: Bool[Array, "B T S"] | None = None,
    softcap: float = 0.0,
    kernel: Callable[..., Array] | None = None,
) -> Float[Array, "B T N H"]:
    """Returns the attended values in the dtype of `value`.

    The probabilities are recorded as `attn_probs` of `module` where `apply(..., mutable=["taps"])` opened the tap;
    otherwise nothing is kept, and `kernel` computes the same without them if one is given. Without a kernel the
    arithmetic is the same either way.
    """
    if kernel is not None and not module.is_mutable_collection(TAPS):
        return kernel(query, key, value, attn_mask, softcap=softcap)
    out, probs = attended(query, key, value, attn_mask, softcap=softcap)
    module.sow(TAPS, "attn_probs", probs, init_fn=lambda: None, reduce_fn=_newest)
    return out
