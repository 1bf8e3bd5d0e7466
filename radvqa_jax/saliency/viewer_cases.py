"""One question and its answer -> a case of the viewer: every method, layer and head, under one or several models."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency.bundle import CaseBundle, Words, make_bundle
from radvqa_jax.saliency.maps import pass_options
from radvqa_jax.saliency.methods import METHODS, VISION_SUFFIX, computed
from radvqa_jax.saliency.viewer_types import Query, ViewerCase, ViewerMap, ViewerModel, ViewerWord
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat

RESIDUALS = (0.1, 0.5, 0.9)  # of rollout, in addition to the configured one


class Shown(NamedTuple):
    """A model for the viewer: its label for a reader, the model, and its leaves."""

    label: str
    model: VisionLanguageModel
    params: Flat


def _of_words(tokens: Float[np.ndarray, "..."], words: Words) -> Float[np.ndarray, "..."]:
    """[words, …]: the mean over each word's tokens; the first axis of `tokens` is the answer's tokens."""
    return np.stack([tokens[positions].mean(axis=0) for _, positions in words])


def _choices(bundle: CaseBundle, method: str) -> list[dict[str, Any]]:
    """The maps that a method offers, as fields of a ViewerMap: all together first, then by layer, head or
    residual."""
    axes = METHODS[method].axes
    if axes == "residuals":
        return [{"residual": residual} for residual in bundle.options.residuals]
    if not axes:
        return [{}]
    depth, heads = bundle.image[method].shape[0], bundle.image[method].shape[1] if "heads" in axes else 0
    return [{}, *({"layer": i, "head": head} for i in range(depth) for head in (None, *range(heads)))]


def _read(bundle: CaseBundle, method: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The response of each word to each word of the prompt and to each earlier word of the answer."""
    text, prompt = _of_words(bundle.to_text(method, **chosen), bundle.words), len(bundle.prompt_ids)

    def by_word(values: Float[np.ndarray, "W X"], words: Words) -> Float[np.ndarray, "W Y"]:
        return np.stack([values[:, positions].sum(axis=1) for _, positions in words], axis=1)

    return {
        "prompt": by_word(text[:, :prompt], bundle.prompt_words),
        "earlier": by_word(text[:, prompt:], bundle.words),
    }


def _maps_of(name: str, bundle: CaseBundle, method: str, query: Query) -> Iterator[ViewerMap]:
    """Yields the maps of a method: all layers and heads together, each layer, each head, each residual.

    Single heads are not composed with the vision tower. Responses to the text come with the maps of values that add up,
    and for single heads only with raw attention, which keeps the page small.
    """
    record, words = METHODS[method], bundle.words if query == "answer" else bundle.prompt_words
    for choice in _choices(bundle, method):
        head = choice.get("head")
        chosen: dict[str, Any] = {
            "layers": () if choice.get("layer") is None else (choice["layer"],),
            "heads": () if head is None else (head,),
            "residual": choice.get("residual"),
        }
        adds_up = record.text and (record.whole or not record.signed) and (head is None or method == "raw")
        for vision in (False, True) if head is None else (False,):
            tokens = bundle.tokens(method + VISION_SUFFIX * vision, prompt=query == "question", **chosen)
            read = _read(bundle, method, chosen) if adds_up and query == "answer" and not vision else {}
            yield ViewerMap(name, method, _of_words(tokens, words), vision=vision, query=query, **choice, **read)


def bundle_maps(name: str, bundle: CaseBundle) -> list[ViewerMap]:
    """All maps of a bundle for the viewer: of the answer's words, then of the prompt's words as far as they exist."""
    answer = [item for method in bundle.image for item in _maps_of(name, bundle, method, "answer")]
    return answer + [item for method in bundle.prompt for item in _maps_of(name, bundle, method, "question")]


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
    """The bundle of every model over the same answer, with a rollout for each of RESIDUALS and its own first.

    Args:
        shown: name -> model.
        tokenizer: of the checkpoint.
        image: original pixels.
        prefix: the prompt, without the separator.
        answer: token ids that all models must write (answers.py).
        config: the maps and their options.
        seq_len: text positions of the row; prompt and answer must fit.
        other: another answer that this one is compared with; empty = none.
    """
    return {
        name: make_bundle(
            one.model,
            one.params,
            tokenizer=tokenizer,
            image=image,
            prefix=prefix,
            answer=answer,
            seq_len=seq_len,
            methods=computed(config),
            options=pass_options(config, residuals=RESIDUALS),
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
    headline: Sequence[tuple[str, str]] = (),
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> ViewerCase:
    """The case of one question.

    Args:
        shown: name -> model, in the order of reading.
        bundles: of `ask_models`, all of the last model's answer.
        records: name -> that model's answer; its verdict is shown if there is a reference.
        image: original pixels.
        mask: of the region that the data set marks, in the size of the image.
        headline: (name, value) shown large next to the answer, after its probability.
        facts: (name, value) shown next to the image.
        notes: sentences for the reader.
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
        headline=[*_probability(record), *headline],
        facts=facts,
        notes=notes,
    )


def _probability(record: Record) -> list[tuple[str, str]]:
    """The probability that the model gives to exactly this answer; nothing if the record has none."""
    return [("probability", f"{math.exp(min(0.0, logprob)):.2g}") for logprob in record.logprobs[:1]]


def _described(name: str, label: str, record: Record | None) -> ViewerModel:
    """A model with its answer, and with the verdict if there is a reference."""
    if record is None:
        return ViewerModel(name, label, "(not asked)")
    said, cut = record.predictions[0], record.ended[:1] == [False]
    if not record.reference:
        return ViewerModel(name, label, said, cut=cut)
    found = verdict(record, said)
    return ViewerModel(name, label, said, found.outcome, found.rule, cut=cut)
