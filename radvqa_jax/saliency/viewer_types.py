"""The types of the viewer's content: words, maps, models and cases."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from markupsafe import Markup

Query = Literal["answer", "question"]


class ViewerWord(NamedTuple):
    """A word of the answer or of the prompt."""

    text: str
    tokens: int  # number of its tokens over which a map is the mean
    end: bool = False  # whether it only begins or ends the text: it counts only if there is nothing else


class ViewerMap(NamedTuple):
    """The maps of all words of an answer or prompt by one method and model. None = does not apply, or all together."""

    model: str  # name of a ViewerModel
    method: str
    values: Float[np.ndarray, "W grid grid"]  # one map a word; not negative, unless the method is signed
    layer: int | None = None
    head: int | None = None
    residual: float | None = None
    vision: bool = False  # whether the map is composed with the vision tower's rollout
    prompt: Float[np.ndarray, "W U"] | None = None  # what each word read of each word of the prompt
    earlier: Float[np.ndarray, "W W"] | None = None  # … of each earlier word of the answer
    query: Query = "answer"  # the words whose responses these are: those of the answer, or those of the prompt


class ViewerModel(NamedTuple):
    """A model whose maps are shown, and its answer."""

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
    other: str = ""  # the answer with which the maps of `contrast` compare this one
    mask: Bool[np.ndarray, "h w"] | None = None  # of what the data set marks
    headline: Sequence[tuple[str, str]] = ()  # (name, value) shown large next to the answer of the last model
    facts: Sequence[tuple[str, str]] = ()  # (name, value) shown next to the image
    notes: Sequence[str] = ()  # notes for the reader, one sentence each


class WrittenCase(NamedTuple):
    """A case in the form that the page stores."""

    question: str
    json: Markup  # of viewer.case_json
