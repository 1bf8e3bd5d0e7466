"""The loss on suffix and EOS, and how rows are weighted."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Weighting = Literal["per_example", "per_token"]


def token_loss(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], *, label_smoothing: float = 0.0
) -> Float[Array, "B T"]:
    """-log p of each target in nats, float32.

    `label_smoothing` s gives the target 1 - s and every other token s / (V - 1), as big_vision's loss does.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    if not label_smoothing:
        return loss
    spread = label_smoothing / (logits.shape[-1] - 1)
    return (1 - label_smoothing - spread) * loss - spread * log_p.sum(axis=-1)


def example_loss(loss: Float[Array, "B T"], mask_loss: Int[Array, "B T"]) -> Float[Array, " B"]:
    """The mean loss over each row's targets; 0 for a row without a target."""
    return (loss * mask_loss).sum(axis=1) / jnp.maximum(1, mask_loss.sum(axis=1))


def row_weights(
    mask_loss: Int[Array, "B T"], mask_example: Bool[Array, " B"], weighting: Weighting
) -> Float[Array, " B"]:
    """What each row's mean loss counts, summing to one over the rows given.

    `per_example`: every real row counts the same (big_vision). `per_token`: a row counts by its number of targets, so
    every target token counts the same (most trainers). Computed over a whole optimizer batch, the weights make the loss
    independent of how that batch is cut for accumulation.
    """
    real = mask_example.astype(jnp.float32)
    weight = real * mask_loss.sum(axis=1) if weighting == "per_token" else real
    return weight / jnp.maximum(weight.sum(), 1e-9)


def position_weights(mask_loss: Int[Array, "B T"], row_weight: Float[Array, " B"]) -> Float[Array, "B T"]:
    """What each position counts where rows count `row_weight`: each row's share, spread over its targets."""
    return mask_loss * (row_weight / jnp.maximum(1, mask_loss.sum(axis=1)))[:, None]
