"""Which intermediate results the backward pass computes again instead of storing."""

from typing import Any, Literal

import flax.linen as nn
import jax

Remat = Literal["none", "dots", "full", "blocks"]


def rematerialise(block: Any, remat: Remat) -> Any:
    """Returns the layer class, wrapped so that its backward pass stores less.

    `none` stores everything; `dots` stores the results of products with weights; `full` stores the layer's input only;
    `blocks` does as well, and the language model's MLP works on a block of tokens at a time.
    """
    if remat == "none":
        return block
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    # Inside a scan common subexpressions cannot be merged across the boundary; a guard against it only costs.
    return nn.remat(block, prevent_cse=False, policy=policy)
