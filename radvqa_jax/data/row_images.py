"""The image of a row as pixels of the model's size; images that several rows share are kept in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from radvqa_jax.config import AugmentConfig, DataConfig
from radvqa_jax.data.augment import augment
from radvqa_jax.data.image import decode_image, resize_levels
from radvqa_jax.data.image_cache import ImageCache
from radvqa_jax.data.rows import Row, RowSource


class RowImages(NamedTuple):
    """Encoded images -> resized grey levels; those that several rows share are kept in memory."""

    resolution: int
    cache: ImageCache
    augment: AugmentConfig = AugmentConfig()

    def __call__(self, row: Row, *, name: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 [resolution, resolution, 3] of a row of `name`; augmented only if `rng` is given."""
        try:
            if rng is None or self.augment == AugmentConfig():
                return self.cache.get(row["image"], lambda data: resize_levels(decode_image(data), self.resolution))
            return resize_levels(augment(decode_image(row["image"]), self.augment, rng=rng), self.resolution)
        except ValueError as error:
            raise ValueError(f"{name}, question {row['question_id']!r}, image {row['image_id']!r}: {error}") from error


def _shared_images(sources: Sequence[RowSource]) -> bool:
    return any(len(set(rows.column("image_id"))) < len(rows) for rows in sources)


def make_row_images(sources: Sequence[RowSource], data: DataConfig, resolution: int) -> RowImages:
    """The maker of images; it keeps nothing if every row has its own image."""
    kept = data.image_cache_mb * 2**20 // max(1, data.workers) if _shared_images(sources) else 0
    return RowImages(resolution, ImageCache(kept), data.augment)
