"""How much of a map lies on a lesion, beside what chance would give."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Quality(NamedTuple):
    """A map against a mask; each figure has its chance level beside it. All are shares in [0, 1]."""

    mass: float  # of the map inside the mask
    area: float  # of the image inside the mask: the mass of a map that is the same everywhere
    hit: float  # 1 if the centre of the hottest patch is in the mask; the mean over patches that tie
    hit_chance: float  # patches whose centre is in the mask


def _overlap(size: int, grid: int) -> Float[np.ndarray, "grid size"]:
    """Returns which share of patch i (row) each of `size` pixels (column) covers; rows sum to one."""
    edge, pixel = np.arange(grid + 1) * size / grid, np.arange(size)
    low = np.maximum(edge[:-1, None], pixel[None])
    high = np.minimum(edge[1:, None], pixel[None] + 1)
    return np.maximum(high - low, 0) * grid / size


def coverage(mask: Bool[np.ndarray, "h w"], *, grid: int) -> Float[np.ndarray, "grid grid"]:
    """Returns the share of each patch that the mask covers, exact for patches that end within a pixel."""
    covered = _overlap(mask.shape[0], grid) @ mask.astype(float) @ _overlap(mask.shape[1], grid).T
    return covered.clip(0, 1)  # rounding


def quality(saliency: Float[np.ndarray, "grid grid"], mask: Bool[np.ndarray, "h w"]) -> Quality | None:
    """Returns how well a map finds the mask, or None if there is nothing to find or no map (all zero).

    The mask has the size of the original image, which the model sees squashed to a square of patches. `hit` is the
    pointing game of Zhang et al. 2018 ("Top-down neural attention by excitation backprop") without a tolerance.
    """
    if not mask.any() or not saliency.sum() > 0:
        return None
    grid = saliency.shape[0]
    covered = coverage(mask, grid=grid)
    row, column = (((np.arange(grid) + 0.5) * size / grid).astype(int) for size in mask.shape)
    centres = mask[np.ix_(row, column)]
    saliency = saliency.astype(float)
    return Quality(
        mass=float((saliency * covered).sum() / saliency.sum()),
        area=float(covered.mean()),
        hit=float(centres[saliency == saliency.max()].mean()),
        hit_chance=float(centres.mean()),
    )
