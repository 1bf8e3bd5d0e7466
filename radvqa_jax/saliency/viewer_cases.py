"""One question and its answer -> a case of the viewer: every method, layer and head, under one or several models."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.bundle import BY_HEAD, OF_PROMPT, VISION_SUFFIX, CaseBundle, Words, make_bundle
from radvqa_jax.saliency.maps import bundle_options
from radvqa_jax.saliency.viewer_types import Query, ViewerCase, ViewerMap, ViewerModel, ViewerWord
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat

RESIDUALS = (0.1, 0.5, 0.9)  # of rollout, beside the configured one


class Shown(NamedTuple):
    """A model to look at: its label for a reader, itself, and its leaves."""

    label: str
    model: PaliGemma
    params: Flat


def _of_words(tokens: Float[np.ndarray, "..."], words: Words) -> Float[np.ndarray, "..."]:
    """Returns [words, …]: the mean over each word's tokens; the first axis of `tokens` is the answer's tokens."""
    return np.stack([tokens[positions].mean(axis=0) for _, positions in words])


def _by_head(name: str, bundle: CaseBundle, method: str, query: Query) -> Iterator[ViewerMap]:
    """Yields the map of all layers, of each layer, and of each head; raw attention with what it read in the prompt."""
    depth, heads = bundle.raw.shape[:2]
    words = bundle.words if query == "answer" else bundle.prompt_words
    choices = [(None, None)] + [(i, head) for i in range(depth) for head in (None, *range(heads))]
    for layer, head in choices:
        for vision in (False, True) if head is None else (False,):
            tokens = bundle.tokens(
                method + VISION_SUFFIX * vision,
                layers=() if layer is None else (layer,),
                heads=() if head is None else (head,),
                prompt=query == "question",
            )
            prompt = None
            if method == "raw" and not vision and query == "answer":
                at = slice(None) if layer is None else slice(layer, layer + 1)
                which = slice(None) if head is None else slice(head, head + 1)
                read = _of_words(bundle.raw_to_prompt[at, which].mean(axis=(0, 1)), bundle.words)
                prompt = np.stack([read[:, positions].sum(axis=1) for _, positions in bundle.prompt_words], axis=1)
            values = _of_words(tokens, words)
            yield ViewerMap(name, method, values, layer, head, vision=vision, prompt=prompt, query=query)


def bundle_maps(name: str, bundle: CaseBundle) -> list[ViewerMap]:
    """Returns all maps of a bundle for the viewer: of the answer's words, then of the prompt's words what there is.

    Single heads are not composed with the vision tower.
    """
    maps: list[ViewerMap] = []
    queries: tuple[tuple[Query, Words], ...] = (("answer", bundle.words), ("question", bundle.prompt_words))
    for (query, words), method in itertools.product(queries, bundle.methods):
        plain = method.removesuffix(VISION_SUFFIX)
        vision = method != plain
        if query == "question" and plain not in OF_PROMPT:
            continue
        if plain in BY_HEAD:
            maps += [] if vision else _by_head(name, bundle, plain, query)
            continue
        for residual in bundle.options.residuals if plain == "rollout" else (None,):
            values = _of_words(bundle.tokens(method, residual=residual, prompt=query == "question"), words)
            maps.append(ViewerMap(name, plain, values, residual=residual, vision=vision, query=query))
    return maps


def ask_models(
    shown: Mapping[str, Shown],
    *,
    tokenizer: Tokenizer,
    image: UInt8[np.ndarray, "h w 3"],
    prefix: str,
    answer: Sequence[int],
    config: SaliencyConfig,
    seq_len: int,
    other: str = "",
) -> dict[str, CaseBundle]:
    """Returns the bundle of every model over the same answer, with a rollout for each of RESIDUALS and its own first.

    Args:
        shown: name -> model.
        tokenizer: of the checkpoint.
        image: original pixels.
        prefix: the prompt, without the separator.
        answer: token ids that all models are made to write (answers.py).
        config: how rollout is made, and whether relevancy is.
        seq_len: text positions of the row; prompt and answer must fit.
        other: another answer that this one is held against; empty = none.
    """
    residuals = (config.residual, *(weight for weight in RESIDUALS if weight != config.residual))
    return {
        name: make_bundle(
            one.model,
            one.params,
            tokenizer=tokenizer,
            image=image,
            prefix=prefix,
            answer=answer,
            seq_len=seq_len,
            options=replace(bundle_options(config), residuals=residuals),
            other=other,
        )
        for name, one in shown.items()
    }


def viewer_case(
    shown: Mapping[str, Shown],
    bundles: Mapping[str, CaseBundle],
    *,
    records: Mapping[str, Record],
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> ViewerCase:
    """Returns the case of one question.

    Args:
        shown: name -> model, in the order of reading.
        bundles: of `ask_models`, all of the last model's answer.
        records: name -> what that model answered; its verdict is shown where there is a reference.
        image: original pixels.
        mask: of what the data set marks, in the size of the image.
        facts: (name, value) shown beside the image.
        notes: sentences that a reader must know.
    """
    record, first = records[list(shown)[-1]], next(iter(bundles.values()))
    last, prompt = (
        len(first.token_ids) - 1,
        enumerate(first.prompt_words),
    )  # which begins with BOS and ends with the separator
    return ViewerCase(
        question_id=record.question_id,
        question=record.question,
        reference=record.reference,
        image=image,
        words=[ViewerWord(text, len(at), end=first.ended and at == [last]) for text, at in first.words],
        prompt=[ViewerWord(text, len(at), end=i in (0, len(first.prompt_words) - 1)) for i, (text, at) in prompt],
        other=first.other,
        models=[_described(name, one.label, records.get(name)) for name, one in shown.items()],
        maps=[item for name, bundle in bundles.items() for item in bundle_maps(name, bundle)],
        mask=mask,
        facts=facts,
        notes=notes,
    )


def _described(name: str, label: str, record: Record | None) -> ViewerModel:
    """Returns a model with its answer, and with the verdict where there is a reference."""
    if record is None:
        return ViewerModel(name, label, "(not asked)")
    said, cut = record.predictions[0], record.ended[:1] == [False]
    if not record.reference:
        return ViewerModel(name, label, said, cut=cut)
    found = verdict(record, said)
    return ViewerModel(name, label, said, found.outcome, found.rule, cut=cut)
