"""Attention probabilities -> how much each answer token read of each image patch. Pure functions.

A map's value is a share: of all that the state which predicted a token attends to, how much lies on a patch. Values of
one token's map sum to at most one; what is missing lies on the text. Nothing is stretched to a minimum or a maximum, so
maps of different tokens, layers and cases can be compared.

The other direction, a patch as the query of the answer, does not exist: image tokens are in the prefix and cannot
attend to the answer, so those entries of attention and rollout are zero whatever the model. What can be asked is which
answer tokens read a chosen patch (`image_to_response`): the same maps, read along the answer.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.saliency.capture import take_rows

FUSIONS = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}
NO_AGREEMENT = 1e-30  # a fused row with a smaller sum cannot be brought to sum one in float32


def to_grid(rows: Float[Array, "*B S"], *, num_patches: int) -> Float[Array, "*B grid grid"]:
    """Returns the image patches of each row as a square, row by row from the upper left."""
    grid = round(num_patches**0.5)
    if grid * grid != num_patches:
        raise ValueError(f"num_patches={num_patches} is no square, so the patches have no known arrangement.")
    return rows[..., :num_patches].reshape(*rows.shape[:-1], grid, grid)


def raw_attention(
    answer_probs: Float[Array, "L B N A S"], *, num_patches: int, layers: Sequence[int] = ()
) -> Float[Array, "B A grid grid"]:
    """Returns the attention from each answer token to each patch, mean over heads and over the chosen layers.

    Args:
        answer_probs: row a is the query that predicted answer token a (`Captured.answer_probs`).
        num_patches: P.
        layers: which; none = all.
    """
    depth = answer_probs.shape[0]
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong:  # an index beyond the end would be taken for the last one
        raise ValueError(f"saliency.layers={tuple(layers)} names {wrong}; the model's layers are 0 to {depth - 1}.")
    chosen = answer_probs[jnp.array(layers)] if layers else answer_probs
    return to_grid(chosen.mean(axis=(0, 2)), num_patches=num_patches)


def layer_matrix(
    probs: Float[Array, "B N S S"], *, residual: float = 0.5, head_fusion: str = "mean"
) -> Float[Array, "B S S"]:
    """Returns the mixing matrix of one layer, residual * I + (1 - residual) * fused attention; rows sum to one.

    Heads are fused by mean, max or min and each row is brought back to sum one. Where heads agree on nothing (`min` of
    disjoint rows) the row is taken to read itself. Source: Abnar & Zuidema 2020, section 3 (residual 0.5, mean); max
    and min after Gildenblat's vit-explain, whose rows of `min` do not sum to one.
    """
    if head_fusion not in FUSIONS:
        raise ValueError(f"saliency.head_fusion={head_fusion!r} must be one of {', '.join(FUSIONS)}.")
    if not 0 <= residual <= 1:
        raise ValueError(f"saliency.residual={residual} must be in [0, 1].")
    fused = FUSIONS[head_fusion](probs, axis=1)
    eye = jnp.eye(probs.shape[-1], dtype=jnp.float32)[None]
    total = fused.sum(axis=-1, keepdims=True)
    fused = jnp.where(total > NO_AGREEMENT, fused / jnp.maximum(total, NO_AGREEMENT), eye)
    return residual * eye + (1 - residual) * fused


def fold_layer(
    rolled: Float[Array, "B S S"], probs: Float[Array, "B N S S"], *, residual: float = 0.5, head_fusion: str = "mean"
) -> Float[Array, "B S S"]:
    """Returns the rollout with one more layer on top: the later layer multiplies from the left."""
    mixing = layer_matrix(probs, residual=residual, head_fusion=head_fusion)
    return jnp.einsum("BTX,BXS->BTS", mixing, rolled, precision="highest")


def rollout(
    attn_probs: Float[Array, "L B N S S"],
    *,
    residual: float = 0.5,
    head_fusion: str = "mean",
    start_layer: int = 0,
) -> Float[Array, "B S S"]:
    """Returns attention rollout, Â_L … Â_start: row t says of which inputs state t is made; rows sum to one.

    Rollout treats attention weights as if they alone moved information; values, MLPs and norms are left out. What the
    mask forbids stays exactly zero. Costs S³ multiplications a layer and two [B S S] arrays beside its input.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", equation 1.
    """
    depth, batch_size, _, length, _ = attn_probs.shape
    if not 0 <= start_layer < depth:
        raise ValueError(f"saliency.start_layer={start_layer} must be one of the model's layers, 0 to {depth - 1}.")
    start = jnp.broadcast_to(jnp.eye(length, dtype=jnp.float32), (batch_size, length, length))

    def body(rolled: jax.Array, probs: jax.Array) -> tuple[jax.Array, None]:
        return fold_layer(rolled, probs, residual=residual, head_fusion=head_fusion), None

    return jax.lax.scan(body, start, attn_probs[start_layer:])[0]


def rollout_maps(
    rolled: Float[Array, "B S S"], query: Int[Array, "B A"], *, num_patches: int
) -> Float[Array, "B A grid grid"]:
    """Returns the rollout from each answer token to each patch: the rows of the states that predicted the tokens."""
    return to_grid(take_rows(rolled, query), num_patches=num_patches)


def image_to_response(maps: Float[Array, "*B A grid grid"], patches: Bool[Array, "grid grid"]) -> Float[Array, "*B A"]:
    """Returns, for each answer token, the share that it read of the chosen patches together.

    This is the honest form of "from a patch to the answer": the answer token is the query and the patch the key. With
    the patch as the query every value would be zero (see the head of this file).
    """
    return jnp.where(jnp.broadcast_to(patches, maps.shape), maps, 0.0).sum(axis=(-2, -1))
