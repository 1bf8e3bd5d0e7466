"""The intermediate results that the backward pass recomputes instead of storing.

A layer whose weights are frozen needs no input of a product in its backward pass, only the values at its nonlinear
parts: query, key and value (for the softmax), the attended values and their projection (for the norms and for its
adapters), and what the MLP's first product makes (for GELU and the gate). Everything else follows from these by
elementwise work, which is not counted. So the kept values are chosen by name, in the dtype of the activations; norms,
the gates' product and float32 copies are never kept.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

Remat = Literal["none", "products", "gate", "attention", "full", "blocks"]

QKV = "qkv"  # query (scaled and rotated), key and value
ATTENDED = "attended"  # the values that attention weighs
PROJECTED = "projected"  # attention's output
FIRST = "first"  # the language model's first gate; the vision tower's MLP before GELU
SECOND = "second"  # the language model's other gate
DOWN = "down"  # the MLP's result, where a norm follows it (Gemma 2)

_ATTENTION = (QKV, ATTENDED, PROJECTED, DOWN)
# The results of a layer that each way stores in addition to its input. `none` is not here: it stores all that the
# backward pass reads.
KEPT: dict[str, tuple[str, ...]] = {
    "products": (*_ATTENTION, FIRST, SECOND),
    "gate": (*_ATTENTION, FIRST),
    "attention": _ATTENTION,
    "full": (),
    "blocks": (),
}
keep: Callable[[Any, str], Any] = checkpoint_name  # (values, name) -> the same values, which a policy can keep


def policy_of(remat: Remat) -> Callable[..., bool] | None:
    """The policy of jax.checkpoint that keeps the values that `remat` names; None keeps nothing.

    cuDNN's attention keeps its result and the softmax's sums itself, which belong together: its primitive is named.
    """
    names = KEPT[remat]
    if not names:
        return None
    named = jax.checkpoint_policies.save_only_these_names(*names)

    def saves(primitive: Any, *avals: Any, **params: Any) -> bool:
        return primitive.name.startswith("dot_product_attention_fwd") or named(primitive, *avals, **params)

    return saves


def by_blocks(remat: Remat) -> bool:
    """Whether the language model's MLP works on a block of tokens at a time."""
    return remat not in ("none", "full")


def rematerialise(block: Any, remat: Remat) -> Any:
    """The layer class, wrapped so that its backward pass stores less.

    `none` stores everything; `products` stores enough that no product with a weight is repeated; `gate` leaves out the
    second of the MLP's two gates, `attention` both; `full` and `blocks` store the layer's input only. All but `none`
    and `full` work on a block of tokens at a time in the language model's MLP.
    """
    if remat == "none":
        return block
    # Inside a scan common subexpressions cannot be merged across the boundary; a guard against it only costs.
    return nn.remat(block, prevent_cse=False, policy=policy_of(remat))
