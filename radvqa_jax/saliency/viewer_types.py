"""What the viewer shows: words, maps, models and cases, and what it says of each method."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

Query = Literal["answer", "question"]


class Method(NamedTuple):
    """What the page says of a method."""

    label: str
    unit: str  # of a patch's value
    share: bool  # whether values are shares of one, which may be summed and called percent
    about: str
    signed: bool = False  # whether values may be below zero


METHODS = {
    "raw": Method(
        "Raw attention",
        "share of attention",
        True,
        "How much of the attention of the state that wrote a word lies on each patch, in one head of one layer or in "
        "their mean.",
    ),
    "value_norm": Method(
        "Attention x value norm",
        "norm",
        False,
        "The length of what a patch's value adds to the state that wrote a word (Kobayashi et al. 2020). Heads may "
        "cancel each other in a layer.",
    ),
    "rollout": Method(
        "Attention rollout",
        "share of rollout",
        True,
        "Attention followed through all layers, each mixed with the residual (Abnar and Zuidema 2020). Values, MLPs "
        "and norms are left out.",
    ),
    "relevancy": Method(
        "Gradient-weighted relevancy",
        "relevancy",
        False,
        "Attention weighted by the gradient of the word's own logit, followed through all layers (Chefer et al. 2021). "
        "It has no unit.",
    ),
    "contrast": Method(
        "One answer against another",
        "relevancy",
        False,
        "Relevancy of how far this word's logit is above that of the other answer's word, less relevancy of the "
        "reverse: above zero speaks for this answer, below zero for the other one. It has no unit.",
        signed=True,
    ),
}


class ViewerWord(NamedTuple):
    """A word of the answer or of the prompt."""

    text: str
    tokens: int  # how many of its tokens a map is the mean of
    end: bool = False  # whether it only begins or ends the text: it counts only if there is nothing else


class ViewerMap(NamedTuple):
    """The maps of all words of an answer or prompt by one method and model. None = does not apply, or all together."""

    model: str  # name of a ViewerModel
    method: str
    values: Float[np.ndarray, "W grid grid"]  # one map a word; not negative, unless the method is signed
    layer: int | None = None
    head: int | None = None
    residual: float | None = None
    vision: bool = False  # whether the map is carried on through the vision tower
    prompt: Float[np.ndarray, "W U"] | None = None  # what each word read of each word of the prompt
    query: Query = "answer"  # whose words read: those of the answer, or those of the prompt


class ViewerModel(NamedTuple):
    """A model whose maps are shown, and what it answered."""

    name: str
    label: str  # for a reader, such as "after stage 2"
    prediction: str
    outcome: str = ""  # correct, incorrect, unparsed, or empty without a reference
    rule: str = ""  # by which it was decided
    cut: bool = False  # whether its answer ran out of tokens before it ended


class ViewerCase(NamedTuple):
    """One question about one image. All maps are of the same answer, which every model was made to write."""

    question_id: str
    question: str
    reference: str  # empty = none
    image: UInt8[np.ndarray, "h w 3"]  # original pixels
    words: list[ViewerWord]
    models: list[ViewerModel]  # the last one is shown first
    maps: list[ViewerMap]
    prompt: Sequence[ViewerWord] = ()  # words of the prompt, for maps of them or that say what was read there
    other: str = ""  # the answer that the maps of `contrast` hold this one against
    mask: Bool[np.ndarray, "h w"] | None = None  # of what the data set marks
    facts: Sequence[tuple[str, str]] = ()  # (name, value) shown beside the image
    notes: Sequence[str] = ()  # what a reader must know, a sentence each
