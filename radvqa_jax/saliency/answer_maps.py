"""One map of the whole answer for each case of a batch, by every method, layer and head."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.relevancy import relevancy
from radvqa_jax.saliency.rollout import RolloutOptions, rollout_maps, through_vision_tower
from radvqa_jax.saliency.rows import to_grid
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


class AnswerMaps(NamedTuple):
    """The mean over the answer's tokens, without EOS unless there is nothing else."""

    maps: dict[str, Float[Array, "B grid grid"]]  # method, with and without `_vision` -> map
    vision_alone: Float[Array, "B grid grid"]  # an even map through the vision tower: what that tower alone marks
    raw_heads: Float[Array, "L B N grid grid"]  # share of attention, every layer and head
    norm_heads: Float[Array, "L B N grid grid"]  # attention x value norm
    on_image: Float[Array, "L B N"]  # share of attention that lies on the image
    on_bos: Float[Array, "L B N"]  # and on BOS, the first text token
    logprob: Float[Array, " B"]  # mean log p of the answer's tokens, EOS included


def token_weights(found: Bool[Array, "B A"], is_eos: Bool[Array, "B A"]) -> Float[Array, "B A"]:
    """Returns the weight of each answer token in the mean; they sum to one.

    >>> found = jnp.array([[True, True, False], [True, False, False]])
    >>> token_weights(found, jnp.array([[False, True, True], [True, True, True]]))
    Array([[1., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    words = found & ~is_eos
    counted = jnp.where(words.any(axis=1, keepdims=True), words, found).astype(jnp.float32)
    return counted / jnp.maximum(counted.sum(axis=1, keepdims=True), 1)


@partial(jax.jit, static_argnames=("model", "config", "answer_len", "eos"))
def answer_maps(
    model: PaliGemma, params: Flat, batch: Batch, *, config: SaliencyConfig, answer_len: int, eos: int
) -> AnswerMaps:
    """Returns the maps of a batch of training rows.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows; `mask_loss` says where the answer is.
        config: residual, head fusion, start layer, discard, and the layers of raw attention and value norms.
        answer_len: room for answer tokens, EOS included.
        eos: the token that ends an answer.
    """
    options = RolloutOptions((config.residual,), config.head_fusion, config.start_layer, config.discard)
    vision_options = RolloutOptions((config.residual,), config.head_fusion, 0, config.discard)
    found = capture(
        model, params, batch, answer_len=answer_len, value_norm=True, rollout=options, vision_rollout=vision_options
    )
    assert found.rolled is not None and found.head_norms is not None
    assert found.layer_norms is not None and found.vision_rolled is not None
    count, p = found.targets.shape[1], found.num_patches
    exists = jnp.arange(count)[None] < found.length[:, None]
    weights = token_weights(exists, found.targets == eos)

    def whole(rows: jax.Array) -> jax.Array:
        """Returns [… S] of rows [… A S], batch first."""
        return jnp.einsum("B...AS,BA->B...S", rows, weights)

    layers = jnp.array(chosen(config.layers, model.variant.llm.depth, field="saliency.layers"))
    raw = jnp.moveaxis(whole(jnp.moveaxis(found.answer_probs, 1, 0)), 0, 1)  # [L B N S]
    norms = jnp.moveaxis(whole(jnp.moveaxis(found.head_norms, 1, 0)), 0, 1)
    layer_norms = whole(jnp.moveaxis(found.layer_norms, 1, 0))  # [B L S]
    rolled = rollout_maps(found.rolled[0], found.query, num_patches=p)
    relevance = relevancy(model, params, batch, answer_len=answer_len)
    plain = {
        "raw": to_grid(raw[layers].mean(axis=(0, 2)), num_patches=p),
        "value_norm": to_grid(layer_norms[:, layers].mean(axis=1), num_patches=p),
        "rollout": jnp.einsum("BAij,BA->Bij", rolled, weights),
        "relevancy": to_grid(whole(relevance), num_patches=p),
    }
    through = {f"{name}_vision": jax.vmap(through_vision_tower)(m, found.vision_rolled[0]) for name, m in plain.items()}
    return AnswerMaps(
        maps=plain | through,
        vision_alone=to_grid(found.vision_rolled[0].mean(axis=1), num_patches=p),
        raw_heads=to_grid(raw, num_patches=p),
        norm_heads=to_grid(norms, num_patches=p),
        on_image=raw[..., :p].sum(axis=-1),
        on_bos=raw[..., p],
        logprob=found.logprobs.sum(axis=1) / jnp.maximum(found.length, 1),
    )
