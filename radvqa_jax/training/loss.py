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
    """The weight of each row's mean loss; the weights of the given rows sum to one.

    `per_example`: every real row has the same weight (big_vision). `per_token`: the weight of a row is its number of
    targets, so every target token has the same weight (most trainers). Computed over a whole optimizer batch, the
    weights make the loss independent of the division of that batch for accumulation.
    """
    real = mask_example.astype(jnp.float32)
    weight = real * mask_loss.sum(axis=1) if weighting == "per_token" else real
    return weight / jnp.maximum(weight.sum(), 1e-9)


def position_weights(mask_loss: Int[Array, "B T"], row_weight: Float[Array, " B"]) -> Float[Array, "B T"]:
    """The weight of each position for rows with `row_weight`: each row's weight, spread over its targets."""
    return mask_loss * (row_weight / jnp.maximum(1, mask_loss.sum(axis=1)))[:, None]
