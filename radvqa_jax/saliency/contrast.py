"""One answer against another: the evidence for each of them, by relevancy of a log-ratio.

y = log p(answer) - log p(other): each sequence whole, EOS included, and under its own prefix. The two sequences are two
rows of a batch. Up to the first token that differs the rows hold the same states, so the gradients of their attention
are added before the positive part is taken; after it each row has its own. The tokens with which both answers
begin cancel. `only_first` counts only the first token that differs: y is then the difference of two logits of one
state, and shows why the answers diverge there, not what follows.

The map is relevancy of y minus relevancy of -y, read at the states that predicted the tokens that count. It is positive
where a patch supports the answer and negative where it supports the other one, and swapping the answers changes its
sign. The signed form is this project's; Chefer et al. have only the positive part (see relevancy.py).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.models.attention import FOLD, Tapped, tapping
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.saliency.buffers import branch, nest
from radvqa_jax.saliency.capture import answer_index
from radvqa_jax.saliency.relevancy import pull_relevance
from radvqa_jax.saliency.sequence import attention_of, in_order, is_vision
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


class Contrast(NamedTuple):
    """The evidence for an answer (> 0) or for the other one (< 0); no unit."""

    relevance: Float[Array, " S"]  # image tokens, then text; past the tokens that both share, of the answer's own row
    log_ratio: Float[Array, ""]  # y: the log-ratio of the tokens that count to the other's


def first_difference(answer: Sequence[int], other: Sequence[int]) -> int:
    """The index of the first token in which two answers differ.

    >>> first_difference([7, 8, 1], [7, 9, 1])
    1

    Raises:
        ValueError: if there is none, because one answer is the beginning of the other.
    """
    for index, (mine, theirs) in enumerate(zip(answer, other, strict=False)):
        if mine != theirs:
            return index
    raise ValueError(
        f"Two answers of {len(answer)} and {len(other)} tokens do not differ in any token that both have, so they "
        "cannot be compared. Give another answer as ask.other."
    )


@jax.custom_vjp
def _gate(
    probs: Float[Array, "2 N T S"], relevance: Float[Array, "2 T"], shared: Float[Array, " T"]
) -> tuple[Float[Array, "2 N T S"], Float[Array, "2 T"]]:
    """Probabilities and relevance. Backwards r becomes r + r Ā, with one Ā for the rows of shared states."""
    return probs, relevance


def _forward(probs: jax.Array, relevance: jax.Array, shared: jax.Array) -> Any:
    return (probs, relevance), (probs, shared)


def _backward(kept: tuple[jax.Array, jax.Array], cotangents: tuple[jax.Array, jax.Array]) -> Any:
    (probs, shared), (gradient, relevance) = kept, cotangents
    together = jnp.where(shared[None, None, :, None] > 0, gradient.sum(axis=0, keepdims=True), gradient)
    return gradient, pull_relevance(together, probs, relevance), jnp.zeros_like(shared)


_gate.defvjp(_forward, _backward)


@partial(jax.jit, static_argnames=("model", "answer_len"))
def _relevance(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    differs: Int[Array, ""],
    only_first: Bool[Array, ""],
    sign: Float[Array, ""],
    *,
    answer_len: int,
) -> tuple[Float[Array, " S"], Float[Array, ""]]:
    """(relevance of sign * y, y)."""
    model, num_patches = model.clone(remat="full"), model.variant.num_patches
    collections, llm = variables(params), attention_of(model.variant, "llm")
    tokens, mask_ar = jnp.asarray(batch.tokens), jnp.asarray(batch.mask_ar)
    index, length = answer_index(jnp.asarray(batch.mask_loss), size=answer_len)
    targets = jnp.take_along_axis(tokens, index + 1, axis=1)
    entry = jnp.arange(answer_len)[None]
    counted = (entry >= differs) & (entry < length[:, None]) & (~only_first | (entry == differs))
    positions = num_patches + tokens.shape[1] - 1
    # The state that predicted the token that differs is the last one that both rows share.
    shared = jnp.arange(positions) <= num_patches + index[0, 0] + differs
    one = jnp.array([1.0, -1.0])[:, None]

    def forward(relevance: jax.Array) -> tuple[jax.Array, jax.Array]:
        def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any) -> jax.Array:
            del value, project
            if is_vision(model.variant, module):
                return probs
            probs, carried = _gate(probs, module.get_variable(FOLD, "relevance"), shared.astype(jnp.float32))
            module.put_variable(FOLD, "relevance", carried)
            return probs

        start = {FOLD: nest(llm, {"relevance": relevance})}
        with tapping(in_order(model, tokens.shape[1] - 1, hook)):
            out: Any = model.apply(
                collections | start, batch.image, tokens[:, :-1], mask_ar[:, :-1], mutable=[FOLD], method="pre_logits"
            )
        states = jnp.take_along_axis(out[0], index[..., None], axis=1)
        logits: Any = model.apply(collections, states, method="logits")
        logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
        y = jnp.where(counted, one * logprobs, 0.0).sum()
        return sign * y, branch(out[1][FOLD], llm)["relevance"]

    (y, _), pull = jax.vjp(forward, jnp.zeros((2, positions), jnp.float32))
    query = num_patches + index
    weight = jnp.where(counted, jnp.where(shared[query], 0.5, 1.0), 0.0)  # a state that both share counts once
    start = jnp.zeros((2, positions)).at[jnp.arange(2)[:, None], query].add(weight)
    rows = pull((jnp.ones_like(y), start))[0]
    return jnp.where(shared, rows.sum(axis=0), rows[0]), y * sign


def contrast(
    model: VisionLanguageModel, params: Flat, pair: Batch, *, differs: int, only_first: bool = False, answer_len: int
) -> Contrast:
    """The evidence for the first row's answer rather than the second's, by two forward and backward passes.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        pair: two training rows of one image and question: the answer, and the other one.
        differs: of `first_difference`.
        only_first: count the first token that differs alone.
        answer_len: room for the tokens of either answer, EOS included.
    """
    if len(pair.tokens) != 2:
        raise ValueError(f"A contrast needs two rows, the answer and the other one; got {len(pair.tokens)}.")
    found = [
        _relevance(
            model, params, pair, np.int32(differs), np.bool_(only_first), np.float32(sign), answer_len=answer_len
        )
        for sign in (1, -1)
    ]
    return Contrast(found[0][0] - found[1][0], found[0][1])
