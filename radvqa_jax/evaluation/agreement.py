"""Agreement of two raters on right or wrong: Cohen's kappa, with an interval over images.

The interval is that of a bootstrap over images. With few images, or few on which the raters differ, resampling cannot
produce disagreements that were not observed. Then it is the interval of the share of equal verdicts (intervals.py), as
kappa at the chance agreement that was observed. In simulations with 5 to 80 images it contains kappa at least as often
as it says.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from radvqa_jax.evaluation.intervals import FEW_IMAGES, FEW_ODD, PERCENTILES, mean_interval


class Agreement(NamedTuple):
    """The agreement of two readers."""

    kappa: float | None  # None: both give the same verdict throughout, so chance explains all agreement
    interval: tuple[float, float] | None  # 95 %; None: fewer than two images, or no kappa
    agree: float  # share of equal verdicts
    n: int
    n_images: int

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values."""
        return self._asdict() | {"interval": None if self.interval is None else list(self.interval)}


def _kappa(table: Float[np.ndarray, "... c c"]) -> Float[np.ndarray, "..."]:
    """Kappa of each table of counts (row: first reader); NaN where it is undefined."""
    n = table.sum(axis=(-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / n
    expected = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def _few(equal: Float[np.ndarray, " n"], image: np.ndarray) -> bool:
    """Whether there are too few images, or too few that differ in the share of equal verdicts, for a bootstrap."""
    shares = np.bincount(image, weights=equal) / np.bincount(image)
    _, counts = np.unique(shares, return_counts=True)
    return len(shares) < FEW_IMAGES or len(shares) - int(counts.max()) < FEW_ODD


def _interval(
    tables: Float[np.ndarray, "i c c"], equal: Float[np.ndarray, " n"], image: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float] | None:
    """The 95 % interval of a kappa that is defined; None with one image.

    Args:
        tables: the counts of each image.
        equal: 1 for each answer with equal verdicts.
        image: the number of its image.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.
    """
    if len(tables) < 2:
        return None
    if _few(equal, image):
        estimate, whole = mean_interval(equal, image, resamples=resamples, seed=seed), tables.sum(axis=0)
        expected = float(whole.sum(axis=1) @ whole.sum(axis=0) / whole.sum() ** 2)
        low, high = ((bound - expected) / (1 - expected) for bound in estimate.interval or (0.0, 1.0))
        return max(-1.0, low), high
    # Images with the same table are exchangeable: how often each kind is drawn is all that matters.
    kinds, count = np.unique(tables.reshape(len(tables), -1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(tables), count / len(tables), size=resamples)
    drawn = _kappa((draws @ kinds).reshape(-1, *tables.shape[1:]))
    low, high = np.nanquantile(drawn, PERCENTILES)
    return float(low), float(high)


def cohen_kappa(
    a: Sequence[Hashable], b: Sequence[Hashable], image_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> Agreement | None:
    """Cohen's kappa (Cohen 1960) of two readers of the same answers; None if there is no answer.

    kappa = (observed - expected) / (1 - expected), where expected is what the readers' own frequencies would give.
    Resamples in which kappa is undefined are left out of the interval.
    """
    if not len(a) == len(b) == len(image_ids):
        raise ValueError(
            f"Both readers and the image ids must have the same length; got {len(a)}, {len(b)} and {len(image_ids)}."
        )
    if not a:
        return None
    categories = {value: index for index, value in enumerate(dict.fromkeys([*a, *b]))}
    first, second = (np.array([categories[value] for value in values]) for values in (a, b))
    _, image = np.unique(np.asarray(image_ids, dtype=str), return_inverse=True)
    c, n_images = len(categories), int(image.max()) + 1
    tables = np.zeros((n_images, c, c))
    np.add.at(tables, (image, first, second), 1)
    equal = (first == second).astype(np.float64)
    kappa, agree = float(_kappa(tables.sum(axis=0))), float(equal.mean())
    if not np.isfinite(kappa):
        return Agreement(None, None, agree, len(a), n_images)
    interval = _interval(tables, equal, image, resamples=resamples, seed=seed)
    return Agreement(kappa, interval, agree, len(a), n_images)
