"""Chosen patches of one case: the answer's loss if they are covered, or if it cannot read them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency.intervene import knockout, lost_with, occlusion
from radvqa_jax.saliency.quality import coverage
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

MARKED = "marked"  # names the patches that the mask covers by half or more
DRAWS = 5  # random choices of as many other patches


def parse_patches(text: str, *, field: str = "saliency.patches") -> tuple[int, int, int, int]:
    """The corners of a rectangle of patches, row, column, row, column, counted from 1 as in the viewer.

    >>> parse_patches("2,3,4,3")
    (2, 3, 4, 3)
    """
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"{field} holds {text!r}; give {MARKED!r}, or a rectangle of patches as 'row,column,row,column', counted "
            "from 1 at the upper left."
        )
    top, left, bottom, right = map(int, parts)
    if top > bottom or left > right:
        raise ValueError(f"{field} holds {text!r}, whose second corner is above or left of the first. Swap them.")
    return top, left, bottom, right


def check_patches(config: SaliencyConfig, *, grid: int) -> None:
    """Raises ValueError, naming the field, for chosen patches that a grid does not have."""
    for text in config.patches:
        if text != MARKED and max(parse_patches(text)) > grid:
            raise ValueError(f"saliency.patches holds {text!r}, but the model has {grid} x {grid} patches.")


def find_patches(text: str, *, grid: int, mask: Bool[np.ndarray, "h w"] | None) -> Bool[np.ndarray, " P"] | None:
    """The chosen patches; None for `marked` in a case without a marked region."""
    if text != MARKED:
        top, left, bottom, right = parse_patches(text)
        inside = np.zeros((grid, grid), bool)
        inside[top - 1 : bottom, left - 1 : right] = True
        return inside.ravel()
    if mask is None or not mask.any():
        return None
    covered = coverage(mask, grid=grid).ravel()
    return covered >= min(0.5, covered.max())


def lose_chosen(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    *,
    config: SaliencyConfig,
    mask: Bool[np.ndarray, "h w"] | None,
    seed: int,
) -> list[tuple[str, str]]:
    """(intervention, the answer's loss) for each entry of config.patches, in words for a reader.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: one training row.
        config: patches, and the layers of a knockout.
        mask: of the region that the data set marks.
        seed: of the random choices to compare with.
    """
    grid, rows = round(model.variant.num_patches**0.5), list[tuple[str, str]]()
    if not config.patches:
        return rows
    effects = {
        "covered": occlusion(model, params, batch),
        "not readable": knockout(model, params, batch, layers=config.knockout_layers),
    }
    lengths: Sequence[int] = batch.mask_loss.sum(axis=1).tolist()
    for text in config.patches:
        patches = find_patches(text, grid=grid, mask=mask)
        if patches is None:
            rows.append((f"patches {text}", "none in this case"))
            continue
        for name, effect in effects.items():
            (lost,) = lost_with(effect, patches[None], lengths, draws=DRAWS, seed=seed)
            beside = "" if lost.elsewhere is None else f"; as many elsewhere {-lost.elsewhere:+.3f}"
            what = f"patches {text} {name}"
            rows.append((what, f"log p of a token {-lost.chosen:+.3f} ({lost.patches} patches{beside})"))
    return rows
