"""The attention maps of one answer, for a notebook: what was read, on the original pixels. Not an explanation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from radvqa_jax.files import atomic_write
from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.figures import FORMATS, Format, case_figure, save_figure
from radvqa_jax.saliency.overlay import Interpolation, to_pixels
from radvqa_jax.trees import nearest


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows, and that `save` writes as PNG or PDF."""

    figure: Figure

    def save(self, path: str | Path) -> Path:
        """Writes the figure, whole or not at all; the ending of `path` says whether as PNG or as PDF."""
        place = Path(path).expanduser()
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
    """Every map of one question and answer; made by `Model.saliency`."""

    bundle: CaseBundle  # all layers and heads, as saliency/bundle.py has them
    image: UInt8[np.ndarray, "h w 3"]  # original pixels
    question: str
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"Maps({self.bundle.answer!r}, methods={self.methods}, words={self.words})"

    @property
    def methods(self) -> tuple[str, ...]:
        """What `map` and `show` take as method."""
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
        """Returns what was read of each image patch: by the states that wrote `word`, or that stand at it.

        Args:
            method: one of `methods`.
            word: of the answer: the state that predicted it; else of the question: the state at it. Empty = the mean
                over the whole answer, without its end.
            layers: `raw` and `value_norm`: the mean over these; empty = all.
            heads: likewise.
            residual: `rollout`: which residual weight, if there are several.

        Raises:
            ValueError: naming what there is, for a method, word, layer or head that is not there.
        """
        positions, prompt = self._tokens(word)
        values = self.bundle.tokens(method, layers=layers, heads=heads, residual=residual, prompt=prompt)
        return values[positions].mean(axis=0)

    def on_pixels(
        self, method: str = "rollout", *, word: str = "", interpolation: Interpolation = "nearest"
    ) -> Float[np.ndarray, "h w"]:
        """Returns the map at the size of the original image; the values are those of `map`."""
        values = self.map(method, word=word)
        return to_pixels(values, *self.image.shape[:2], interpolation=interpolation)

    def show(self, *, word: str = "", method: str | Sequence[str] = "rollout") -> Picture:
        """Returns a picture of the original and of the map over it, one panel a method, each with its own scale."""
        methods = [method] if isinstance(method, str) else list(method)
        maps = [self.map(one, word=word) for one in methods]
        of = f" of {word!r}" if word else ""
        figure = case_figure(
            self.image,
            [None, *maps],
            ["image", *(f"{one}{of}" for one in methods)],
            question=self.question,
            answer=self.bundle.answer,
            note=" ".join([*self.notes, "The maps show what was read; they do not explain the answer."]),
        )
        return Picture(figure)

    def _tokens(self, word: str) -> tuple[list[int], bool]:
        """Returns (tokens of the word, whether they are of the prompt)."""
        if not word:
            inner = [at for text, positions in self.bundle.words for at in positions if not _is_end(text)]
            return inner or list(range(len(self.bundle.token_ids))), False
        for words, prompt in ((self.bundle.words, False), (self.bundle.prompt_words, True)):
            for text, positions in words:
                if _plain(text) == _plain(word):
                    return list(positions), prompt
        known = [text for text in (*self.words, *self.prompt_words) if not _is_end(text)]
        near = nearest(word, known)
        raise ValueError(f"Neither answer nor question has the word {word!r}.{near} There are: {', '.join(known)}.")


def _plain(text: str) -> str:
    return re.sub(r"[^\w]", "", text.casefold())


def _is_end(text: str) -> bool:
    return bool(re.fullmatch(r"<\w+>|\s*", text))
