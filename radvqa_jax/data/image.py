"""Image bytes -> uint8 pixels -> the model's input. One path for training, evaluation and saliency."""

import io

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from tfds_builders.images import open_image, read_image

NO_IMAGE = 128  # grey level of the image for a row without one


def decode_image(data: bytes, *, bit_depth: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an encoded image as RGB; grey is repeated. tfds_builders/images.py has the rule.

    Alpha is dropped, not blended, as big_vision does. Empty bytes, the image of a row without one (Med-HALT), give
    a uniform grey, the middle of [-1, 1]. `bit_depth` is of grey images of 16 bits; 0 = all bits.

    Raises:
        ValueError: as `tfds_builders.images.store_image`.
    """
    if not data:
        return np.full((1, 1, 3), NO_IMAGE, np.uint8)
    return to_rgb(read_image(data, bit_depth=bit_depth)[0])


def thumbnail(data: bytes, *, side: int) -> bytes:
    """A small copy of an encoded image as a JPEG file: pixels only, without anything else from the file.

    Args:
        data: an encoded image.
        side: pixels of the longer side, at most.
    """
    image = Image.fromarray(decode_image(data))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image in mode L or RGB; grey is repeated."""
    pixels = np.asarray(image)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def read_mask(data: bytes) -> Bool[np.ndarray, "h w"]:
    """A mask from its PNG: True where it is not black.

    Raises:
        ValueError: for bytes that are not an image, or only a part of one.
    """
    with open_image(data) as image:
        return np.asarray(image.convert("L")) > 0


def resize_levels(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The image as a square of `size` pixels in whole grey levels; the aspect ratio is not kept.

    This is TensorFlow's antialiased bilinear resize, clipped and cut down to whole grey levels, as big_vision feeds
    PaliGemma. PIL's resize of float images is the same filter, to within one grey level.
    """
    first = image[..., 0]
    grey = np.array_equal(first, image[..., 1]) and np.array_equal(first, image[..., 2])
    bands = []
    for channel in range(1 if grey else 3):  # a grey image is resized once
        floats = Image.fromarray(image[..., channel].astype(np.float32))
        # PIL's conversion to L clips and cuts down to whole levels.
        bands.append(floats.resize((size, size), Image.Resampling.BILINEAR).convert("L"))
    return np.asarray(Image.merge("RGB", bands * 3 if grey else bands))


def to_unit(levels: UInt8[np.ndarray, "*b h w 3"], out: np.ndarray | None = None) -> Float32[np.ndarray, "*b h w 3"]:
    """Grey levels / 127.5 - 1, float32 in [-1, 1]; written into `out` if it is given."""
    unit = np.divide(levels, np.float32(127.5), out=out, dtype=np.float32)
    return np.subtract(unit, np.float32(1), out=unit)


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float32[np.ndarray, "{size} {size} 3"]:
    """The model's input for an image: a square of `size` pixels in [-1, 1] (see `resize_levels`)."""
    return to_unit(resize_levels(image, size))
