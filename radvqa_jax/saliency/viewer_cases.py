"""One question and its answer -> a case of the viewer: every method, layer and head, under one or several models."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.capture import answer_row, capture
from radvqa_jax.saliency.rollout import rollout, rollout_maps, to_grid
from radvqa_jax.saliency.viewer import ViewerCase, ViewerMap, ViewerModel, ViewerWord
from radvqa_jax.saliency.words import word_groups
from radvqa_jax.schema import Batch, Record
from radvqa_jax.trees import Flat

RESIDUALS = (0.1, 0.5, 0.9)  # of rollout, beside the configured one


class Shown(NamedTuple):
    """A model to look at: its label for a reader, itself, and its leaves."""

    label: str
    model: PaliGemma
    params: Flat


class _Views(NamedTuple):
    heads: Float[Array, "L N A grid grid"]  # raw attention
    rollouts: Float[Array, "R A grid grid"]  # one a residual
    length: Int[Array, ""]


@partial(jax.jit, static_argnames=("model", "config", "residuals"))
def _views(
    model: PaliGemma, params: Flat, batch: Batch, *, config: SaliencyConfig, residuals: tuple[float, ...]
) -> _Views:
    """Returns the maps of a batch of one row; attention between other rows never leaves the device."""
    captured = capture(model, params, batch)
    num_patches = captured.num_patches

    def rolled(residual: float) -> jax.Array:
        folded = rollout(
            captured.attn_probs, residual=residual, head_fusion=config.head_fusion, start_layer=config.start_layer
        )
        return rollout_maps(folded, captured.query, num_patches=num_patches)[0]

    return _Views(
        heads=to_grid(captured.answer_probs, num_patches=num_patches)[:, 0],
        rollouts=jax.numpy.stack([rolled(residual) for residual in residuals]),
        length=captured.length[0],
    )


def _of_words(tokens: np.ndarray, groups: Sequence[tuple[str, list[int]]]) -> Float[np.ndarray, "W grid grid"]:
    """Returns a map a word, the mean over its tokens."""
    return np.stack([tokens[positions].mean(axis=0) for _, positions in groups])


def model_maps(
    name: str, views: Any, groups: Sequence[tuple[str, list[int]]], *, residuals: Sequence[float]
) -> list[ViewerMap]:
    """Returns the maps of one model: raw attention in all, by layer and by head, and rollout by residual."""
    heads = np.asarray(views.heads)
    made = partial(ViewerMap, name)
    maps = [made("raw", _of_words(heads.mean(axis=(0, 1)), groups))]
    for layer, of_layer in enumerate(heads):
        maps.append(made("raw", _of_words(of_layer.mean(axis=0), groups), layer=layer))
        maps += [made("raw", _of_words(one, groups), layer=layer, head=head) for head, one in enumerate(of_layer)]
    rolled = zip(residuals, np.asarray(views.rollouts), strict=True)
    return maps + [made("rollout", _of_words(values, groups), residual=residual) for residual, values in rolled]


def viewer_case(
    shown: Mapping[str, Shown],
    *,
    records: Mapping[str, Record],
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    config: SaliencyConfig,
    seq_len: int,
    mask: Bool[np.ndarray, "h w"] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> ViewerCase:
    """Returns the case of one question, all models read over the same answer: that of the last one.

    Args:
        shown: name -> model, in the order of reading; the last one's answer is the one that is looked at.
        records: name -> what that model answered; its verdict is shown where there is a reference.
        tokenizer: of the checkpoint.
        image: original pixels.
        prefix: the prompt, without the separator.
        config: head fusion and start layer of rollout.
        seq_len: text positions of the row; prompt and answer must fit.
        mask: of the lesion, in the size of the image.
        facts: (name, value) shown beside the image.
        notes: sentences that a reader must know.
    """
    record = records[list(shown)[-1]]
    packed = pack_prompt(tokenizer, prefix, seq_len=seq_len)
    prompt = packed["tokens"][packed["mask_input"] == 1].tolist()
    ids = tokenizer.encode(record.predictions[0], eos=True)
    row = answer_row(prompt, ids, seq_len=seq_len, eos=tokenizer.eos, pad=tokenizer.pad)
    groups = word_groups(tokenizer, ids)
    residuals = tuple(sorted({*RESIDUALS, config.residual}))
    maps: list[ViewerMap] = []
    for name, one in shown.items():
        pixels = resize_image(image, one.model.variant.resolution)[None]
        batch = Batch(image=pixels, mask_example=np.ones(1, bool), **{key: value[None] for key, value in row.items()})
        views = jax.device_get(_views(one.model, one.params, batch, config=config, residuals=residuals))
        maps += model_maps(name, views, groups, residuals=residuals)
    return ViewerCase(
        question_id=record.question_id,
        question=record.question,
        reference=record.reference,
        image=image,
        words=[ViewerWord(text, len(at), end=at == [len(ids) - 1]) for text, at in groups],
        models=[_described(name, one.label, records.get(name)) for name, one in shown.items()],
        maps=maps,
        mask=mask,
        facts=facts,
        notes=notes,
    )


def _described(name: str, label: str, record: Record | None) -> ViewerModel:
    """Returns a model with its answer, and with the verdict where there is a reference."""
    if record is None:
        return ViewerModel(name, label, "(not asked)")
    if not record.reference:
        return ViewerModel(name, label, record.predictions[0])
    found = verdict(record, record.predictions[0])
    return ViewerModel(name, label, record.predictions[0], found.outcome, found.rule)
