"""Gradient-weighted attention relevancy: which inputs speak for the answer token, by attention and its gradient.

For a target y (the logit of an answer token) each layer has
Ā = mean over heads of max(0, dy/dA * A), and R = (I + Ā_L) … (I + Ā_1). Row q of R, the query that predicted the token,
is the map. A row vector times that product starts at the last layer, where the backward pass starts too, so the map is
folded while the gradient is computed: it is carried through the layers as the cotangent of a dummy, and neither the
attention nor its gradients of more than one layer are held.

Values are not shares: they have no unit and no upper bound, and only their pattern can be compared between cases.

Source: Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", equations 5 and 6 (self-attention), with the query of a decoder-only model in place of the class token.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from radvqa_jax.models.attention import FOLD, Hook, Tapped, tapping
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.saliency.attention_rows import to_grid
from radvqa_jax.saliency.buffers import branch, nest
from radvqa_jax.saliency.capture import answer_index
from radvqa_jax.saliency.sequence import attention_of, in_order, is_vision
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


def pull_relevance(
    gradient: Float[Array, "B N T S"], probs: Float[Array, "B N T S"], relevance: Float[Array, "B T"]
) -> Float[Array, "B S"]:
    """The relevance of a layer's inputs, r + r Ā, from that of its outputs."""
    positive = jnp.maximum(gradient * probs, 0).mean(axis=1)
    return relevance + jnp.einsum("BT,BTS->BS", relevance, positive, precision="highest")


@jax.custom_vjp
def relevance_gate(
    probs: Float[Array, "B N T S"], relevance: Float[Array, "B T"]
) -> tuple[Float[Array, "B N T S"], Float[Array, "B T"]]:
    """Its arguments. Backwards, the relevance of the layer's outputs becomes that of its inputs: r + r Ā."""
    return probs, relevance


def _forward(probs: jax.Array, relevance: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    return (probs, relevance), probs


def _backward(probs: jax.Array, cotangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    gradient, relevance = cotangents
    return gradient, pull_relevance(gradient, probs, relevance)


relevance_gate.defvjp(_forward, _backward)


def _hook(model: VisionLanguageModel, text_len: int) -> Hook:
    """In the language model the probabilities that are used pass the gate; the vision tower's do not."""

    def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any) -> jax.Array:
        del value, project
        if is_vision(model.variant, module):
            return probs
        probs, relevance = relevance_gate(probs, module.get_variable(FOLD, "relevance"))
        module.put_variable(FOLD, "relevance", relevance)
        return probs

    return in_order(model, text_len, hook)


@partial(jax.jit, static_argnames=("model", "answer_len"))
def relevancy(
    model: VisionLanguageModel, params: Flat, batch: Batch, *, answer_len: int | None = None
) -> Float[Array, "B A S"]:
    """The relevance of every position (image tokens, then text) to each answer token; all are >= 0.

    A token costs one forward and one backward pass, one token at a time. What is held is one layer's attention: the
    model is run with each layer recomputed (`remat="full"`), whatever it was trained with. What speaks for an answer
    rather than for another is in contrast.py.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows; `mask_loss` says where the answer is.
        answer_len: A, room for answer tokens; None = T. Entries past the longest answer of the batch are zero.
    """
    text_len = batch.tokens.shape[1] - 1
    model, size = model.clone(remat="full"), text_len if answer_len is None else min(answer_len, text_len)
    collections, num_patches = variables(params), model.variant.num_patches
    tokens, mask_ar = jnp.asarray(batch.tokens), jnp.asarray(batch.mask_ar)
    index, length = answer_index(jnp.asarray(batch.mask_loss), size=size)
    targets = jnp.take_along_axis(tokens, index + 1, axis=1)
    llm = attention_of(model.variant, "llm")
    batch_size, positions = tokens.shape[0], num_patches + text_len

    def logit(state: jax.Array, token: jax.Array) -> jax.Array:
        logits: Any = model.apply(collections, state[:, None], method="logits")
        return jnp.take_along_axis(logits[:, 0], token[:, None], axis=-1)[:, 0]

    def one(token: jax.Array) -> jax.Array:
        place, target = index[:, token], targets[:, token]

        def forward(relevance: jax.Array) -> tuple[jax.Array, jax.Array]:
            start = {FOLD: nest(llm, {"relevance": relevance})}
            with tapping(_hook(model, text_len)):
                out: Any = model.apply(
                    collections | start, batch.image, tokens[:, :-1], mask_ar[:, :-1], mutable=[FOLD],
                    method="pre_logits",
                )  # fmt: skip
            state = jnp.take_along_axis(out[0], place[:, None, None], axis=1)[:, 0]
            return logit(state, target), branch(out[1][FOLD], llm)["relevance"]

        (y, _), pull = jax.vjp(forward, jnp.zeros((batch_size, positions), jnp.float32))
        query = jax.nn.one_hot(place + num_patches, positions, dtype=jnp.float32)
        return pull((jnp.ones_like(y), query))[0]

    def add(token: jax.Array, found: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(found, one(token), token, 1)

    # Only as many passes as the longest answer needs, though one compilation serves all.
    return jax.lax.fori_loop(0, jnp.minimum(length.max(), size), add, jnp.zeros((batch_size, size, positions)))


def relevancy_maps(relevance: Float[Array, "B A S"], *, num_patches: int) -> Float[Array, "B A grid grid"]:
    """The relevance of the image patches, without that of the text."""
    return to_grid(relevance, num_patches=num_patches)
