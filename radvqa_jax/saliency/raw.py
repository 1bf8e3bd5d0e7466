"""Attention probabilities -> what was read, in every direction that exists. Pure functions.

A value is a share: the part of a state's attention that goes there. Nothing is stretched to a minimum or a
maximum, so maps of different tokens, heads, layers and cases can be compared. Over image and text together the values
of one query sum to one.

One direction does not exist: a patch as the query of the answer. Image tokens are in the prefix and cannot attend to
the answer, so those entries of attention and of rollout are zero whatever the model. What can be asked is which answer
tokens read a chosen patch (`image_to_response`): the same maps, read along the answer.

Source: Vaswani et al. 2017, equation 1, for the probabilities; big_vision's prefix-LM mask for the directions.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from radvqa_jax.saliency.attention_rows import to_grid
from radvqa_jax.saliency.rollout import FUSIONS


def chosen(indices: Sequence[int], size: int, *, field: str) -> tuple[int, ...]:
    """The indices, all of them if none is given; refuses one that the model does not have."""
    wrong = [index for index in indices if not 0 <= index < size]
    if wrong:  # an index beyond the end would be taken for the last one
        what = field.removeprefix("saliency.")
        raise ValueError(f"{field}={tuple(indices)} names {wrong}; the model's {what} are 0 to {size - 1}.")
    return tuple(indices) or tuple(range(size))


def over_heads(rows: Float[Array, "L B N Q S"], *, fusion: str = "mean") -> Float[Array, "L B Q S"]:
    """Mean, max or min over heads, as they are: rows of max sum to more than one, rows of min to less."""
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r} must be one of {', '.join(FUSIONS)}.")
    return FUSIONS[fusion](rows, axis=2)


def response_to_image(
    answer_probs: Float[Array, "L B N A S"], *, num_patches: int
) -> Float[Array, "L B N A grid grid"]:
    """The attention of each answer token to each patch, by layer and head.

    `answer_probs` is `Captured.answer_probs`: row a is the query that predicted answer token a.
    """
    return to_grid(answer_probs, num_patches=num_patches)


def question_to_image(text_probs: Float[Array, "L B N T S"], *, num_patches: int) -> Float[Array, "L B N T grid grid"]:
    """The attention of each text position's state to each patch, by layer and head.

    Row t is the state AT text position t (`Captured.text_probs`): question tokens predict nothing.
    """
    return to_grid(text_probs, num_patches=num_patches)


def response_to_question(answer_probs: Float[Array, "L B N A S"], *, num_patches: int) -> Float[Array, "L B N A T"]:
    """The attention of each answer token to each text position, by layer and head: question, separator and answer."""
    return answer_probs[..., num_patches:]


def image_to_response(maps: Float[Array, "*B A grid grid"], patches: Bool[Array, "grid grid"]) -> Float[Array, "*B A"]:
    """For each answer token, the share that it read of the chosen patches together.

    This is the honest form of "from a patch to the answer": the answer token is the query and the patch the key. With
    the patch as the query every value would be zero (see the head of this file).
    """
    return jnp.where(jnp.broadcast_to(patches, maps.shape), maps, 0.0).sum(axis=(-2, -1))


def raw_attention(
    answer_probs: Float[Array, "L B N A S"],
    *,
    num_patches: int,
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    fusion: str = "mean",
) -> Float[Array, "B A grid grid"]:
    """The attention from each answer token to each patch, one map of many layers and heads.

    Args:
        answer_probs: row a is the query that predicted answer token a (`Captured.answer_probs`).
        num_patches: P.
        layers: which, and the mean over them; none = all.
        heads: which; none = all.
        fusion: of the heads, in each layer: mean, max or min.
    """
    depth, _, num_heads, _, _ = answer_probs.shape
    rows = answer_probs[jnp.array(chosen(layers, depth, field="saliency.layers"))]
    rows = rows[:, :, jnp.array(chosen(heads, num_heads, field="saliency.heads"))]
    return to_grid(over_heads(rows, fusion=fusion).mean(axis=0), num_patches=num_patches)
