"""Every saliency method as one record: its computation, unit, labels, and the maps that it offers.

A new method is one entry of METHODS; bundle, files, figures, viewer, quality report and the check of the configuration
read the record. Maps say what was read, not why an answer was given; they are not explanations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from radvqa_jax.config import QualityConfig, SaliencyConfig
from radvqa_jax.saliency.passes import Passes
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.rollout import RolloutOptions
from radvqa_jax.trees import nearest

VISION_SUFFIX = "_vision"  # of a method's name: composed with the vision tower's rollout

Axes = Literal["layers, heads", "layers", "residuals", ""]


class Found(NamedTuple):
    """The result of a method for a batch. `*lead` are the axes that `Method.axes` names: L N, L, R or nothing."""

    rows: Float[Any, "B *lead A S"]  # image tokens, then text unless S = P; row a is what predicted answer token a
    layers: Float[Any, "B L A S"] | None = None  # over all heads of a layer, where that is not their mean
    prompt: Float[Any, "B *lead T S"] | None = None  # row t is the state AT text position t


@dataclass(frozen=True)
class Method:
    """One way to make a map of what was read."""

    compute: Callable[[Passes], Found]
    label: str  # for a reader
    title: str  # of a panel of a figure
    unit: str  # of a patch's value
    about: str  # what a value means, in sentences
    axes: Axes = ""  # what can be chosen, or the mean be taken over
    share: bool = False  # values are shares of one, which may be summed and called percent
    signed: bool = False  # values may be below zero
    text: bool = True  # there are values of the text, too: question and earlier answer
    prompt: bool = False  # there are maps of the question's words, too
    whole: bool = False  # one map of the whole answer, the same for each of its words
    asked: bool = False  # costs more than the one pass: computed only if saliency.methods names it
    against: bool = False  # compares the answer with another one, and needs it
    many: bool = False  # costs many passes: not repeated for shuffled weights and shifted images
    captures: tuple[str, ...] = ()  # what the captured pass must keep for it


def _batch_first(rows: Float[Array, "..."]) -> Float[Array, "..."]:
    """[B L N A S] of [L B N A S], and [B R A S] of [R B A S]."""
    return jnp.moveaxis(rows, 1, 0)


def _raw(passes: Passes) -> Found:
    captured = passes.captured
    assert captured.text_probs is not None
    return Found(_batch_first(captured.answer_probs), prompt=_batch_first(captured.text_probs))


def _scores(passes: Passes) -> Found:
    scores = passes.captured.scores
    assert scores is not None
    # Places that a state may not read also have scores, without meaning.
    readable = jnp.arange(scores.shape[-1])[None, None] <= passes.captured.query[..., None]
    return Found(_batch_first(jnp.where(readable[None, :, None], scores, 0.0)))


def _value_norm(passes: Passes) -> Found:
    captured = passes.captured
    assert captured.head_norms is not None and captured.layer_norms is not None
    return Found(_batch_first(captured.head_norms), layers=_batch_first(captured.layer_norms))


def _rolled(passes: Passes) -> tuple[Float[Array, "B R A S"], Float[Array, "B R T S"]]:
    captured, p = passes.captured, passes.num_patches
    assert captured.rolled is not None
    rolled = _batch_first(captured.rolled)
    rows = jnp.take_along_axis(rolled, captured.query[:, None, :, None], axis=2)
    return rows, rolled[:, :, p:]


def _rollout(passes: Passes) -> Found:
    rows, prompt = _rolled(passes)
    return Found(rows, prompt=prompt)


def _less_mean(passes: Passes, rows: Float[Array, "B A S"], text: Float[Array, "B T S"]) -> Found:
    """The rows minus the mean response of all words, those of the question and of the answer."""
    words = passes.word_rows.astype(jnp.float32)
    mean = jnp.einsum("BT,BTS->BS", words / words.sum(axis=1, keepdims=True), text)[:, None]
    p = passes.num_patches
    return Found((rows - mean)[..., :p], prompt=(text - mean)[..., :p])


def _raw_centred(passes: Passes) -> Found:
    captured = passes.captured
    assert captured.text_probs is not None
    return _less_mean(passes, captured.answer_probs.mean(axis=(0, 2)), captured.text_probs.mean(axis=(0, 2)))


def _rollout_centred(passes: Passes) -> Found:
    rows, text = _rolled(passes)
    return _less_mean(passes, rows[:, 0], text[:, 0])


def _whole(values: Float[Array, " S"], passes: Passes) -> Found:
    return Found(jnp.broadcast_to(values, (1, *passes.captured.targets.shape[1:], len(values))))


METHODS: dict[str, Method] = {
    "raw": Method(
        _raw,
        "Raw attention",
        "raw attention",
        "share of attention",
        "How much of the attention of the state that wrote a word goes to each patch, in one head of one layer or in "
        "their mean.",
        axes="layers, heads",
        share=True,
        prompt=True,
    ),
    "raw_centred": Method(
        _raw_centred,
        "Raw attention less what every word reads",
        "raw less the mean word",
        "share of attention",
        "Raw attention, mean over layers and heads, less the mean over the words of question and answer: a patch that "
        "every word reads alike, a sink, is at zero. Below zero a patch is read less than by the mean word.",
        signed=True,
        text=False,
        prompt=True,
    ),
    "scores": Method(
        _scores,
        "Attention scores",
        "scores",
        "score",
        "Query times key over the root of the head's width, before the softmax. Only differences within one row mean "
        "something: the softmax does not change if a constant is added to a row.",
        axes="layers, heads",
        signed=True,
        asked=True,
        captures=("scores",),
    ),
    "value_norm": Method(
        _value_norm,
        "Attention x value norm",
        "value norm",
        "attention x value norm",
        "The length of what a patch's value adds to the state that wrote a word (Kobayashi et al. 2020). Heads may "
        "cancel each other in a layer.",
        axes="layers, heads",
        captures=("value_norm",),
    ),
    "rollout": Method(
        _rollout,
        "Attention rollout",
        "rollout",
        "share of rollout",
        "Attention followed through all layers, each mixed with the residual (Abnar and Zuidema 2020). Values, MLPs "
        "and norms are left out.",
        axes="residuals",
        share=True,
        prompt=True,
    ),
    "rollout_centred": Method(
        _rollout_centred,
        "Rollout less what every word reads",
        "rollout less the mean word",
        "share of rollout",
        "Rollout less the mean over the words of question and answer, as for raw attention; of the first residual.",
        signed=True,
        text=False,
        prompt=True,
    ),
    "relevancy": Method(
        lambda passes: Found(passes.relevance),
        "Gradient-weighted relevancy",
        "relevancy",
        "relevancy",
        "Attention weighted by the gradient of the word's own logit, followed through all layers (Chefer et al. 2021). "
        "It has no unit; what a state has of itself is left out.",
        asked=True,
    ),
    "occlusion": Method(
        lambda passes: Found(passes.occlusion),
        "Occlusion",
        "occlusion",
        "log-probability lost",
        "By how much a word's log-probability falls when the window around a patch is covered with the image's mean "
        "colour; below zero it rises. A covered image is no image that the model was trained on.",
        signed=True,
        text=False,
        asked=True,
        many=True,
    ),
    "knockout": Method(
        lambda passes: Found(passes.knockout),
        "Attention knockout",
        "knockout",
        "log-probability lost",
        "By how much a word's log-probability falls when the states that write the answer cannot read the window "
        "around a patch (Geva et al. 2023), in saliency.knockout_layers or all layers. The question's words still can.",
        signed=True,
        text=False,
        asked=True,
        many=True,
    ),
    "lens": Method(
        lambda passes: Found(passes.lens.target_probs),
        "Logit lens of image tokens",
        "logit lens",
        "probability of the word",
        "How likely the model's own output layer would write the word's token at each image token, after one layer or "
        "in the mean of all. It says what an image token holds, not whether it was read.",
        axes="layers",
        text=False,
        asked=True,
    ),
    "contrast": Method(
        lambda passes: _whole(passes.contrast(only_first=False).relevance, passes),
        "One answer against another",
        "against the other answer",
        "relevancy",
        "Relevancy of how much likelier this whole answer is than the other one, each under its own prefix, less "
        "relevancy of the reverse: above zero speaks for this answer, below zero for the other one. One map for all "
        "words; no unit.",
        signed=True,
        whole=True,
        against=True,
    ),
    "contrast_first": Method(
        lambda passes: _whole(passes.contrast(only_first=True).relevance, passes),
        "One answer against another, first token that differs",
        "against the other answer, first token",
        "relevancy",
        "The same of the first token alone in which the two answers differ: why they part there. One map for all "
        "words.",
        signed=True,
        whole=True,
        against=True,
    ),
}


def plain(name: str) -> str:
    """A method's name without the vision tower.

    >>> plain("rollout_vision"), plain("raw")
    ('rollout', 'raw')
    """
    return name.removesuffix(VISION_SUFFIX)


def check_methods(names: tuple[str, ...], *, field: str) -> None:
    """Refuses an unknown name of a method, and suggests the nearest one."""
    made = [name for name, method in METHODS.items() if not method.against]
    known = [*made, *(name + VISION_SUFFIX for name in made)]
    for name in names:
        if plain(name) in METHODS and METHODS[plain(name)].against:
            raise ValueError(f"{field} names {name!r}, which is always made if there is another answer. Leave it out.")
        if name not in known:
            raise ValueError(
                f"{field} names {name!r}, which is not a method.{nearest(name, known)} Known: {', '.join(made)}, each "
                f"also with {VISION_SUFFIX} at its end."
            )


def check_config(config: SaliencyConfig, *, depth: int) -> None:
    """Refuses settings that a model with `depth` layers cannot map, before anything is computed.

    Raises:
        ValueError: naming the field, for an unknown method, layer or setting.
    """
    check_methods(config.methods, field="saliency.methods")
    chosen(config.layers, depth, field="saliency.layers")
    chosen(config.knockout_layers, depth, field="saliency.knockout_layers")
    RolloutOptions((config.residual,), config.head_fusion, config.start_layer, config.discard).check(depth)


def measured(config: QualityConfig) -> tuple[str, ...]:
    """The methods that are measured: those of quality.methods, or all that do not need another answer."""
    wanted = {plain(name) for name in config.methods}
    return tuple(name for name, method in METHODS.items() if (name in wanted or not wanted) and not method.against)


def computed(config: SaliencyConfig) -> tuple[str, ...]:
    """The methods that a case is mapped with: all that one pass gives, and those that the configuration asks
    for. Those that need another answer come with it."""
    wanted = {plain(name) for name in config.methods}
    return tuple(name for name, method in METHODS.items() if name in wanted or not method.asked)
