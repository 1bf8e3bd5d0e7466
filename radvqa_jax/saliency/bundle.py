"""Everything about one case that a viewer can show, from one pass: every layer and head, and the maps from them.

`make_bundle` asks the model, `CaseBundle.tokens` reads one map of any method, and `to_arrays` and `from_arrays` are the
layout on disk. Maps say what was read, not why an answer was given; they are not explanations.
"""

from collections.abc import Callable, Iterable, Sequence
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
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency.capture import answer_row
from radvqa_jax.saliency.contrast import first_difference
from radvqa_jax.saliency.methods import METHODS, VISION_SUFFIX, Found, plain
from radvqa_jax.saliency.passes import Opposed, Passes, PassOptions
from radvqa_jax.saliency.rollout import through_vision_tower
from radvqa_jax.saliency.words import word_groups
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

CHEAP = tuple(name for name, method in METHODS.items() if not method.asked and not method.against)

Words = list[tuple[str, list[int]]]


class Sources(NamedTuple):
    """The places that the states behind some words read; shares of one, or without a unit."""

    image: float
    start: float  # BOS, the usual sink
    question: float  # its words, without the separator
    separator: float
    answer: float  # earlier tokens of the answer


class CaseBundle(NamedTuple):
    """One case. A answer tokens (EOS included), U prompt tokens, P patches row by row; lead: what `Method.axes` names,
    L layers and N heads, L layers, R residuals, or nothing.

    Row a of every map is the state that predicted answer token a.
    """

    answer: str
    token_ids: Int[np.ndarray, " A"]
    logprobs: Float[np.ndarray, " A"]  # log p of each answer token
    words: Words  # of the answer: (word, its answer tokens)
    prompt_ids: Int[np.ndarray, " U"]
    prompt_words: Words  # BOS, the question's words, the separator: (word, its prompt tokens)
    ended: bool  # whether the last answer token is EOS
    image: dict[str, Float[np.ndarray, "*lead A P"]]  # method -> what each answer token read of the image
    text: dict[str, Float[np.ndarray, "*lead A U_A"]]  # … of prompt and answer; 0 from the token's own place on
    prompt: dict[str, Float[np.ndarray, "*lead U P"]]  # … what the state AT a prompt token read of the image
    layers: dict[str, Float[np.ndarray, "L A P"]]  # of all heads of a layer, where that is not their mean
    vision_rollout: Float[np.ndarray, "P P"]  # row p: of which patches image token p is made; rows sum to one
    options: PassOptions
    other: str = ""  # the answer of the contrast
    log_ratio: float = 0.0  # log p of this whole answer minus that of the other
    lens_ids: Int[np.ndarray, "L P"] | None = None  # the token that each image token reads as, after each layer

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return round(self.vision_rollout.shape[-1] ** 0.5)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names that `tokens` takes."""
        return tuple([*self.image, *(name + VISION_SUFFIX for name in self.image)])

    def tokens(
        self,
        method: str,
        *,
        layers: Sequence[int] = (),
        heads: Sequence[int] = (),
        residual: float | None = None,
        prompt: bool = False,
    ) -> Float[np.ndarray, "A grid grid"]:
        """A map for each answer token, or for each token of the prompt.

        Args:
            method: one of `methods`; with `_vision` at its end composed with the vision tower.
            layers: methods by layer: the mean over these; none = all.
            heads: likewise. value_norm over all heads of a layer is the norm of their sum, where heads may cancel.
            residual: rollout alone: one of options.residuals; None = the first.
            prompt: question to image, what the state at each token of the prompt read; of methods that have it.

        Raises:
            ValueError: for an unknown method, layer, head or residual, and for one that the method does not have.
        """
        if method not in self.methods:
            raise ValueError(f"This case has no map {method!r}. It has: {', '.join(self.methods)}.")
        name = plain(method)
        if prompt and name not in self.prompt:
            raise ValueError(f"{method} has no map of the prompt's tokens; {' and '.join(self.prompt)} have.")
        flat = self._flat(name, self.prompt if prompt else self.image, layers, heads, residual)
        maps = flat.reshape(-1, self.grid, self.grid).astype(np.float32)
        if method == name:
            return maps
        return np.asarray(through_vision_tower(jnp.asarray(maps), jnp.asarray(self.vision_rollout)))

    def to_text(
        self, method: str, *, layers: Sequence[int] = (), heads: Sequence[int] = (), residual: float | None = None
    ) -> Float[np.ndarray, "A U_A"]:
        """The response of each answer token to the tokens of prompt and answer; arguments as for `tokens`."""
        if method not in self.text:
            raise ValueError(f"{method} has no values of the text; {' and '.join(self.text)} have.")
        return self._flat(method, self.text, layers, heads, residual).astype(np.float32)

    def sources(self, method: str, tokens: Sequence[int] = (), **chosen: Any) -> Sources:
        """The parts that the states behind some answer tokens read: image, BOS, question, separator, earlier answer.

        Args:
            method: one with values of the text.
            tokens: indices of answer tokens, over which the mean is taken; empty = all but EOS.
            **chosen: layers, heads, residual, as of `tokens`.
        """
        rows = list(tokens) or list(range(max(1, len(self.token_ids) - self.ended)))
        text, prompt = self.to_text(method, **chosen)[rows].mean(axis=0), len(self.prompt_ids)
        last = len(self.prompt_words[-1][1])
        return Sources(
            image=float(self.tokens(method, **chosen)[rows].sum(axis=(1, 2)).mean()),
            start=float(text[0]),
            question=float(text[1 : prompt - last].sum()),
            separator=float(text[prompt - last : prompt].sum()),
            answer=float(text[prompt:].sum()),
        )

    def _flat(
        self, name: str, values: dict[str, Any], layers: Sequence[int], heads: Sequence[int], residual: float | None
    ) -> Any:
        """The mean over the chosen part of the leading axes."""
        axes, found = METHODS[name].axes, values[name]
        for asked, axis in ((layers, "layers"), (heads, "heads"), (residual is not None, "residual")):
            if asked and axis not in axes:
                those = [name for name in values if axis in METHODS[name].axes] or ["no map of this case"]
                have = f"{' and '.join(those)} {'have' if len(those) > 1 else 'has'}"
                raise ValueError(f"{name} has no {axis} to choose from; {have}.")
        if axes == "residuals":
            weights = self.options.residuals
            if residual is not None and residual not in weights:
                raise ValueError(f"No rollout with residual={residual}; there are {', '.join(map(str, weights))}.")
            return found[weights.index(residual) if residual is not None else 0]
        sizes: dict[str, int] = dict(zip(axes.split(", "), found.shape, strict=False))
        for axis, indices in (("layers", layers), ("heads", heads)):
            if wrong := [index for index in indices if not 0 <= index < sizes[axis]]:
                raise ValueError(
                    f"{axis}={tuple(indices)} names {wrong}; the model's {axis} are 0 to {sizes[axis] - 1}."
                )
        rows = list(layers) or slice(None)
        if name in self.layers and not heads and values is self.image:
            return self.layers[name][rows].mean(axis=0)
        if axes == "layers, heads":
            return found[rows][:, list(heads) or slice(None)].mean(axis=(0, 1))
        return found[rows].mean(axis=0) if axes else found


def row_length(seq_len: int, answers: Iterable[Sequence[int]], *, step: int) -> int:
    """Text positions for a prompt of up to `seq_len` tokens and the longest of these answers.

    The room for the answer is a multiple of `step`, because each length compiles once.

    >>> row_length(32, [[5, 1], [6, 7, 8, 9, 1]], step=4), row_length(32, [[5, 1]], step=4)
    (40, 36)
    """
    return seq_len + step * max(1, -(-max(map(len, answers)) // step))


def pack_case(
    tokenizer: Tokenizer,
    *,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int] | Int[np.ndarray, " A"],
    resolution: int,
    seq_len: int,
) -> Batch:
    """A batch of one training row: the question and a given answer, as ids.

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
    model: VisionLanguageModel,
    params: Flat,
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    seq_len: int,
    max_new_tokens: int,
) -> list[int]:
    """The ids of the model's greedy answer, with EOS if it ended."""
    prompt = {name: values[None] for name, values in pack_prompt(tokenizer, prefix, seq_len=seq_len).items()}
    batch = Batch(image=resize_image(image, model.variant.resolution)[None], mask_example=np.ones(1, bool), **prompt)
    config = DecodeConfig(max_new_tokens=max_new_tokens)
    decoded = decode(model, params, batch, jax.random.key(0), config=config, eos=tokenizer.eos, pad=tokenizer.pad)
    check_answers(np.asarray(decoded.token_logprobs), [prefix], params)
    return answer_ids(np.asarray(decoded.tokens)[0, 0], eos=tokenizer.eos)


def make_bundle(
    model: VisionLanguageModel,
    params: Flat,
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int] | Int[np.ndarray, " A"],
    seq_len: int,
    methods: Sequence[str] = (*CHEAP, "relevancy"),
    options: PassOptions | None = None,
    other: str = "",
) -> CaseBundle:
    """Everything about one question and a given answer. One compilation serves all cases of one `seq_len`.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        tokenizer: of the checkpoint.
        image: original pixels; resized here as for training.
        prefix: the prompt, without the separator.
        answer: token ids, as decoded (what follows EOS is dropped), of a record (answers.py), or of `own_answer`.
        seq_len: text positions of the row.
        methods: names of the maps, without `_vision`; CHEAP ones share one pass.
        options: of the maps.
        other: another answer that this one is compared with, which adds the methods that need it; empty = none. If one
            answer is the beginning of the other, they cannot be compared, and `CaseBundle.other` is empty.

    Raises:
        ValueError: if the answer is empty, prompt and answer do not fit `seq_len`, or log p is not finite.
    """

    def packed(ids: Sequence[int] | Int[np.ndarray, " A"]) -> Batch:
        resolution = model.variant.resolution
        return pack_case(tokenizer, image=image, prefix=prefix, answer=ids, resolution=resolution, seq_len=seq_len)

    batch = packed(answer)
    opposed = _oppose(batch, packed, tokenizer, other)
    wanted = [name for name in METHODS if name in methods and not METHODS[name].against]
    wanted += [name for name, method in METHODS.items() if method.against and opposed]
    passes = Passes(
        model,
        params,
        batch,
        options=options or PassOptions(),
        eos=tokenizer.eos,
        captures={flag for name in wanted for flag in METHODS[name].captures},
        opposed=opposed,
    )
    check_answers(np.asarray(passes.captured.logprobs), [prefix], params)
    found = {name: jax.device_get(METHODS[name].compute(passes)) for name in wanted}
    bundle = _bundle(tokenizer, passes, found)
    if opposed:
        bundle = bundle._replace(other=other, log_ratio=float(passes.contrast(only_first=False).log_ratio))
    return bundle._replace(lens_ids=np.asarray(passes.lens.top_ids)[0]) if "lens" in wanted else bundle


def _oppose(batch: Batch, packed: Callable[[list[int]], Batch], tokenizer: Tokenizer, other: str) -> Opposed | None:
    """The answer and another one as a pair; None without another one, or if one begins with the other."""
    if not other:
        return None
    against = packed(tokenizer.encode(other, eos=True))
    mine, theirs = (row.tokens[0][row.mask_loss[0] == 1].tolist() for row in (batch, against))
    try:
        differs = first_difference(mine, theirs)
    except ValueError:
        return None
    pair = Batch(*(np.concatenate([a, b]) for a, b in zip(batch, against, strict=True)))
    return Opposed(pair, differs)


def _bundle(tokenizer: Tokenizer, passes: Passes, found: dict[str, Found]) -> CaseBundle:
    """The case, cut to its own tokens."""
    captured, batch, p = jax.device_get(passes.captured), passes.batch, passes.num_patches
    first, count = int(batch.mask_loss[0].argmax()), int(captured.length[0])
    ids, prompt = batch.tokens[0, first : first + count], batch.tokens[0, :first]
    rows = {name: each.rows[0][..., :count, :] for name, each in found.items()}
    return CaseBundle(
        answer=tokenizer.decode(ids),
        token_ids=ids,
        logprobs=captured.logprobs[0, :count],
        words=word_groups(tokenizer, ids),
        prompt_ids=prompt,
        prompt_words=word_groups(tokenizer, prompt),
        ended=int(ids[-1]) == tokenizer.eos,
        image={name: values[..., :p] for name, values in rows.items()},
        text={name: rows[name][..., p : p + first + count] for name in rows if METHODS[name].text},
        prompt={name: each.prompt[0][..., :first, :p] for name, each in found.items() if each.prompt is not None},
        layers={name: each.layers[0][:, :count, :p] for name, each in found.items() if each.layers is not None},
        vision_rollout=captured.vision_rolled[0, 0],
        options=passes.options,
    )
