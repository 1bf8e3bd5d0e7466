"""The attention maps of one answer, for notebooks: what the model read, on the original pixels. Not an explanation."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from radvqa_jax.api_checks import check_mask, check_option, home_path, integers_of, numbers_of, texts_of
from radvqa_jax.api_values import Answer
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.files import atomic_write
from radvqa_jax.prompts import caption_prefix, one_line, vqa_prefix
from radvqa_jax.saliency.answers import AnswerTokens, written_tokens
from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.figures import FORMATS, Format, Scale, case_figure, heads_figure, save_figure
from radvqa_jax.saliency.methods import METHODS, plain
from radvqa_jax.saliency.overlay import Interpolation, robust_limits, to_pixels
from radvqa_jax.saliency.quality import Quality, quality
from radvqa_jax.trees import nearest


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows, and that `save` writes as PNG or PDF."""

    figure: Figure

    def save(self, path: str | Path) -> Path:
        """Writes the figure, whole or not at all, as PNG or PDF by the suffix of `path`; returns the path."""
        place = home_path(path, "path")
        kind: Format | None = next((kind for kind in FORMATS if place.suffix.lower() == f".{kind}"), None)
        if kind is None:
            raise ValueError(f"{place} must end in .png or .pdf.")
        with atomic_write(place, "wb") as file:
            file.write(save_figure(self.figure, kind))
        return place

    def _repr_png_(self) -> bytes:
        return save_figure(self.figure, "png")


@dataclass(frozen=True)
class Maps:
    """All maps of one question and answer; `Model.saliency` makes them."""

    bundle: CaseBundle  # the maps of all layers and heads (saliency/bundle.py)
    image: UInt8[np.ndarray, "h w 3"]  # original pixels
    question: str
    notes: Sequence[str] = ()
    layers: tuple[int, ...] = ()  # of methods by layer, the layers to average over if none are named; empty = all

    def __repr__(self) -> str:
        return f"Maps({self.bundle.answer!r}, methods={self.methods}, words={self.words})"

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods that `map` and `show` accept."""
        return self.bundle.methods

    @property
    def words(self) -> list[str]:
        """The words of the answer, in order."""
        return [word for word, _ in self.bundle.words]

    @property
    def prompt_words(self) -> list[str]:
        """The words that the model read before the answer, in order."""
        return [word for word, _ in self.bundle.prompt_words]

    def map(
        self,
        method: str = "rollout",
        *,
        word: str = "",
        layers: Sequence[int] = (),
        heads: Sequence[int] = (),
        residual: float | None = None,
    ) -> Float[np.ndarray, "grid grid"]:
        """The map of a word: one value per image patch.

        Args:
            method: one of `methods`.
            word: a word of the answer: the map of the states that predicted it; otherwise a word of the question: the
                map of the states at it. Of a word that occurs twice, its first place. Empty = the mean over the whole
                answer, without its end.
            layers: for `raw`, `scores`, `value_norm` and `lens`, the layers to average over; empty = those of
                `saliency.layers`, which are all unless the settings of `load` have others.
            heads: for `raw`, `scores` and `value_norm`, the heads to average over; empty = all.
            residual: for `rollout`, the residual weight, if there are several.

        Raises:
            ValueError: for an unknown method, word, layer, head or residual, and for layers, heads or a residual that
                the method does not have; it names the known ones.
        """
        positions, prompt = self._tokens(word)
        layers, heads = integers_of(layers, "layers"), integers_of(heads, "heads")
        if not layers and method in self.methods and "layers" in METHODS[plain(method)].axes:
            layers = self.layers
        values = self.bundle.tokens(method, layers=layers, heads=heads, residual=residual, prompt=prompt)
        return values[positions].mean(axis=0)

    def on_pixels(
        self, method: str = "rollout", *, word: str = "", interpolation: Interpolation = "nearest"
    ) -> Float[np.ndarray, "h w"]:
        """The map of `map`, enlarged to the size of the original image."""
        check_option(interpolation, Interpolation, "interpolation")
        values = self.map(method, word=word)
        return to_pixels(values, *self.image.shape[:2], interpolation=interpolation)

    def show(
        self,
        *,
        word: str | Sequence[str] = "",
        method: str | Sequence[str] = "rollout",
        residual: float | Sequence[float] | None = None,
        scale: Scale = "relative",
        mask: Bool[np.ndarray, "h w"] | None = None,
    ) -> Picture:
        """Shows the original image, and the maps over it: one panel for each method, word and residual.

        Args:
            word: one or several words; empty = the whole answer.
            method: one or several of `methods`.
            residual: for `rollout`, one or several residual weights; other methods have none and refuse it.
            scale: relative = each map has its own scale; absolute = one scale for all, for maps of the same unit. A
                scale begins at 0; if there are negative values, it is symmetric around 0. The hottest patches may be
                beyond its end, which then reads ≥.
            mask: a mask at the size of the original image, to outline on every map.
        """
        check_option(scale, Scale, "scale")
        if mask is not None:
            check_mask(mask, *self.image.shape[:2])
        words, methods = texts_of(word, "word"), texts_of(method, "method")
        residuals = [None] if residual is None else numbers_of(residual, "residual")
        maps, titles = [], []
        for one, of, weight in itertools.product(methods, words, residuals):
            maps.append(self.map(one, word=of, residual=weight))
            suffix = f", residual {weight}" if weight is not None else ""
            titles.append(one + (f" of {of!r}" if of else "") + suffix)
        together = robust_limits(*maps, signed=any((values < 0).any() for values in maps))
        own = [robust_limits(values, signed=bool((values < 0).any())) for values in maps]
        figure = case_figure(
            self.image,
            [None, *maps],
            ["image", *titles],
            limits=[None, *(own if scale == "relative" else [together] * len(maps))],
            outline=mask,
            columns=min(4, 1 + len(maps)),
            question=self.question,
            answer=self.bundle.answer,
            note=" ".join([*self.notes, "The maps show what was read; they do not explain the answer."]),
        )
        return Picture(figure)

    def show_heads(self, method: str = "raw", *, word: str = "", scale: Scale = "absolute") -> Picture:
        """Shows the map of every layer (row) and head (column).

        Args:
            method: a method with layers and heads: `raw`, `scores` or `value_norm`.
            word: as for `map`.
            scale: absolute = one scale for all; relative = each panel from 0 to its own largest value. Of a method with
                values below zero, a scale is symmetric around 0.
        """
        check_option(scale, Scale, "scale")
        self.map(method, word=word, layers=[0], heads=[0])  # refuses a method that has none
        depth, count = self.bundle.image[plain(method)].shape[:2]
        maps = [
            [self.map(method, word=word, layers=[layer], heads=[head]) for head in range(count)]
            for layer in range(depth)
        ]
        unit = "share of attention" if method == "raw" else method
        return Picture(
            heads_figure(
                self.image, np.array(maps), question=self.question, answer=self.bundle.answer, scale=scale, unit=unit
            )
        )

    def quality(self, mask: Bool[np.ndarray, "h w"], method: str = "rollout", *, word: str = "") -> Quality | None:
        """Measures how well a map matches a mask, each number with its chance level; None for an empty map.

        A map with values below zero is counted from its lowest value, as mode=saliency_quality does.

        Args:
            mask: a mask at the size of the original image.
            method: as for `map`.
            word: as for `map`.
        """
        check_mask(mask, *self.image.shape[:2])
        return quality(self.map(method, word=word), mask)

    def _tokens(self, word: str) -> tuple[list[int], bool]:
        """(positions of the word's tokens, whether they are in the prompt)."""
        if not isinstance(word, str):
            raise ValueError(f"word must be text; got {word!r} ({type(word).__name__}).")
        if not word:
            return list(range(max(1, len(self.bundle.token_ids) - self.bundle.ended))), False
        for words, prompt in ((self.bundle.words, False), (self.bundle.prompt_words, True)):
            same = [positions for text, positions in words if text == word]
            same += [positions for text, positions in words if _is_alike(text, word)]
            if same:
                return list(same[0]), prompt
        known = [text for text in (*self.words, *self.prompt_words) if not _is_end(text)]
        near = nearest(word, known)
        raise ValueError(f"Neither answer nor question has the word {word!r}.{near} The words are: {', '.join(known)}.")


def tokens_to_map(
    answer: Answer, *, forced: str, tokenizer: Tokenizer, template: str, caption_prompt: str = ""
) -> AnswerTokens:
    """The tokens that a model is forced to write, and notes: the answer may be that of another model.

    Args:
        answer: of any model.
        forced: a text to write instead of the answer; empty = the answer.
        tokenizer: of the model that is forced.
        template: its data.prompt.
        caption_prompt: its prompt for captions; empty = "caption en".
    """
    caption = one_line(caption_prompt) or caption_prefix()
    own = vqa_prefix(answer.question, template=template) if answer.question else caption
    written = written_tokens(answer.text, answer.token_ids, tokenizer, of="answer")
    ids, notes = AnswerTokens(tokenizer.encode(one_line(forced), eos=True), []) if forced else written
    if answer.prompt != own:
        notes = [*notes, f"The model read the prompt {answer.prompt!r} of the answer; its own is {own!r}."]
    return AnswerTokens(ids, notes)


def _is_alike(text: str, word: str) -> bool:
    """Whether a word differs from the one asked for in case and punctuation only; BOS and EOS are like no word."""
    plain = [re.sub(r"[^\w]", "", each.casefold()) for each in (text, word)]
    return plain[0] == plain[1] != "" and not _is_end(text) and not _is_end(word)


def _is_end(text: str) -> bool:
    return bool(re.fullmatch(r"</?\w+>|\s*", text))
