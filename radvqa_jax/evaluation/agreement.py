"""Agreement of two raters on right or wrong: Cohen's kappa, with an interval by bootstrap over images."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from radvqa_jax.evaluation.intervals import LEVEL


class Agreement(NamedTuple):
    """The agreement of two readers."""

    kappa: float | None  # None: both give the same verdict throughout, so chance explains all agreement
    interval: tuple[float, float] | None  # 95 %; None: fewer than two images, or no resample with a kappa
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
    whole = tables.sum(axis=0)
    kappa, agree = float(_kappa(whole)), float(np.trace(whole) / len(a))
    interval = None
    if n_images > 1 and np.isfinite(kappa):
        # Images with the same table are exchangeable: how often each kind is drawn is all that matters.
        kinds, count = np.unique(tables.reshape(n_images, -1), axis=0, return_counts=True)
        draws = np.random.default_rng(seed).multinomial(n_images, count / n_images, size=resamples)
        drawn = _kappa((draws @ kinds).reshape(resamples, c, c))
        drawn = drawn[np.isfinite(drawn)]
        tail = (1 - LEVEL) / 2
        if len(drawn):
            low, high = np.quantile(drawn, [tail, 1 - tail])
            interval = (float(low), float(high))
    return Agreement(kappa if np.isfinite(kappa) else None, interval, agree, len(a), n_images)
