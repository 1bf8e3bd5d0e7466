"""The one attention. Training, prefill, decoding and saliency call it, in both towers.

Its tap lets saliency see the probabilities of every layer while the layers are scanned: `tapping` puts a hook there,
which may keep a few rows of them in the collection `fold`, carried from layer to layer, so that no array of size
layers x heads x T x T needs to exist.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from radvqa_jax.models.remat import ATTENDED, keep

TAPS = "taps"  # the flax collection in which attention probabilities are recorded when it is mutable
FOLD = "fold"  # the flax collection that a hook carries from layer to layer
MASKED = -2.3819763e38  # finite: a row that is masked everywhere stays finite in the softmax


def _logits(
    query: Float[Array, "B T N H"], key: Float[Array, "B S K H"], *, softcap: float = 0.0
) -> Float[Array, "B K G T S"]:
    grouped = rearrange(query, "B T (K G) H -> B T K G H", K=key.shape[2])
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, key, preferred_element_type=jnp.float32)
    return jnp.tanh(logits / softcap) * softcap if softcap else logits


def attention_scores(query: Float[Array, "B T N H"], key: Float[Array, "B S K H"]) -> Float[Array, "B N T S"]:
    """Q K^T / sqrt(d) in float32, before softcap, mask and softmax; queries come scaled."""
    return rearrange(_logits(query, key), "B K G T S -> B (K G) T S")


def attention_probs(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    attn_mask: Bool[Array, "B T S"] | None,
    *,
    softcap: float = 0.0,
) -> Float[Array, "B N T S"]:
    """The attention probabilities in float32; each row sums to one.

    Queries come scaled. Query head n reads key head n // (N / K) (Ainslie et al. 2023, grouped queries).
    `softcap` c > 0 turns logits into c * tanh(logits / c) before the mask (Gemma 2, section 2).
    """
    logits = _logits(query, key, softcap=softcap)
    if attn_mask is not None:
        logits = jnp.where(attn_mask[:, None, None], logits, MASKED)
    return rearrange(jax.nn.softmax(logits, axis=-1), "B K G T S -> B (K G) T S")


def _newest(_: Any, new: Any) -> Any:
    return new


def attended(probs: Float[Array, "B N T S"], value: Float[Array, "B S K H"]) -> Float[Array, "B T N H"]:
    """The values that the probabilities weigh, in their own dtype."""
    grouped = rearrange(probs, "B (K G) T S -> B K G T S", K=value.shape[2]).astype(value.dtype)
    return rearrange(jnp.einsum("BKGTS,BSKH->BTKGH", grouped, value), "B T K G H -> B T (K G) H")


class Tapped(nn.Module):
    """A module whose attention can be seen."""

    def tap(
        self,
        probs: Float[Array, "B N T S"],
        value: Float[Array, "B S K H"],
        project: Callable[[Any], Any] | None,
        query: Float[Array, "B T N H"],
        key: Float[Array, "B S K H"],
    ) -> Float[Array, "B N T S"]:
        """The probabilities, recorded as `attn_probs` where `apply(..., mutable=["taps"])` opened the tap."""
        del value, project, query, key  # for hooks
        self.sow(TAPS, "attn_probs", probs, init_fn=lambda: None, reduce_fn=_newest)
        return probs


Hook = Callable[..., jax.Array]  # (module, probs, value, project), and (query, key) if these were requested

_hooked: ContextVar[bool] = ContextVar("hooked", default=False)  # a kernel without probabilities would bypass a hook


@contextmanager
def tapping(hook: Hook, *, queries: bool = False) -> Iterator[None]:
    """Within the block, every attention calls `hook(module, probs, value, project)` instead of `Tapped.tap`.

    With `queries` the hook also gets the queries, scaled and rotated as they are used, and the keys.
    `module.path` tells the tower; the hook reads and writes its own variables in the collection `fold` and returns the
    probabilities that are used. Enter the block inside the function that is jitted: a hook may close over its arrays.
    """

    def intercept(next_method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "tap":
            return hook(context.module, *(args if queries else args[:3]))
        return next_method(*args, **kwargs)

    token = _hooked.set(True)
    try:
        with nn.intercept_methods(intercept):
            yield
    finally:
        _hooked.reset(token)


def attend(
    module: Tapped,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    attn_mask: Bool[Array, "B T S"] | None = None,
    softcap: float = 0.0,
    project: Callable[[Any], Any] | None = None,
    kernel: Callable[..., Array] | None = None,
) -> Float[Array, "B T N H"]:
    """The attended values in the dtype of `value`.

    `kernel`, if given, computes them without holding all probabilities, as long as the tap is closed. Otherwise the
    probabilities pass through `module.tap`, which keeps nothing unless it was opened; the arithmetic is the same either
    way. `project`, the output projection that follows, serves hooks that weigh the attended values.
    """
    if kernel is not None and not (_hooked.get() or module.is_mutable_collection(TAPS)):
        return kernel(query, key, value, attn_mask, softcap=softcap)
    probs = module.tap(attention_probs(query, key, attn_mask, softcap=softcap), value, project, query, key)
    return keep(attended(probs, value), ATTENDED)
