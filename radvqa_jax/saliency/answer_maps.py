"""One map of the whole answer for each case of a batch, by every method that can be measured, and by layer and head."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency.attention_rows import to_grid
from radvqa_jax.saliency.maps import pass_options
from radvqa_jax.saliency.methods import METHODS, VISION_SUFFIX, Found
from radvqa_jax.saliency.passes import Passes
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.rollout import through_vision_tower
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


class AnswerMaps(NamedTuple):
    """The mean over the answer's tokens, without EOS unless there is nothing else; arrays of jax or numpy."""

    maps: dict[str, Float[Any, "B grid grid"]]  # method, with and without `_vision` -> map
    vision_alone: Float[Any, "B grid grid"]  # an even map through the vision tower: what that tower alone marks
    heads: dict[str, Float[Any, "L B N grid grid"]]  # method by head without a sign -> every layer and head
    words_raw: Float[Any, "B L T P"]  # raw attention of every word's state, mean over heads; 0 where there is no word
    words: Bool[Any, "B T"]  # the text positions that read for a word
    on_image: Float[Any, "L B N"]  # share of attention on the image
    on_bos: Float[Any, "L B N"]  # and on BOS, the first text token
    logprob: Float[Any, " B"]  # mean log p of the answer's tokens, EOS included


def token_weights(found: Bool[Array, "B A"], is_eos: Bool[Array, "B A"]) -> Float[Array, "B A"]:
    """The weight of each answer token in the mean; they sum to one.

    >>> found = jnp.array([[True, True, False], [True, False, False]])
    >>> token_weights(found, jnp.array([[False, True, True], [True, True, True]]))
    Array([[1., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    words = found & ~is_eos
    counted = jnp.where(words.any(axis=1, keepdims=True), words, found).astype(jnp.float32)
    return counted / jnp.maximum(counted.sum(axis=1, keepdims=True), 1)


def _answer(rows: Float[Array, "B *lead A S"], weights: Float[Array, "B A"]) -> Float[Array, "B *lead S"]:
    """The mean over the answer's tokens."""
    return jnp.einsum("B...AS,BA->B...S", jnp.asarray(rows), weights)


def _whole(name: str, found: Found, weights: Float[Array, "B A"], layers: tuple[int, ...]) -> Float[Array, "B S"]:
    """One map of the answer: the mean over `layers` and all heads, the first residual."""
    axes, at = METHODS[name].axes, jnp.array(layers)
    if found.layers is not None:
        return _answer(found.layers, weights)[:, at].mean(axis=1)
    rows = _answer(found.rows, weights)
    if axes == "layers, heads":
        return rows[:, at].mean(axis=(1, 2))
    return {"layers": lambda: rows[:, at].mean(axis=1), "residuals": lambda: rows[:, 0], "": lambda: rows}[axes]()


def answer_maps(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    *,
    config: SaliencyConfig,
    methods: Sequence[str],
    answer_len: int,
    eos: int,
) -> AnswerMaps:
    """The maps of a batch of training rows.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows; `mask_loss` says where the answer is.
        config: residual, head fusion, start layer, discard, windows, and the layers of methods by layer.
        methods: names of the maps without `_vision`; methods that need another answer are not allowed.
        answer_len: room for answer tokens, EOS included.
        eos: the token that ends an answer.
    """
    captures = {flag for name in methods for flag in METHODS[name].captures}
    options = pass_options(config)
    passes = Passes(model, params, batch, options=options, eos=eos, answer_len=answer_len, captures=captures)
    captured, p = passes.captured, passes.num_patches
    assert captured.vision_rolled is not None and captured.text_probs is not None
    exists = jnp.arange(captured.targets.shape[1])[None] < captured.length[:, None]
    weights = token_weights(exists, captured.targets == eos)
    layers = chosen(config.layers, model.variant.llm.depth, field="saliency.layers")
    plain, heads, tower = {}, {}, captured.vision_rolled[0]
    for name in methods:
        found = METHODS[name].compute(passes)
        plain[name] = to_grid(_whole(name, found, weights, layers), num_patches=p)
        if METHODS[name].axes == "layers, heads" and not METHODS[name].signed:
            heads[name] = jnp.moveaxis(to_grid(_answer(found.rows, weights), num_patches=p), 0, 1)
    through = {f"{name}{VISION_SUFFIX}": jax.vmap(through_vision_tower)(m, tower) for name, m in plain.items()}
    raw = jnp.einsum("LBNAS,BA->LBNS", captured.answer_probs, weights)
    words: Any = passes.word_rows
    return AnswerMaps(
        maps=plain | through,
        vision_alone=to_grid(tower.mean(axis=1), num_patches=p),
        heads=heads,
        words_raw=jnp.moveaxis(captured.text_probs.mean(axis=2)[..., :p], 0, 1) * words[:, None, :, None],
        words=words,
        on_image=raw[..., :p].sum(axis=-1),
        on_bos=raw[..., p],
        logprob=captured.logprobs.sum(axis=1) / jnp.maximum(captured.length, 1),
    )
