"""Everything about one case that a viewer can show, from one pass: every layer and head, and what is made of them.

`make_bundle` asks the model, `CaseBundle.tokens` reads one map of any method, and `to_arrays` and `from_arrays` are the
layout on disk. Maps say what was read, not why an answer was given; they are not explanations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from radvqa_jax.config import DecodeConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import answer_ids, decode
from radvqa_jax.decoding.finite import check_answers
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.capture import answer_row, capture
from radvqa_jax.saliency.relevancy import contrast_ids, relevancy, relevancy_contrast
from radvqa_jax.saliency.rollout import RolloutOptions, through_vision_tower
from radvqa_jax.saliency.words import word_groups
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

METHODS = ("raw", "value_norm", "rollout", "relevancy", "contrast")  # each with and without the vision tower
BY_HEAD = ("raw", "value_norm")  # methods that can be asked for one layer or head
SHARES = ("raw", "rollout")  # methods whose values are shares of one; the others have no unit
OF_PROMPT = ("raw", "rollout")  # methods that also have a map for each token of the prompt
VISION_SUFFIX = "_vision"  # of a method's name: composed with the vision tower's rollout

Words = list[tuple[str, list[int]]]


@dataclass(frozen=True)
class BundleOptions:
    """How the maps are made."""

    residuals: tuple[float, ...] = (0.5,)  # one rollout each
    head_fusion: str = "mean"
    start_layer: int = 0
    discard: float = 0.0
    relevancy: bool = True  # costs a forward and a backward pass for each answer token

    @property
    def rollout(self) -> RolloutOptions:
        """What `capture` folds in the language model."""
        return RolloutOptions(self.residuals, self.head_fusion, self.start_layer, self.discard)

    @property
    def vision_rollout(self) -> RolloutOptions:
        """What it folds in the vision tower: all its layers, and the middle one of the residual weights."""
        return RolloutOptions((sorted(self.residuals)[len(self.residuals) // 2],), self.head_fusion, 0, self.discard)


class CaseBundle(NamedTuple):
    """One case. L layers, N heads, A answer tokens (EOS included), U prompt tokens, P patches row by row, R residuals.

    Row a of every map is the state that predicted answer token a.
    """

    answer: str
    token_ids: Int[np.ndarray, " A"]
    logprobs: Float[np.ndarray, " A"]  # log p of each answer token
    words: Words  # of the answer: (word, its answer tokens)
    prompt_ids: Int[np.ndarray, " U"]
    prompt_words: Words  # BOS, the question's words, the separator: (word, its prompt tokens)
    ended: bool  # whether the last answer token is EOS
    raw: Float[np.ndarray, "L N A P"]  # share of attention: response to image
    raw_to_prompt: Float[np.ndarray, "L N A U"]  # share of attention: response to question
    prompt_raw: Float[np.ndarray, "L N U P"]  # share of attention: the state AT a prompt token to the image
    value_norm: Float[np.ndarray, "L N A P"]  # |alpha f(x)| of each head (Kobayashi et al. 2020)
    value_norm_layer: Float[np.ndarray, "L A P"]  # |sum over heads of alpha f(x)|
    rollout: Float[np.ndarray, "R A P"]  # share of rollout, for each of options.residuals
    prompt_rollout: Float[np.ndarray, "R U P"]  # the same of the state AT a prompt token
    relevancy: Float[np.ndarray, "A P"] | None  # Chefer et al. 2021; no unit
    vision_rollout: Float[np.ndarray, "P P"]  # row p: of which patches image token p is made; rows sum to one
    options: BundleOptions
    contrast: Float[np.ndarray, "A P"] | None = None  # speaks for the answer (> 0) or for `other` (< 0); no unit
    other: str = ""  # the answer of the contrast

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return round(self.raw.shape[-1] ** 0.5)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names that `tokens` takes."""
        absent = {name for name in ("relevancy", "contrast") if getattr(self, name) is None}
        plain = [method for method in METHODS if method not in absent]
        return tuple(plain + [method + VISION_SUFFIX for method in plain])

    def tokens(
        self,
        method: str,
        *,
        layers: Sequence[int] = (),
        heads: Sequence[int] = (),
        residual: float | None = None,
        prompt: bool = False,
    ) -> Float[np.ndarray, "A grid grid"]:
        """Returns a map for each answer token, or for each token of the prompt.

        Args:
            method: one of `methods`; with `_vision` at its end composed with the vision tower.
            layers: raw and value_norm: the mean over these; none = all.
            heads: likewise. value_norm over all heads of a layer is the norm of their sum, where heads may cancel.
            residual: rollout: one of options.residuals; None = the first.
            prompt: raw and rollout: question to image, what the state at each token of the prompt read.

        Raises:
            ValueError: for a method, layer, head or residual that is not there.
        """
        if method not in self.methods:
            raise ValueError(f"There is no map {method!r} of this case. There are: {', '.join(self.methods)}.")
        plain = method.removesuffix(VISION_SUFFIX)
        if (layers or heads) and plain not in BY_HEAD:
            raise ValueError(f"{method} has no layers and heads to choose from; {' and '.join(BY_HEAD)} have.")
        if prompt and plain not in OF_PROMPT:
            raise ValueError(f"{method} has no map of the prompt's tokens; {' and '.join(OF_PROMPT)} have.")
        flat = self._flat(plain, layers=layers, heads=heads, residual=residual, prompt=prompt)
        maps = flat.reshape(-1, self.grid, self.grid).astype(np.float32)
        if method == plain:
            return maps
        return np.asarray(through_vision_tower(jnp.asarray(maps), jnp.asarray(self.vision_rollout)))

    def _flat(
        self, method: str, *, layers: Sequence[int], heads: Sequence[int], residual: float | None, prompt: bool
    ) -> Any:
        if method in ("relevancy", "contrast"):
            return getattr(self, method)
        if method == "rollout":
            weights = self.options.residuals
            if residual is not None and residual not in weights:
                raise ValueError(f"No rollout with residual={residual}; there are {', '.join(map(str, weights))}.")
            rolled = self.prompt_rollout if prompt else self.rollout
            return rolled[weights.index(residual) if residual is not None else 0]
        depth, count = self.raw.shape[:2]
        for name, indices, size in (("layers", layers, depth), ("heads", heads, count)):
            if wrong := [index for index in indices if not 0 <= index < size]:
                raise ValueError(f"{name}={tuple(indices)} names {wrong}; the model's {name} are 0 to {size - 1}.")
        rows = list(layers) or slice(None)
        if method == "value_norm" and not heads:
            return self.value_norm_layer[rows].mean(axis=0)
        values = self.prompt_raw if prompt else {"raw": self.raw, "value_norm": self.value_norm}[method]
        return values[rows][:, list(heads) or slice(None)].mean(axis=(0, 1))


def pack_case(
    tokenizer: Tokenizer,
    *,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int] | Int[np.ndarray, " A"],
    resolution: int,
    seq_len: int,
) -> Batch:
    """Returns a batch of one training row: the question and a given answer, as ids.

    Raises:
        ValueError: if the answer is empty, or prompt and answer do not fit `seq_len`.
    """
    packed = pack_prompt(tokenizer, prefix, seq_len=seq_len)
    prompt = packed["tokens"][packed["mask_input"] == 1].tolist()
    ids = [int(token) for token in answer]
    row = answer_row(prompt, ids, seq_len=seq_len, eos=tokenizer.eos, pad=tokenizer.pad)
    rows = {name: values[None] for name, values in row.items()}
    return Batch(image=resize_image(image, resolution)[None], mask_example=np.ones(1, bool), **rows)


def own_answer(
    model: PaliGemma,
    params: Flat,
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    seq_len: int,
    max_new_tokens: int,
) -> list[int]:
    """Returns the ids of the model's greedy answer, with EOS if it ended."""
    prompt = {name: values[None] for name, values in pack_prompt(tokenizer, prefix, seq_len=seq_len).items()}
    batch = Batch(image=resize_image(image, model.variant.resolution)[None], mask_example=np.ones(1, bool), **prompt)
    config = DecodeConfig(max_new_tokens=max_new_tokens)
    decoded = decode(model, params, batch, jax.random.key(0), config=config, eos=tokenizer.eos, pad=tokenizer.pad)
    check_answers(np.asarray(decoded.token_logprobs), [prefix], params)
    return answer_ids(np.asarray(decoded.tokens)[0, 0], eos=tokenizer.eos)


def make_bundle(
    model: PaliGemma,
    params: Flat,
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int] | Int[np.ndarray, " A"],
    seq_len: int,
    options: BundleOptions | None = None,
    other: str = "",
) -> CaseBundle:
    """Returns everything about one question and a given answer. One compilation serves all cases of one `seq_len`.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        tokenizer: of the checkpoint.
        image: original pixels; resized here as for training.
        prefix: the prompt, without the separator.
        answer: token ids, as decoded (what follows EOS is dropped), of `own_answer`, or `tokenizer.encode(text,
            eos=True)`.
        seq_len: text positions of the row.
        options: how the maps are made.
        other: another answer that this one is held against, which gives the method `contrast`; empty = none.

    Raises:
        ValueError: if the answer is empty, or prompt and answer do not fit `seq_len`.
    """
    options = options or BundleOptions()
    resolution = model.variant.resolution
    batch = pack_case(tokenizer, image=image, prefix=prefix, answer=answer, resolution=resolution, seq_len=seq_len)
    captured = capture(
        model,
        params,
        batch,
        rows="text",
        value_norm=True,
        rollout=options.rollout,
        vision_rollout=options.vision_rollout,
    )
    relevance = relevancy(model, params, batch) if options.relevancy else None
    captured, relevance = jax.device_get((captured, relevance))
    check_answers(captured.logprobs, [prefix], params)
    bundle = _bundle(tokenizer, batch, captured, relevance, options)
    if not other:
        return bundle
    ids = contrast_ids(bundle.token_ids, tokenizer.encode(other, eos=True), size=batch.tokens.shape[1] - 1)
    signed = np.asarray(relevancy_contrast(model, params, batch, jnp.asarray(ids)))
    return bundle._replace(contrast=signed[0, : len(bundle.token_ids), : captured.num_patches], other=other)


def _bundle(tokenizer: Tokenizer, batch: Batch, found: Any, relevance: Any, options: BundleOptions) -> CaseBundle:
    """Returns the case, cut to its own tokens; `found` is a `Captured` of numpy arrays."""
    first, count, p = int(batch.mask_loss[0].argmax()), int(found.length[0]), found.num_patches
    ids, prompt = batch.tokens[0, first : first + count], batch.tokens[0, :first]
    queries, answer = found.query[0, :count], found.answer_probs[:, 0, :, :count]
    return CaseBundle(
        answer=tokenizer.decode(ids),
        token_ids=ids,
        logprobs=found.logprobs[0, :count],
        words=word_groups(tokenizer, ids),
        prompt_ids=prompt,
        prompt_words=word_groups(tokenizer, prompt),
        ended=int(ids[-1]) == tokenizer.eos,
        raw=answer[..., :p],
        raw_to_prompt=answer[..., p : p + first],
        prompt_raw=found.text_probs[:, 0, :, :first, :p],
        value_norm=found.head_norms[:, 0, :, :count, :p],
        value_norm_layer=found.layer_norms[:, 0, :count, :p],
        rollout=found.rolled[:, 0, queries, :p],
        prompt_rollout=found.rolled[:, 0, p : p + first, :p],
        relevancy=None if relevance is None else relevance[0, :count, :p],
        vision_rollout=found.vision_rolled[0, 0],
        options=options,
    )
