"""95 % intervals by bootstrap over images.

Questions about one image are not independent: an interval over questions would be too narrow. Here images are drawn
with all their questions, with replacement (cluster bootstrap: Davison & Hinkley 1997, §3.8), and the percentiles of the
resampled mean are the interval. With few images (below `FEW_IMAGES`), or few that differ from the rest (below
`FEW_ODD`; 59 of 60 right, for instance), resampling cannot produce outcomes that were not observed, and the interval
would be too narrow. Then the interval comes from the beta distribution (Clopper & Pearson 1934) over an effective
number of questions (Korn & Graubard 1998), or from Student's t. Letters of this module: n questions, m values of each,
k kinds of image, r resamples.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

METHOD = (  # how reports describe it
    "95 % percentile bootstrap over images; with fewer than 30 images, or fewer than ten that differ from the rest, "
    "Clopper and Pearson's over the effective number of questions, or Student's t for values other than right and wrong"
)
LEVEL = 0.95
PERCENTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
FEW_IMAGES = 30
FEW_ODD = 10  # images that differ from the commonest kind
_DECIMALS = 9  # values that are equal in them count as equal: an unsmoothed BLEU of 1e-232 is 0
_RARE = 5  # below it the images' own effect cannot be estimated: an image counts as one question
_CHUNK = 4_000_000  # drawn counts held at a time: 32 MB


class Estimate(NamedTuple):
    """A mean over questions, with its uncertainty."""

    value: float
    interval: tuple[float, float] | None  # None: fewer than two images
    n: int  # questions
    n_images: int


def _clusters(
    columns: Float[np.ndarray, "n m"], image_ids: Sequence[str] | np.ndarray
) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, " k"]]:
    """The distinct sums over an image's questions, and how many images have each of them."""
    _, image = np.unique(np.asarray(image_ids), return_inverse=True)
    sums = np.stack([np.bincount(image, weights=column) for column in columns.T], axis=1)
    kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
    return kinds, multiplicity.astype(np.float64)


def _resample(
    kinds: Float[np.ndarray, "k m"], multiplicity: Float[np.ndarray, " k"], *, resamples: int, seed: int
) -> Float[np.ndarray, "r m"]:
    """The sums of each resample.

    Images with equal sums are exchangeable, so a resample is drawn as the number of images of each kind. The
    distribution is that of drawing images one by one; the cost depends on the number of kinds, which is small for right
    and wrong.
    """
    rng = np.random.default_rng(seed)
    n_images = int(multiplicity.sum())
    step = max(1, _CHUNK // len(kinds))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([rng.multinomial(n_images, multiplicity / n_images, size=size) @ kinds for size in sizes])


def resampled_sums(
    columns: Float[np.ndarray, "n m"], image_ids: Sequence[str] | np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Float[np.ndarray, "r m"]:
    """The sum of each column over the questions of resampled images, for statistics that are not a plain mean."""
    kinds, multiplicity = _clusters(np.asarray(columns, dtype=np.float64), image_ids)
    return _resample(kinds, multiplicity, resamples=resamples, seed=seed)


def statistic_interval(
    columns: Float[np.ndarray, "n m"],
    image_ids: Sequence[str] | np.ndarray,
    statistic: Callable[[Float[np.ndarray, " m"]], float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % interval by bootstrap of a number that follows from the sums of columns, such as a ratio of two.

    None where the bootstrap is too narrow: with fewer than `FEW_IMAGES` images, with fewer than `FEW_ODD` that differ
    from the commonest, and if all resamples give the same number. For such numbers there is no exact interval. Images
    whose sums are all 0 do not count. Resamples without a finite number are left out.
    """
    kinds, multiplicity = _clusters(np.asarray(columns, dtype=np.float64), image_ids)
    telling = kinds.any(axis=1)
    shares = kinds[telling] / np.abs(kinds[telling]).sum(axis=1, keepdims=True)
    _, which = np.unique(shares.round(_DECIMALS), axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), weights=multiplicity[telling])
    if counts.sum() < FEW_IMAGES or counts.sum() - counts.max() < FEW_ODD:
        return None
    drawn = np.array([statistic(sums) for sums in _resample(kinds, multiplicity, resamples=resamples, seed=seed)])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or np.ptp(drawn) < 10**-_DECIMALS:
        return None
    low, high = np.quantile(drawn, PERCENTILES)
    return float(low), float(high)


def interval_kind(
    kinds: Float[np.ndarray, "k m"], multiplicity: Float[np.ndarray, " k"], *, binary: bool
) -> Literal["same", "rare", "beta", "t", "bootstrap"]:
    """Chooses the interval for images of these kinds (sum, number of questions); see the module's docstring.

    - `same`: every image has the same mean.
    - `rare`: fewer than five images differ from the commonest mean. Beta distribution, an image counts as one question.
    - `beta`: right and wrong on few images, or few that differ. Beta distribution over the effective number.
    - `t`: other values on few images. Student's t with the variance between images.
    - `bootstrap`: anything else.
    """
    means, which = np.unique(kinds[:, 0] / kinds[:, 1], return_inverse=True)
    counts = np.bincount(which, weights=multiplicity)
    n_images, odd = counts.sum(), counts.sum() - counts.max()
    if len(means) == 1:
        return "same"
    if odd < _RARE and n_images > odd + 2:
        return "rare"
    if binary and (odd < FEW_ODD or n_images < FEW_IMAGES):
        return "beta"
    return "t" if n_images < FEW_IMAGES else "bootstrap"


def _variance(kinds: Float[np.ndarray, "k m"], multiplicity: Float[np.ndarray, " k"]) -> float:
    """The variance of the mean over questions, from the differences between images (ratio estimator)."""
    sums, sizes, n_images = kinds[:, 0], kinds[:, 1], multiplicity.sum()
    total = multiplicity @ sizes
    residual = sums - sizes * (multiplicity @ sums) / total
    return float(multiplicity @ residual**2 / total**2 * n_images / (n_images - 1))


def _beta(
    kinds: Float[np.ndarray, "k m"],
    multiplicity: Float[np.ndarray, " k"],
    *,
    bounds: tuple[float, float],
    most: float,
) -> tuple[float, float]:
    """The Clopper-Pearson interval over the effective number of questions.

    That is the number of independent questions whose mean would vary as much, reduced for its estimation from few
    images (Student's t against the normal), and at most `most` and the number of all questions. For values that are
    not just right or wrong the binomial is the widest distribution of their mean.
    """
    low, high = bounds
    n, n_images = float(multiplicity @ kinds[:, 1]), float(multiplicity.sum())
    value = (float(multiplicity @ kinds[:, 0]) / n - low) / (high - low)
    variance = _variance(kinds, multiplicity) / (high - low) ** 2
    cost = float(stats.norm.ppf(PERCENTILES[1]) / stats.t.ppf(PERCENTILES[1], n_images - 1)) ** 2
    effective = min(n, most, value * (1 - value) / variance * cost) if variance > 0 else min(n, most)
    found = _clopper_pearson(value * effective, effective)
    return low + (high - low) * found[0], low + (high - low) * found[1]


def _clopper_pearson(count: float, n: float) -> tuple[float, float]:
    """The exact binomial interval; both numbers may be fractions."""
    low = float(stats.beta.ppf(PERCENTILES[0], count, n - count + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(PERCENTILES[1], count + 1, n - count)) if count < n else 1.0
    return low, high


def _rare_difference(
    values: Float[np.ndarray, " n"], n_images: int, *, bounds: tuple[float, float]
) -> tuple[float, float]:
    """An interval for a difference that few images show, from the exact intervals of its gains and losses.

    Each is a share of the largest gain or loss possible, so that the interval stays within `bounds`.
    """
    most_lost, most_gained = -bounds[0], bounds[1]
    share = n_images / len(values)
    gain = _clopper_pearson(float(values.clip(min=0).sum()) * share / most_gained, n_images)
    loss = _clopper_pearson(float(-values.clip(max=0).sum()) * share / most_lost, n_images)
    return most_gained * gain[0] - most_lost * loss[1], most_gained * gain[1] - most_lost * loss[0]


def mean_interval(
    values: Float[np.ndarray, " n"],
    image_ids: Sequence[str] | np.ndarray,
    *,
    weights: Float[np.ndarray, " n"] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The mean of `values` and its 95 % interval by bootstrap over images.

    With fewer than two images there is no interval. If every image has the same mean (all right, for instance), the
    exact binomial (Clopper-Pearson) bound over images is given: at least the share q = 0.025^(1 / n_images) of images
    is like those seen, and the rest may have any value in `bounds`. `interval_kind` gives the other cases.

    Args:
        values: one number a question, within `bounds`.
        image_ids: the image of each question.
        weights: positive, of each question in the mean; None weighs all alike. With them, an image counts in part where
            few images have most of the weight (Kish 1965: the square of the sum over the sum of squares).
        resamples: the number of bootstrap resamples.
        seed: of the draws; the same seed gives the same interval.
        bounds: the smallest and the largest value possible.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(image_ids) or not len(values):
        raise ValueError(f"An interval needs an image id for each value, and at least one; got {len(values)} values "
                         f"and {len(image_ids)} image ids.")  # fmt: skip
    if not (np.isfinite(values).all() and bounds[0] <= values.min() and values.max() <= bounds[1]):
        raise ValueError(f"Values must be finite and within {bounds}; got {values.min()} to {values.max()}.")
    sizes = np.ones_like(values) if weights is None else np.asarray(weights, np.float64) / np.mean(weights)
    value = float(np.average(values, weights=weights))
    values = np.clip(values.round(_DECIMALS), *bounds)
    kinds, multiplicity = _clusters(np.stack([values * sizes, sizes], axis=1), image_ids)
    n_images = int(multiplicity.sum())
    if n_images < 2:
        return Estimate(value, None, len(values), n_images)
    kind = interval_kind(kinds, multiplicity, binary=bounds == (0.0, 1.0) and bool(np.isin(values, (0, 1)).all()))
    # What the images count: fewer than they are where they have unequal weights.
    telling = (
        n_images if weights is None else float((multiplicity @ kinds[:, 1]) ** 2 / (multiplicity @ kinds[:, 1] ** 2))
    )
    if kind == "same":
        share = PERCENTILES[0] ** (1 / telling)
        low, high = (share * value + (1 - share) * bound for bound in bounds)
    elif kind == "rare" and bounds[0] < 0:
        low, high = _rare_difference(values, n_images, bounds=bounds)
    elif kind in ("rare", "beta"):
        low, high = _beta(kinds, multiplicity, bounds=bounds, most=telling if kind == "rare" else np.inf)
    elif kind == "t":
        reach = float(stats.t.ppf(PERCENTILES[1], n_images - 1)) * _variance(kinds, multiplicity) ** 0.5
        low, high = max(bounds[0], value - reach), min(bounds[1], value + reach)
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
    """The mean of a - b over the same questions and its 95 % interval; a and b are within [0, 1].

    The two are resampled together, so that images that are hard for both do not widen the interval.
    """
    if len(a) != len(b):
        raise ValueError(f"A paired difference needs two values for each question; got {len(a)} and {len(b)}.")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return mean_interval(difference, image_ids, resamples=resamples, seed=seed, bounds=(-1.0, 1.0))
