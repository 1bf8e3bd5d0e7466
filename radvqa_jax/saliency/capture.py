"""Attention probabilities of one teacher-forced pass over a prompt and a given answer, by the model's own tap."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from radvqa_jax.models.attention import TAPS
from radvqa_jax.models.paligemma import PaliGemma, variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

Rows = Literal["all", "answer"]


class Captured(NamedTuple):
    """Attention of the language model over S = P image tokens + T text positions, and what the answer's rows are.

    Entry a of an answer belongs to its token a, EOS included, and names the query that PREDICTED it: the position
    before the token's own. The first answer token was predicted by the separator, EOS by the last answer token.
    """

    attn_probs: Float[Array, "L B N Q S"]  # float32; Q = S (all query rows) or A (row a predicted answer token a)
    query: Int[Array, "B A"]  # row among S that predicted answer token a; past `length` the last such row again
    length: Int[Array, " B"]  # tokens in the answer, EOS included; above A if A was chosen too small
    tokens: Int[Array, "B T"]  # text that went in
    targets: Int[Array, "B A"]  # answer tokens
    logprobs: Float[Array, "B A"]  # log p of each answer token under the model; 0 past `length`
    vision_probs: Float[Array, "I B M P P"] | None  # of the vision tower: I layers, M heads; None unless asked for

    @property
    def num_patches(self) -> int:
        """Number of image tokens P; they are the first P of the S positions."""
        return self.attn_probs.shape[-1] - self.tokens.shape[1]

    @property
    def answer_probs(self) -> Float[Array, "L B N A S"]:
        """The rows that predicted the answer's tokens, whichever rows were captured."""
        probs = self.attn_probs
        return take_rows(probs, self.query[None, :, None]) if probs.shape[-2] == probs.shape[-1] else probs


def take_rows(matrix: Float[Array, "*lead S S"], query: Int[Array, "*index A"]) -> Float[Array, "*lead A S"]:
    """Returns row query[..., a] of each matrix as row a; leading axes of size 1 in `query` are repeated."""
    lead = matrix.shape[:-2]
    return jnp.take_along_axis(matrix, jnp.broadcast_to(query, (*lead, query.shape[-1]))[..., None], axis=-2)


def answer_row(
    prompt: Sequence[int], answer: Sequence[int], *, seq_len: int, eos: int, pad: int
) -> dict[str, np.ndarray]:
    """Returns the row of tokens and masks [seq_len + 1] that training would make of these ids, answer given as ids.

    A decoded answer is taken up to its first EOS. If it has none, because decoding ran out of tokens, none is added:
    the model did not end it.

    Raises:
        ValueError: if the answer is empty, or does not fit; it is never cut.
    """
    answer = [int(token) for token in answer]
    answer = answer[: answer.index(eos) + 1] if eos in answer else answer
    if not answer:
        raise ValueError("The answer has no tokens, not even EOS, so no state predicted one. Give at least [eos].")
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


def _answer_index(mask_loss: Int[Array, "B X"], *, size: int) -> tuple[Int[Array, "B A"], Int[Array, " B"]]:
    """Returns (text position of the state that predicted answer token a, number of answer tokens)."""
    first, length = jnp.argmax(mask_loss, axis=1), mask_loss.sum(axis=1)
    entry = jnp.minimum(jnp.arange(size)[None], jnp.maximum(length[:, None] - 1, 0))
    return jnp.clip(first[:, None] - 1 + entry, 0, mask_loss.shape[1] - 2), length


@partial(jax.jit, static_argnames=("model", "rows", "answer_len", "vision"))
def capture(
    model: PaliGemma,
    params: Flat,
    batch: Batch,
    *,
    rows: Rows = "all",
    answer_len: int | None = None,
    vision: bool = False,
) -> Captured:
    """Returns the attention of a teacher-forced pass over [image tokens, prefix, separator, answer, EOS, padding].

    Tokens, masks and positions are those of training, so the rows of padding are causal queries like any other: they
    attend to all before them and sum to one, and no real row reads them. Compiles once for all batches of one shape.

    All rows take 4 L B N S S bytes: 0.76 GB an example for PaliGemma 3B at 448 pixels and 128 text tokens. `answer`
    returns A / S of that, though the whole exists on the way. The vision tower adds 4 I B M P P bytes (1.8 GB).

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows, [seq_len + 1] tokens each; `mask_loss` says where the answer is.
        rows: which queries to return; rollout needs all.
        answer_len: A, room for answer tokens with EOS; None = T, which always suffices.
        vision: also return the probabilities of the vision tower.
    """
    collections, text_len = variables(params), batch.tokens.shape[1] - 1
    tokens, mask_ar = jnp.asarray(batch.tokens), jnp.asarray(batch.mask_ar)
    out: Any = model.apply(
        collections, batch.image, tokens[:, :-1], mask_ar[:, :-1], mutable=[TAPS], method="pre_logits"
    )
    pre_logits, taps = out[0], out[1][TAPS]
    size = text_len if answer_len is None else min(answer_len, text_len)
    index, length = _answer_index(jnp.asarray(batch.mask_loss), size=size)
    targets = jnp.take_along_axis(tokens, index + 1, axis=1)
    states = jnp.take_along_axis(pre_logits, index[..., None], axis=1)
    logits: Any = model.apply(collections, states, method=lambda module, x: module.llm.embedder.decode(x))
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    attn_probs = taps["llm"]["layers"]["attn"]["attn_probs"].astype(jnp.float32)
    query = index + model.variant.num_patches
    encoder = taps["img"]["Transformer"]["encoderblock"]["MultiHeadDotProductAttention_0"]
    return Captured(
        attn_probs=attn_probs if rows == "all" else take_rows(attn_probs, query[None, :, None]),
        query=query,
        length=length,
        tokens=tokens[:, :-1],
        targets=targets,
        logprobs=jnp.where(jnp.arange(size)[None] < length[:, None], logprobs, 0.0),
        vision_probs=encoder["attn_probs"].astype(jnp.float32) if vision else None,
    )
