"""Cases for the viewer's tests: a phantom, and maps whose every number is known."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from radvqa_jax.saliency.viewer_types import ViewerCase, ViewerMap, ViewerModel, ViewerWord
from tfds_builders.phantom_rad.attributes import VIEWS, Attributes
from tfds_builders.phantom_rad.render import render_case

GRID, LAYERS, HEADS = 8, 4, 4
WORDS = [ViewerWord("left", 1), ViewerWord("upper", 2), ViewerWord("lung", 1), ViewerWord("</s>", 1, end=True)]
PROMPT = [
    ViewerWord("<bos>", 1, end=True),
    ViewerWord("Where", 1),
    ViewerWord("nodule?", 2),
    ViewerWord("\n", 1, end=True),
]
OTHER = "right lung"
MODELS = [
    ViewerModel("base", "before", "a square", "incorrect", "whole answer"),
    ViewerModel("stage2", "after stage 2", "left upper lung", "correct", "whole answer"),
]
HOSTILE = "</script><img src=x onerror=\"document.title='pwned'\"><!-- & \u2028 {{ 7 * 7 }} <b>bold</b>"


def phantom() -> Any:
    """A rendered chest radiograph with a lesion."""
    view = next(view for view in VIEWS if view.modality == "X-ray")
    attributes = Attributes(view=view, finding=view.findings[0], side="left", size="large")
    return render_case(np.random.default_rng(7), attributes)


def bump(rng: np.random.Generator, grid: int, row: float, column: float, *, width: float) -> np.ndarray:
    """A spot on a slightly uneven background; the sum is below one, as for attention."""
    i, j = np.mgrid[:grid, :grid] + 0.5
    spot = np.exp(-((i / grid - row) ** 2 + (j / grid - column) ** 2) / (2 * width**2))
    values = spot + 0.15 * rng.random((grid, grid))
    return (values / values.sum() * rng.uniform(0.2, 0.7)).astype(np.float32)


def make_maps(words: int, *, grid: int = GRID, layers: int = LAYERS, heads: int = HEADS) -> list[ViewerMap]:
    """Raw maps by layer and head, their means, and rollouts with and without the vision tower."""
    rng = np.random.default_rng(3)
    maps = []
    for model, width in (("base", 0.35), ("stage2", 0.09)):
        shape = (layers, heads, words)
        spots = [
            bump(rng, grid, rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75), width=width) for _ in np.ndindex(shape)
        ]
        values = np.stack(spots).reshape(*shape, grid, grid)
        maps.append(ViewerMap(model, "raw", values.mean(axis=(0, 1))))
        for layer in range(layers):
            maps.append(ViewerMap(model, "raw", values[layer].mean(axis=0), layer=layer))
            maps += [ViewerMap(model, "raw", values[layer, h], layer=layer, head=h) for h in range(heads)]
        for residual in (0.1, 0.5):
            for vision in (False, True):
                maps.append(
                    ViewerMap(model, "rollout", values.mean(axis=(0, 1)) * residual, None, None, residual, vision)
                )
        maps.append(ViewerMap(model, "relevancy", 7 * values[0].mean(axis=0)))
        # One answer has its map where the first layer looks, the other where the last one does.
        maps.append(ViewerMap(model, "contrast", values[0].mean(axis=0) - values[-1].mean(axis=0)))
        maps += question_maps(model, rng, grid=grid, layers=layers, heads=heads)
    return maps


def question_maps(model: str, rng: np.random.Generator, *, grid: int, layers: int, heads: int) -> Iterator[ViewerMap]:
    """Yields raw maps of the question's words by layer and head, their means, and a rollout."""
    shape = (layers, heads, len(PROMPT), grid, grid)
    values = (rng.random(shape) / grid**2).astype(np.float32)
    question: dict[str, Any] = {"query": "question"}
    yield ViewerMap(model, "raw", values.mean(axis=(0, 1)), **question)
    for layer in range(layers):
        yield ViewerMap(model, "raw", values[layer].mean(axis=0), layer=layer, **question)
        yield from (ViewerMap(model, "raw", values[layer, h], layer=layer, head=h, **question) for h in range(heads))
    yield ViewerMap(model, "rollout", values[0].mean(axis=0), residual=0.5, **question)


def make_case(**changes: Any) -> ViewerCase:
    """A case of the phantom with some fields changed."""
    drawn = phantom()
    fields: dict[str, Any] = {
        "question_id": "phantom-7",
        "question": "Where is the nodule?",
        "reference": "left upper lung",
        "image": np.repeat(drawn.image[..., None], 3, axis=-1),
        "words": WORDS,
        "models": MODELS,
        "maps": make_maps(len(WORDS)),
        "prompt": PROMPT,
        "other": OTHER,
        "mask": drawn.mask,
        "headline": [("probability", "0.83")],
        "facts": [("modality", "X-ray")],
    }
    return ViewerCase(**(fields | changes))
