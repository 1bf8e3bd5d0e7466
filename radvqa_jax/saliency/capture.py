"""Attention of one teacher-forced pass over a prompt and a given answer, by a hook in the model's own tap.

Each layer keeps the requested arrays before it ends: the answer's rows, a folded rollout. No array of size layers x
heads x T x T exists unless all rows were requested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from radvqa_jax.models.attention import FOLD, Hook, Tapped, attention_scores, tapping
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.saliency import value_norm
from radvqa_jax.saliency.attention_rows import take_rows
from radvqa_jax.saliency.buffers import Buffers, branch, merged, nest
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.rollout import RolloutOptions, start_rollouts
from radvqa_jax.saliency.sequence import attention_of, in_order, is_vision
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

Rows = Literal["all", "text", "answer"]


class Captured(NamedTuple):
    """Attention of the language model over S = P image tokens + T text positions, and the meaning of the answer's rows.

    Entry a of an answer belongs to its token a, EOS included, and names the query that PREDICTED it: the position
    before the token's own. The first answer token was predicted by the separator, EOS by the last answer token.
    L and N count the requested layers and heads, in that order. Arrays that were not requested are None.
    """

    answer_probs: Float[Array, "L B N A S"]  # float32; row a predicted answer token a
    text_probs: Float[Array, "L B N T S"] | None  # rows of the states AT the text positions
    attn_probs: Float[Array, "L B N S S"] | None  # all rows
    query: Int[Array, "B A"]  # row among S that predicted answer token a; past `length` the last such row again
    length: Int[Array, " B"]  # tokens in the answer, EOS included; above A if A was chosen too small
    tokens: Int[Array, "B T"]  # text that went in
    targets: Int[Array, "B A"]  # answer tokens
    logprobs: Float[Array, "B A"]  # log p of each answer token under the model; 0 past `length`
    rolled: Float[Array, "R B S S"] | None = None  # rollout, one for each residual weight
    head_norms: Float[Array, "L B N A S"] | None = None  # |alpha f(x)| of each head (value_norm.py)
    layer_norms: Float[Array, "L B A S"] | None = None  # |sum over all heads of alpha f(x)|
    scores: Float[Array, "L B N A S"] | None = None  # Q K^T / sqrt(d) of the answer's rows, including masked places
    vision_probs: Float[Array, "I B M P P"] | None = None  # of the vision tower: I layers, M heads
    vision_rolled: Float[Array, "R B P P"] | None = None  # rollout of the vision tower

    @property
    def num_patches(self) -> int:
        """Number of image tokens P; they are the first P of the S positions, whatever the model's own order is."""
        return self.answer_probs.shape[-1] - self.tokens.shape[1]


@dataclass(frozen=True)
class CaptureOptions:
    """The arrays that are kept of each layer; static under jit."""

    rows: Rows = "answer"
    layers: tuple[int, ...] = ()  # none = all
    heads: tuple[int, ...] = ()  # none = all
    rollout: RolloutOptions | None = None
    value_norm: bool = False
    scores: bool = False
    vision: bool = False
    vision_rollout: RolloutOptions | None = None


def answer_row(
    prompt: Sequence[int], answer: Sequence[int], *, seq_len: int, eos: int, pad: int
) -> dict[str, np.ndarray]:
    """The row of tokens and masks [seq_len + 1] that training would make from these ids of prompt and answer.

    A decoded answer is taken up to its first EOS. If it has none, because decoding ran out of tokens, none is added:
    the model did not end it.

    Raises:
        ValueError: if the answer is empty, or does not fit; it is never cut.
    """
    answer = [int(token) for token in answer]
    answer = answer[: answer.index(eos) + 1] if eos in answer else answer
    if not answer:
        raise ValueError("The answer has no tokens, not even EOS, so no state predicted it. Give at least [eos].")
    ids, width = [*map(int, prompt), *answer], seq_len + 1
    if len(ids) > width:
        raise ValueError(
            f"Prompt and answer take {len(prompt)} + {len(answer)} tokens; a row of data.seq_len={seq_len} holds "
            f"{width}. Raise data.seq_len."
        )
    column = np.arange(width)
    mask_ar = (column >= len(prompt)).astype(np.int32)
    mask_input = (column < len(ids)).astype(np.int32)
    tokens = np.array(ids + [pad] * (width - len(ids)), np.int32)
    return {"tokens": tokens, "mask_ar": mask_ar, "mask_loss": mask_ar * mask_input, "mask_input": mask_input}


def answer_index(mask_loss: Int[Array, "B X"], *, size: int) -> tuple[Int[Array, "B A"], Int[Array, " B"]]:
    """(text position of the state that predicted answer token a, number of answer tokens)."""
    first, length = jnp.argmax(mask_loss, axis=1), mask_loss.sum(axis=1)
    entry = jnp.minimum(jnp.arange(size)[None], jnp.maximum(length[:, None] - 1, 0))
    return jnp.clip(first[:, None] - 1 + entry, 0, mask_loss.shape[1] - 2), length


def _llm_tap(
    model: VisionLanguageModel, batch_size: int, text_len: int, query: jax.Array, asked: CaptureOptions
) -> tuple[Buffers, Hook]:
    """The initial arrays of the language model's layers, and the hook that each layer calls."""
    config, num_patches = model.variant.llm, model.variant.num_patches
    heads, length = chosen(asked.heads, config.num_heads, field="saliency.heads"), num_patches + text_len
    picked, size = jnp.array(heads), query.shape[1]
    buffers = Buffers(config.depth, asked.layers)
    buffers.add("rows", batch_size, len(heads), {"all": length, "text": text_len, "answer": size}[asked.rows], length)
    if asked.rollout:
        asked.rollout.check(config.depth)
        buffers.start["rolled"] = start_rollouts(asked.rollout, batch_size, length)
    if asked.value_norm:
        buffers.add("head_norms", batch_size, len(heads), size, length)
        buffers.add("layer_norms", batch_size, size, length)
    if asked.scores:
        buffers.add("scores", batch_size, len(heads), size, length)

    def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any, *queries: jax.Array) -> jax.Array:
        answer = take_rows(probs, query[:, None])
        rows = {"all": probs, "text": probs[..., num_patches:, :], "answer": answer}[asked.rows]
        buffers.keep(module, "rows", rows[:, picked] if asked.heads else rows)
        if asked.rollout:
            buffers.fold(module, probs, asked.rollout)
        if asked.value_norm:
            weight = value_norm.output_weight(
                project, num_heads=config.num_heads, head_dim=config.head_dim, dtype=value.dtype
            )
            vectors = value_norm.moved(value, weight)
            buffers.keep(module, "head_norms", value_norm.head_norms(answer, vectors)[:, picked])
            buffers.keep(module, "layer_norms", value_norm.layer_norms(answer, vectors))
        if asked.scores:
            asking, key = queries
            asking = jnp.take_along_axis(asking, query[..., None, None], axis=1)
            buffers.keep(module, "scores", attention_scores(asking, key)[:, picked])
        buffers.next_layer(module)
        return probs

    return buffers, hook


def _vision_tap(model: VisionLanguageModel, batch_size: int, asked: CaptureOptions) -> tuple[Buffers, Hook]:
    """The same for the vision tower."""
    config, num_patches = model.variant.img, model.variant.num_patches
    buffers = Buffers(config.depth)
    if asked.vision:
        buffers.add("rows", batch_size, config.num_heads, num_patches, num_patches)
    if asked.vision_rollout:
        asked.vision_rollout.check(config.depth)
        buffers.start["rolled"] = start_rollouts(asked.vision_rollout, batch_size, num_patches)

    def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any) -> jax.Array:
        del value, project
        if asked.vision:
            buffers.keep(module, "rows", probs)
        if asked.vision_rollout:
            buffers.fold(module, probs, asked.vision_rollout)
        buffers.next_layer(module)
        return probs

    return buffers, hook


def _run(
    model: VisionLanguageModel, params: Flat, batch: Batch, query: jax.Array, asked: CaptureOptions
) -> tuple[Float[Array, "B T D"], dict[str, Any], dict[str, Any]]:
    """(pre_logits, the arrays of the language model, the arrays of the vision tower)."""
    batch_size, text_len = batch.tokens.shape[0], batch.tokens.shape[1] - 1
    llm, llm_hook = _llm_tap(model, batch_size, text_len, query, asked)
    vision, vision_hook = _vision_tap(model, batch_size, asked)

    def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any, *queries: jax.Array) -> jax.Array:
        if is_vision(model.variant, module):
            return vision_hook(module, probs, value, project)
        return llm_hook(module, probs, value, project, *queries)

    llm_path, vision_path = attention_of(model.variant, "llm"), attention_of(model.variant, "img")
    start = {FOLD: merged(nest(llm_path, llm.start), nest(vision_path, vision.start))}
    tokens, mask_ar = jnp.asarray(batch.tokens), jnp.asarray(batch.mask_ar)
    with tapping(in_order(model, text_len, hook), queries=asked.scores):
        out: Any = model.apply(
            variables(params) | start, batch.image, tokens[:, :-1], mask_ar[:, :-1], mutable=[FOLD], method="pre_logits"
        )
    return out[0], branch(out[1][FOLD], llm_path), branch(out[1][FOLD], vision_path)


class Answer(NamedTuple):
    """The positions of a batch's answers: see `Captured`."""

    index: Int[Array, "B A"]  # text position of the state that predicted answer token a
    length: Int[Array, " B"]
    targets: Int[Array, "B A"]


def find_answer(batch: Batch, answer_len: int | None) -> Answer:
    """Finds the answers, with room for `answer_len` tokens; None = T."""
    text_len = batch.tokens.shape[1] - 1
    size = text_len if answer_len is None else min(answer_len, text_len)
    index, length = answer_index(jnp.asarray(batch.mask_loss), size=size)
    return Answer(index, length, jnp.take_along_axis(jnp.asarray(batch.tokens), index + 1, axis=1))


def logprobs_of(model: VisionLanguageModel, params: Flat, pre_logits: jax.Array, answer: Answer) -> Float[Array, "B A"]:
    """log p of each answer token, 0 past the answer; logits are made for these states only."""
    states = jnp.take_along_axis(pre_logits, answer.index[..., None], axis=1)
    logits: Any = model.apply(variables(params), states, method="logits")
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits), answer.targets[..., None], axis=-1)[..., 0]
    return jnp.where(jnp.arange(logprobs.shape[1])[None] < answer.length[:, None], logprobs, 0.0)


@partial(jax.jit, static_argnames=("model", "answer_len"))
def answer_logprobs(
    model: VisionLanguageModel, params: Flat, batch: Batch, *, answer_len: int | None = None
) -> Float[Array, "B A"]:
    """log p of each answer token, as from `capture`, without capturing anything."""
    image, tokens, mask_ar = (jnp.asarray(values) for values in (batch.image, batch.tokens, batch.mask_ar))
    pre_logits: Any = model.apply(variables(params), image, tokens[:, :-1], mask_ar[:, :-1], method="pre_logits")
    return logprobs_of(model, params, pre_logits, find_answer(batch, answer_len))


@partial(jax.jit, static_argnames=("model", "asked", "answer_len"))
def _capture(
    model: VisionLanguageModel, params: Flat, batch: Batch, *, asked: CaptureOptions, answer_len: int | None
) -> Captured:
    answer, text_len, num_patches = (
        find_answer(batch, answer_len),
        batch.tokens.shape[1] - 1,
        model.variant.num_patches,
    )
    query = answer.index + num_patches
    pre_logits, llm, vision = _run(model, params, batch, query, asked)
    rows = llm["rows"]
    first = {"all": 0, "text": num_patches}.get(asked.rows)
    return Captured(
        answer_probs=rows if first is None else take_rows(rows, query[None, :, None] - first),
        text_probs=None if asked.rows == "answer" else rows[..., rows.shape[-2] - text_len :, :],
        attn_probs=rows if asked.rows == "all" else None,
        query=query,
        length=answer.length,
        tokens=jnp.asarray(batch.tokens)[:, :-1],
        targets=answer.targets,
        logprobs=logprobs_of(model, params, pre_logits, answer),
        rolled=llm.get("rolled"),
        head_norms=llm.get("head_norms"),
        layer_norms=llm.get("layer_norms"),
        scores=llm.get("scores"),
        vision_probs=vision.get("rows"),
        vision_rolled=vision.get("rolled"),
    )


def capture(
    model: VisionLanguageModel, params: Flat, batch: Batch, *, answer_len: int | None = None, **asked: Any
) -> Captured:
    """The requested arrays of a teacher-forced pass over [image tokens, prefix, separator, answer, EOS, padding].

    Tokens, masks and positions are those of training, so the rows of padding are causal queries like any other: they
    attend to everything before them and sum to one, and no real row reads them. Compiles once for all batches of one
    shape.

    Memory of what is kept, in bytes: answer rows 4 L B N A S, text rows 4 L B N T S, all rows 4 L B N S S (0.76 GB an
    example for PaliGemma 3B at 448 pixels and 128 text tokens), a rollout 4 R B S S, the probabilities of the vision
    tower 4 I B M P P (1.8 GB). Each layer's own probabilities exist only while it runs.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows, [seq_len + 1] tokens each; `mask_loss` says where the answer is.
        answer_len: A, room for answer tokens with EOS; None = T, which always suffices.
        **asked: fields of `CaptureOptions`: rows, layers, heads, rollout, value_norm, scores, vision, vision_rollout.
    """
    return _capture(model, params, batch, asked=CaptureOptions(**asked), answer_len=answer_len)
