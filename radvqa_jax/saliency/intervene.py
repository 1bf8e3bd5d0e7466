"""The effect on the answer if patches are covered, or if the answer cannot read them.

Both change the forward pass, so they show what matters, whereas attention shows what was read. Occlusion covers patches
with the image's mean colour: no training image looks like that. Knockout leaves the image and hides patches from the
states that write the answer, in a window of layers: their attention there is zero and the rest is scaled to sum one,
as if they were masked. Other states, the question's words, still read the patches and may pass them on.

Source: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2 (occlusion); Geva et
al. 2023, "Dissecting Recall of Factual Associations in Auto-Regressive Language Models", section 4 (knockout).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from radvqa_jax.models.attention import FOLD, Tapped, tapping
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.saliency.buffers import nest
from radvqa_jax.saliency.capture import answer_logprobs, find_answer, logprobs_of
from radvqa_jax.saliency.faithfulness import cover
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.sequence import attention_of, in_order, is_vision
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

Readers = Literal["answer", "text"]
Effect = Callable[[Bool[np.ndarray, "B P"]], Float[np.ndarray, "B A"]]  # patches -> log p lost of each answer token


@partial(jax.jit, static_argnames=("model", "answer_len", "readers"))
def knockout_logprobs(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    patches: Bool[Array, "B P"],
    layers: Bool[Array, " L"],
    *,
    readers: Readers = "answer",
    answer_len: int | None = None,
) -> Float[Array, "B A"]:
    """log p of each answer token while some states cannot read some patches.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows; `mask_loss` says where the answer is.
        patches: the hidden patches.
        layers: the layers in which they are hidden.
        readers: the states that write the answer, from the separator on; or all text positions.
        answer_len: A, room for answer tokens, EOS included; None = T.
    """
    num_patches, answer = model.variant.num_patches, find_answer(batch, answer_len)
    tokens, mask_ar = jnp.asarray(batch.tokens)[:, :-1], jnp.asarray(batch.mask_ar)[:, :-1]
    column, text_len = jnp.arange(num_patches + tokens.shape[1])[None], tokens.shape[1]
    first = num_patches + (answer.index[:, :1] if readers == "answer" else 0)
    hidden = (column >= first)[:, None, :, None] & jnp.pad(patches, ((0, 0), (0, text_len)))[:, None, None]

    def hook(module: Tapped, probs: jax.Array, value: jax.Array, project: Any) -> jax.Array:
        del value, project
        if is_vision(model.variant, module):
            return probs
        layer = module.get_variable(FOLD, "layer")
        module.put_variable(FOLD, "layer", layer + 1)
        here = hidden & layers[layer]
        left = jnp.where(here, 0.0, probs)
        return jnp.where(
            here.any(axis=-1, keepdims=True), left / jnp.maximum(left.sum(-1, keepdims=True), 1e-30), probs
        )

    with tapping(in_order(model, text_len, hook)):
        out: Any = model.apply(
            variables(params) | {FOLD: nest(attention_of(model.variant, "llm"), {"layer": jnp.zeros((), jnp.int32)})},
            batch.image,
            tokens,
            mask_ar,
            mutable=[FOLD],
            method="pre_logits",
        )
    return logprobs_of(model, params, out[0], answer)


def occlusion(model: VisionLanguageModel, params: Flat, batch: Batch, *, answer_len: int | None = None) -> Effect:
    """A function: patches -> the log p that each answer token loses when they are covered; negative = it gains."""
    whole = np.asarray(answer_logprobs(model, params, batch, answer_len=answer_len))

    def lost(patches: Bool[np.ndarray, "B P"]) -> Float[np.ndarray, "B A"]:
        covered = batch._replace(image=cover(np.asarray(batch.image), patches))
        return whole - np.asarray(answer_logprobs(model, params, covered, answer_len=answer_len))

    return lost


def knockout(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    *,
    layers: Sequence[int] = (),
    readers: Readers = "answer",
    answer_len: int | None = None,
) -> Effect:
    """A function: patches -> log p that each answer token loses when they cannot be read in `layers`; none =
    in all of them."""
    depth = model.variant.llm.depth
    within = np.isin(np.arange(depth), chosen(layers, depth, field="saliency.knockout_layers"))

    def run(patches: Bool[np.ndarray, "B P"]) -> Float[np.ndarray, "B A"]:
        found = knockout_logprobs(model, params, batch, patches, within, readers=readers, answer_len=answer_len)
        return np.asarray(found)

    # Computed by the same program: the result with nothing hidden is the zero of the scale.
    whole = run(np.zeros((len(batch.tokens), model.variant.num_patches), bool))
    return lambda patches: whole - run(patches)


def window_masks(grid: int, count: int) -> Bool[np.ndarray, "K P"]:
    """Windows that tile the patches, `count` along a side, or one a patch if there are fewer.

    >>> window_masks(3, 2).astype(int).tolist()
    [[1, 1, 0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1]]
    """
    parts = np.array_split(np.arange(grid), min(count, grid))
    sides = [np.isin(np.arange(grid), part) for part in parts]
    return np.stack([np.outer(rows, columns).ravel() for rows in sides for columns in sides])


def _map(effect: Effect, batch: Batch, grid: int, count: int) -> Float[np.ndarray, "B A P"]:
    """The effect of each window, at each of its patches."""
    rows = len(batch.tokens)
    return sum(effect(np.tile(window, (rows, 1)))[..., None] * window for window in window_masks(grid, count))  # pyright: ignore[reportReturnType] there is a window


def occlusion_map(
    model: VisionLanguageModel, params: Flat, batch: Batch, *, windows: int, answer_len: int | None = None
) -> Float[np.ndarray, "B A P"]:
    """log p that each answer token loses when the window around a patch is covered: windows^2 + 1 passes."""
    grid = round(model.variant.num_patches**0.5)
    return _map(occlusion(model, params, batch, answer_len=answer_len), batch, grid, windows)


def knockout_map(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    *,
    windows: int,
    layers: Sequence[int] = (),
    answer_len: int | None = None,
) -> Float[np.ndarray, "B A P"]:
    """log p that each answer token loses when the answer cannot read the window around a patch in `layers`."""
    grid = round(model.variant.num_patches**0.5)
    return _map(knockout(model, params, batch, layers=layers, answer_len=answer_len), batch, grid, windows)


class Loss(NamedTuple):
    """The loss of an answer without chosen patches, and without as many others; mean log p over its tokens."""

    patches: int
    chosen: float
    elsewhere: float | None  # mean over draws among the other patches; None if there are fewer of them


def lost_with(
    effect: Effect, patches: Bool[np.ndarray, "B P"], lengths: Sequence[int], *, draws: int, seed: int
) -> list[Loss]:
    """The loss of each row without its chosen patches, and without `draws` random choices of its other patches.

    Args:
        effect: of `occlusion` or `knockout`.
        patches: chosen, of each row.
        lengths: answer tokens of each row, EOS included.
        draws: random choices of as many other patches.
        seed: of the draws; each row has its own.
    """
    count, size = patches.sum(axis=1), np.maximum(np.asarray(lengths), 1)
    generators = [np.random.default_rng([seed, row]) for row in range(len(patches))]
    room = (~patches).sum(axis=1) >= count

    def elsewhere() -> Bool[np.ndarray, "B P"]:
        drawn = np.zeros_like(patches)
        for row, rng in enumerate(generators):
            others = np.flatnonzero(~patches[row])
            drawn[row, rng.choice(others, min(count[row], len(others)), replace=False)] = True
        return drawn

    mine = effect(patches).sum(axis=1) / size
    theirs = np.mean([effect(elsewhere()).sum(axis=1) / size for _ in range(draws)], axis=0)
    return [
        Loss(int(n), float(a), float(b) if enough else None)
        for n, a, b, enough in zip(count, mine, theirs, room, strict=True)
    ]
