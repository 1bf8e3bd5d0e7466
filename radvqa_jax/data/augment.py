"""Random changes of training images. Off by default; `data.augment` has their kinds and strengths.

Only `flip_left_right` exchanges left and right: in radiology the side is part of the answer. Colours, scale and
position vary as much in daily practice (exposure, cropping, a tilted patient).
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

from radvqa_jax.config import AugmentConfig


def _crop(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """A part of the image; up to `share` of each side is cut off, at either end."""
    width, height = image.size
    cut_x, cut_y = rng.uniform(0, share, 2)
    left, top = rng.uniform(0, 1, 2) * (cut_x * width, cut_y * height)
    return image.crop((round(left), round(top), round(left + width * (1 - cut_x)), round(top + height * (1 - cut_y))))


def augment(
    image: UInt8[np.ndarray, "h w 3"], config: AugmentConfig, *, rng: np.random.Generator
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image with the configured changes, drawn from `rng`; unchanged under the default.

    The order is flip, rotation (corners become black), crop, brightness, contrast. A crop changes the size.
    """
    if config == AugmentConfig():
        return image
    changed = Image.fromarray(image)
    if config.flip_left_right and rng.random() < 0.5:
        changed = ImageOps.mirror(changed)
    if config.rotate:
        changed = changed.rotate(rng.uniform(-config.rotate, config.rotate), Image.Resampling.BILINEAR)
    if config.crop:
        changed = _crop(changed, config.crop, rng)
    for strength, enhancer in ((config.brightness, ImageEnhance.Brightness), (config.contrast, ImageEnhance.Contrast)):
        if strength:
            changed = enhancer(changed).enhance(1 + rng.uniform(-strength, strength))
    return np.asarray(changed)
