"""One question and its answer -> maps: by answer token, by word, and for the whole answer.

A map says what the model read, not why it answered; it is not an explanation.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.capture import answer_row, capture
from radvqa_jax.saliency.rollout import raw_attention, rollout, rollout_maps
from radvqa_jax.saliency.words import word_groups
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

METHODS = ("raw", "rollout")


class AnswerMaps(NamedTuple):
    """Maps of a batch, by method. Entry a is of answer token a, read by the state that predicted it."""

    maps: dict[str, Float[Array, "B A grid grid"]]
    length: Int[Array, " B"]  # answer tokens with EOS; entries past it mean nothing
    logprobs: Float[Array, "B A"]


class CaseMaps(NamedTuple):
    """Maps of one case, by method (`raw`, `rollout`)."""

    answer: str
    tokens: Int[np.ndarray, " A"]  # of the answer, with EOS if it has one
    logprobs: Float[np.ndarray, " A"]  # log p of each
    words: list[tuple[str, list[int]]]  # (word, its token positions), see `word_groups`
    ended: bool  # whether the last token is EOS
    maps: dict[str, Float[np.ndarray, "A grid grid"]]

    def of_words(self, method: str) -> Float[np.ndarray, "W grid grid"]:
        """Returns a map a word, the mean over its tokens."""
        return np.stack([self.maps[method][positions].mean(axis=0) for _, positions in self.words])

    def of_answer(self, method: str) -> Float[np.ndarray, "grid grid"]:
        """Returns the mean over the answer's tokens; EOS counts only if there is nothing else."""
        tokens = self.maps[method][: len(self.tokens) - self.ended]
        return (tokens if len(tokens) else self.maps[method]).mean(axis=0)

    def image_to_response(self, method: str) -> Float[np.ndarray, "grid grid W"]:
        """Returns, for each patch, what every word read of it: the words' maps read the other way.

        With the patch as the query all values would be zero; see saliency/rollout.py.
        """
        return np.moveaxis(self.of_words(method), 0, -1)


@partial(jax.jit, static_argnames=("model", "config"))
def answer_maps(model: PaliGemma, params: Flat, batch: Batch, *, config: SaliencyConfig) -> AnswerMaps:
    """Returns the maps of a batch of training rows; attention itself never leaves the device.

    Memory is that of `capture` with all rows plus two [B S S] arrays: keep the batch small at high resolution.
    """
    captured = capture(model, params, batch)
    num_patches = captured.num_patches
    rolled = rollout(
        captured.attn_probs,
        residual=config.residual,
        head_fusion=config.head_fusion,
        start_layer=config.start_layer,
    )
    maps = {
        "raw": raw_attention(captured.answer_probs, num_patches=num_patches, layers=config.layers),
        "rollout": rollout_maps(rolled, captured.query, num_patches=num_patches),
    }
    return AnswerMaps(maps, captured.length, captured.logprobs)


def case_maps(
    model: PaliGemma,
    params: Flat,
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int] | Int[np.ndarray, " A"],
    config: SaliencyConfig,
    seq_len: int,
) -> CaseMaps:
    """Returns the maps of one question and a given answer. One compilation serves all cases of one `seq_len`.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        tokenizer: of the checkpoint.
        image: original pixels; resized here as for training.
        prefix: the prompt, without the separator.
        answer: token ids, as decoded (what follows EOS is dropped) or `tokenizer.encode(text, eos=True)`.
        config: residual, head fusion and layers.
        seq_len: text positions of the row.

    Raises:
        ValueError: if the answer is empty, or prompt and answer do not fit `seq_len`.
    """
    packed = pack_prompt(tokenizer, prefix, seq_len=seq_len)
    prompt = packed["tokens"][packed["mask_input"] == 1].tolist()
    ids = [int(token) for token in answer]
    row = answer_row(prompt, ids, seq_len=seq_len, eos=tokenizer.eos, pad=tokenizer.pad)
    rows = {name: values[None] for name, values in row.items()}
    pixels = resize_image(image, model.variant.resolution)[None]
    batch = Batch(image=pixels, mask_example=np.ones(1, bool), **rows)
    out = jax.device_get(answer_maps(model, params, batch, config=config))
    length = int(out.length[0])
    tokens = row["tokens"][row["mask_loss"] == 1]
    return CaseMaps(
        answer=tokenizer.decode(tokens),
        tokens=tokens,
        logprobs=out.logprobs[0, :length],
        words=word_groups(tokenizer, tokens),
        ended=int(tokens[-1]) == tokenizer.eos,
        maps={method: values[0, :length] for method, values in out.maps.items()},
    )
