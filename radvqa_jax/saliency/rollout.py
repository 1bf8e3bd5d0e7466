"""Attention rollout: layers of attention -> the inputs of which each state is made. Pure functions.

Rollout treats attention weights as if they alone moved information; values, MLPs and norms are left out. Rows sum to
one, so a value is a share, and masked entries stay exactly zero.

Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3 and equation 1. Fusing heads by
max or min and discarding small weights are after Gildenblat's vit-explain; here every row is treated alike and is
brought back to sum one.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from radvqa_jax.saliency.attention_rows import take_rows, to_grid

FUSIONS = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}
NO_AGREEMENT = 1e-30  # a fused row with a smaller sum cannot be scaled to sum one in float32


@dataclass(frozen=True)
class RolloutOptions:
    """The options of fusing and multiplying layers; hashable, so that it can be static under jit."""

    residuals: tuple[float, ...] = (0.5,)  # weight of the identity; one rollout each, all in one pass
    head_fusion: str = "mean"  # mean, max or min
    start_layer: int = 0
    discard: float = 0.0  # share of each row's readable entries, the smallest ones, that is set to zero

    def check(self, depth: int) -> None:
        """Raises ValueError, naming the field, for settings that a model with `depth` layers does not allow."""
        if self.head_fusion not in FUSIONS:
            raise ValueError(f"saliency.head_fusion={self.head_fusion!r} must be one of {', '.join(FUSIONS)}.")
        for residual in self.residuals:
            if not 0 <= residual <= 1:
                raise ValueError(f"saliency.residual={residual} must be in [0, 1].")
        if not 0 <= self.discard < 1:
            raise ValueError(f"saliency.discard={self.discard} must be in [0, 1): at 1 nothing would be left.")
        if not 0 <= self.start_layer < depth:
            raise ValueError(
                f"saliency.start_layer={self.start_layer} must be one of the model's layers, 0 to {depth - 1}."
            )


def discard_smallest(probs: Float[Array, "*B S"], share: float) -> Float[Array, "*B S"]:
    """Rows with the smallest `share` of their readable (non-zero) entries set to zero, not yet rescaled.

    n readable entries lose floor(share * n); an entry that ties with the smallest one kept is kept too.
    """
    size = probs.shape[-1]
    readable = (probs > 0).sum(axis=-1, keepdims=True)
    # The small addition undoes rounding: 0.1 * 30 is 2.9999998 in float32, and means 3.
    dropped = jnp.floor(share * readable + 1e-4).astype(jnp.int32)
    first_kept = jnp.clip(size - readable + dropped, 0, size - 1)
    threshold = jnp.take_along_axis(jnp.sort(probs, axis=-1), first_kept, axis=-1)
    return jnp.where(probs >= threshold, probs, 0.0)


def fuse_heads(
    probs: Float[Array, "B N T S"], *, head_fusion: str = "mean", discard: float = 0.0
) -> Float[Array, "B T S"]:
    """One matrix of all heads whose rows sum to one.

    If heads have nothing in common (`min` of disjoint rows), the row counts as reading itself, which needs T = S.
    """
    fused = FUSIONS[head_fusion](probs, axis=1)
    if discard:
        fused = discard_smallest(fused, discard)
    total = fused.sum(axis=-1, keepdims=True)
    itself = jnp.eye(*probs.shape[-2:], dtype=jnp.float32)[None]
    return jnp.where(total > NO_AGREEMENT, fused / jnp.maximum(total, NO_AGREEMENT), itself)


def layer_matrix(
    probs: Float[Array, "B N S S"], *, residual: float = 0.5, head_fusion: str = "mean", discard: float = 0.0
) -> Float[Array, "B S S"]:
    """The mixing matrix of one layer, residual * I + (1 - residual) * fused attention; rows sum to one."""
    RolloutOptions((residual,), head_fusion, discard=discard).check(depth=1)
    fused = fuse_heads(probs, head_fusion=head_fusion, discard=discard)
    return residual * jnp.eye(probs.shape[-1], dtype=jnp.float32)[None] + (1 - residual) * fused


def fold_layer(
    rolled: Float[Array, "B S S"],
    probs: Float[Array, "B N S S"],
    *,
    residual: float = 0.5,
    head_fusion: str = "mean",
    discard: float = 0.0,
) -> Float[Array, "B S S"]:
    """The rollout with one more layer on top: the later layer multiplies from the left."""
    mixing = layer_matrix(probs, residual=residual, head_fusion=head_fusion, discard=discard)
    return jnp.einsum("BTX,BXS->BTS", mixing, rolled, precision="highest")


def start_rollouts(options: RolloutOptions, batch_size: int, length: int) -> Float[Array, "R B S S"]:
    """The start of the fold: the identity, once for each residual weight."""
    eye = jnp.eye(length, dtype=jnp.float32)
    return jnp.broadcast_to(eye, (len(options.residuals), batch_size, length, length))


def fold_rollouts(
    rolled: Float[Array, "R B S S"],
    probs: Float[Array, "B N S S"],
    layer: Int[Array, ""],
    *,
    options: RolloutOptions,
) -> Float[Array, "R B S S"]:
    """The rollouts of all residual weights with one more layer on top; layers before the start change nothing.

    Â R = residual * R + (1 - residual) * fused R, so the heads are fused once for all of them.
    """

    def fold() -> jax.Array:
        fused = fuse_heads(probs, head_fusion=options.head_fusion, discard=options.discard)
        mixed = jnp.einsum("BTX,RBXS->RBTS", fused, rolled, precision="highest")
        residual = jnp.asarray(options.residuals, jnp.float32)[:, None, None, None]
        return residual * rolled + (1 - residual) * mixed

    return jax.lax.cond(layer >= options.start_layer, fold, lambda: rolled)


def rollout(
    attn_probs: Float[Array, "L B N S S"],
    *,
    residual: float = 0.5,
    head_fusion: str = "mean",
    start_layer: int = 0,
    discard: float = 0.0,
) -> Float[Array, "B S S"]:
    """Â_L … Â_start of attention that was captured whole: row t gives the inputs of which state t is made.

    `capture(..., rollout=RolloutOptions(...))` gives the same without ever holding the attention of all layers. Costs
    S³ multiplications a layer and two [B S S] arrays in addition to its input.
    """
    depth, batch_size, _, length, _ = attn_probs.shape
    options = RolloutOptions((residual,), head_fusion, start_layer, discard)
    options.check(depth)

    def body(rolled: jax.Array, layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        number, probs = layer
        return fold_rollouts(rolled, probs, number, options=options), None

    start = start_rollouts(options, batch_size, length)
    return jax.lax.scan(body, start, (jnp.arange(depth), attn_probs))[0][0]


def rollout_maps(
    rolled: Float[Array, "B S S"], query: Int[Array, "B A"], *, num_patches: int
) -> Float[Array, "B A grid grid"]:
    """The rollout from each answer token to each patch: the rows of the states that predicted the tokens."""
    return to_grid(take_rows(rolled, query), num_patches=num_patches)


def through_vision_tower(
    maps: Float[Array, "*lead grid grid"], vision_rolled: Float[Array, "P P"]
) -> Float[Array, "*lead grid grid"]:
    """Maps over image tokens as maps over the pixels' patches: the map times the vision tower's own rollout.

    The vision tower mixes patches before the language model sees them, so image token p is not patch p: row p of the
    tower's rollout says of which patches it is made. Rows sum to one, so each map keeps its total.
    """
    *lead, grid, _ = maps.shape
    flat = jnp.einsum("...p,ps->...s", maps.reshape(*lead, grid * grid), vision_rolled, precision="highest")
    return flat.reshape(maps.shape)
