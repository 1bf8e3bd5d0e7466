"""Measures how much of a map is on a marked region, compared with chance."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy import ndimage

BAND = 1 << 20  # pixels whose gradient is computed at a time


class Quality(NamedTuple):
    """A map against a mask; each figure comes with its chance level. All are shares in [0, 1].

    A map with values below zero is counted from its lowest value.
    """

    mass: float  # of the map inside the mask
    area: float  # of the image inside the mask: the mass of a uniform map, and its pr_auc
    hit: float  # 1 if the centre of the hottest patch is in the mask; the mean over patches that tie
    hit_chance: float  # patches whose centre is in the mask
    roc_auc: float  # probability that a random pixel inside has a larger value than one outside; chance is 0.5
    pr_auc: float  # average precision over pixels


class MarkedPatches(NamedTuple):
    """A mask as the patches of the model see it."""

    covered: Float[np.ndarray, "grid grid"]  # share of each patch inside the mask
    centres: Bool[np.ndarray, "grid grid"]  # whether the patch's centre is inside


def _overlap(size: int, grid: int) -> Float[np.ndarray, "grid size"]:
    """The share of patch i (row) that each of `size` pixels (column) covers; rows sum to one."""
    edge, pixel = np.arange(grid + 1) * size / grid, np.arange(size)
    low = np.maximum(edge[:-1, None], pixel[None])
    high = np.minimum(edge[1:, None], pixel[None] + 1)
    return np.maximum(high - low, 0) * grid / size


def coverage(mask: Bool[np.ndarray, "h w"], *, grid: int) -> Float[np.ndarray, "grid grid"]:
    """The share of each patch that the mask covers, exact for patches that end within a pixel."""
    covered = _overlap(mask.shape[0], grid) @ mask.astype(float) @ _overlap(mask.shape[1], grid).T
    return covered.round(12).clip(0, 1)  # sums of shares: a fully covered patch is 1 on every processor


def marked_patches(mask: Bool[np.ndarray, "h w"], *, grid: int) -> MarkedPatches:
    """A mask of the size of the original image, which the model sees squashed to a square, by patches."""
    row, column = (((np.arange(grid) + 0.5) * size / grid).astype(int) for size in mask.shape)
    return MarkedPatches(coverage(mask, grid=grid), mask[np.ix_(row, column)])


def areas_under_curves(values: Float[np.ndarray, " P"], inside: Float[np.ndarray, " P"]) -> tuple[float, float]:
    """(area under the ROC curve, average precision) of patches; `inside` is the share of each that is inside.

    A patch is a bag of pixels with one value, so these are the figures over pixels. Ties count half in the first and
    are one threshold in the second, as in scikit-learn's roc_auc_score and average_precision_score with weights.

    Raises:
        ValueError: if nothing or everything is inside.
    """
    positive, negative = inside.sum(), (1 - inside).sum()
    if not positive > 0 or not negative > 0:
        raise ValueError("Areas under curves need pixels inside and outside the mask.")
    _, level = np.unique(values, return_inverse=True)
    pos, neg = np.bincount(level, weights=inside), np.bincount(level, weights=1 - inside)
    below = np.cumsum(neg) - neg
    roc = float((pos * (below + neg / 2)).sum() / (positive * negative))
    true, found = np.cumsum(pos[::-1]), np.cumsum((pos + neg)[::-1])
    return roc, float((pos[::-1] * true / found).sum() / positive)


def from_lowest(maps: Float[np.ndarray, "*B grid grid"]) -> Float[np.ndarray, "*B grid grid"]:
    """The maps with values below zero counted from each map's lowest value, so that shares of a map are shares.

    The order of patches does not change, nor do the area under the ROC curve and the pointing game.
    """
    return maps - np.minimum(maps.min(axis=(-2, -1), keepdims=True), 0)


def measure(saliency: Float[np.ndarray, "grid grid"], target: MarkedPatches) -> Quality | None:
    """The figures of a map against the target; None if the target is nothing or everything, or the map is all zero,
    or has one value below zero everywhere.

    `hit` is the pointing game of Zhang et al. 2018 ("Top-down neural attention by excitation backprop") without a
    tolerance.
    """
    saliency = from_lowest(saliency.astype(float))
    area = float(target.covered.mean())
    if not 0 < area < 1 or not saliency.sum() > 0:
        return None
    roc_auc, pr_auc = areas_under_curves(saliency.ravel(), target.covered.ravel())
    return Quality(
        mass=float((saliency * target.covered).sum() / saliency.sum()),
        area=area,
        hit=float(target.centres[saliency == saliency.max()].mean()),
        hit_chance=float(target.centres.mean()),
        roc_auc=roc_auc,
        pr_auc=pr_auc,
    )


def quality(saliency: Float[np.ndarray, "grid grid"], mask: Bool[np.ndarray, "h w"]) -> Quality | None:
    """`measure` of a map against a mask of the size of the original image."""
    return measure(saliency, marked_patches(mask, grid=saliency.shape[0]))


def centre_prior(grid: int, *, width: float = 0.25) -> Float[np.ndarray, "grid grid"]:
    """A Gaussian around the middle of the image, independent of the image; `width` is its deviation as a share
    of the side. Photographs are centred, and so are lesions in a narrow field of view."""
    distance = (np.arange(grid) + 0.5) / grid - 0.5
    row = np.exp(-0.5 * (distance / width) ** 2)
    return np.outer(row, row)


def edge_map(image: Num[np.ndarray, "h w 3"], *, grid: int) -> Float[np.ndarray, "grid grid"]:
    """The mean size of the grey gradient (Sobel) in each patch of an image.

    An edge detector knows nothing of question or model, and passes for saliency (Adebayo et al. 2018, section 5).
    """
    height, width = image.shape[:2]
    down, across, found = _overlap(height, grid), _overlap(width, grid).T, np.zeros((grid, grid))
    band = max(1, BAND // width)
    for start in range(0, height, band):
        first, end = max(0, start - 1), min(height, start + band + 1)  # with a row above and below
        grey = image[first:end].mean(axis=-1, dtype=float)
        size = np.hypot(ndimage.sobel(grey, axis=0, mode="nearest"), ndimage.sobel(grey, axis=1, mode="nearest"))
        rows = slice(start, min(height, start + band))
        found += down[:, rows] @ (size[start - first :][: rows.stop - start] @ across)
    return found


def entropy(saliency: Float[np.ndarray, "grid grid"]) -> float:
    """The entropy of a map as a share of its maximum: 1 = uniform, 0 = all in one patch."""
    share = saliency.astype(float).ravel() / saliency.sum()
    share = share[share > 0]
    return float(-(share * np.log(share)).sum() / np.log(saliency.size))
