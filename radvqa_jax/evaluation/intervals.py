"""95 % intervals by bootstrap over images.

Questions about one image are not independent: an interval over questions would be too narrow. Here an image with all
its questions is drawn, with replacement (cluster bootstrap: Davison & Hinkley 1997, §3.8), and the percentiles of the
resampled mean are the interval. Letters of this module: n questions, m values of each, k kinds of image, r resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
PERCENTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_CHUNK = 4_000_000  # drawn counts held at a time: 32 MB


class Estimate(NamedTuple):
    """A mean over questions, and how sure it is."""

    value: float
    interval: tuple[float, float] | None  # None: fewer than two images
    n: int  # questions
    n_images: int


def _clusters(
    columns: Float[np.ndarray, "n m"], image_ids: Sequence[str] | np.ndarray
) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, " k"]]:
    """Returns the distinct sums over an image's questions, and how many images have each of them."""
    _, image = np.unique(np.asarray(image_ids), return_inverse=True)
    sums = np.stack([np.bincount(image, weights=column) for column in columns.T], axis=1)
    kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
    return kinds, multiplicity.astype(np.float64)


def _resample(
    kinds: Float[np.ndarray, "k m"], multiplicity: Float[np.ndarray, " k"], *, resamples: int, seed: int
) -> Float[np.ndarray, "r m"]:
    """Returns the sums of each resample.

    Images with equal sums are exchangeable, so a resample is drawn as how often each kind of image occurs. The
    distribution is that of drawing images one by one; the cost depends on the kinds, which are few for right and wrong.
    """
    rng = np.random.default_rng(seed)
    n_images = int(multiplicity.sum())
    step = max(1, _CHUNK // len(kinds))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([rng.multinomial(n_images, multiplicity / n_images, size=size) @ kinds for size in sizes])


def resampled_sums(
    columns: Float[np.ndarray, "n m"], image_ids: Sequence[str] | np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Float[np.ndarray, "r m"]:
    """Returns the sum of each column over the questions of resampled images, for statistics that are no plain mean.

    A ratio of two columns' sums, or a corpus BLEU from its counts, gets its interval from the percentiles of what the
    sums give.
    """
    kinds, multiplicity = _clusters(np.asarray(columns, dtype=np.float64), image_ids)
    return _resample(kinds, multiplicity, resamples=resamples, seed=seed)


def mean_interval(
    values: Float[np.ndarray, " n"],
    image_ids: Sequence[str] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Returns the mean of `values` and its 95 % interval by bootstrap over images.

    With fewer than two images there is no interval. If every image has the same mean (all right, for instance), the
    bootstrap has no width; then the exact binomial (Clopper-Pearson) bound over images is given: at least the share
    q = 0.025^(1 / n_images) of images is like those seen, and the rest may be anything in `bounds`. With few images
    (below about 20) a percentile interval is somewhat too narrow; n_images stands beside it for that reason.

    Args:
        values: one number a question, within `bounds`.
        image_ids: the image of each question.
        resamples: how many times images are drawn.
        seed: of the draws; the same seed gives the same interval.
        bounds: the smallest and the largest value possible.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(image_ids) or not len(values):
        raise ValueError(f"An interval needs as many image ids as values, and one at least; got {len(values)} values "
                         f"and {len(image_ids)} image ids.")  # fmt: skip
    if not (np.isfinite(values).all() and bounds[0] <= values.min() and values.max() <= bounds[1]):
        raise ValueError(f"Values must be finite and within {bounds}; got {values.min()} to {values.max()}.")
    kinds, multiplicity = _clusters(np.stack([values, np.ones_like(values)], axis=1), image_ids)
    value, n_images = float(values.mean()), int(multiplicity.sum())
    if n_images < 2:
        return Estimate(value, None, len(values), n_images)
    if np.ptp(kinds[:, 0] / kinds[:, 1]) == 0:
        share = PERCENTILES[0] ** (1 / n_images)
        low, high = (share * value + (1 - share) * bound for bound in bounds)
    else:
        totals = _resample(kinds, multiplicity, resamples=resamples, seed=seed)
        low, high = np.quantile(totals[:, 0] / totals[:, 1], PERCENTILES)
    return Estimate(value, (float(low), float(high)), len(values), n_images)


def paired_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    image_ids: Sequence[str] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Returns the mean of a - b over the same questions and its 95 % interval; a and b are within [0, 1].

    The two are resampled together: what makes an image hard for both does not widen the interval.
    """
    if len(a) != len(b):
        raise ValueError(f"A paired difference needs two values a question; got {len(a)} and {len(b)}.")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return mean_interval(difference, image_ids, resamples=resamples, seed=seed, bounds=(-1.0, 1.0))
