"""Images of 8 bits, RGB or grey: how any file is read, and how it is stored. One rule for every data set and model.

A file that is that already is stored with its bytes. Any other is decoded and written as PNG, which loses nothing more:

- EXIF orientation is applied; of several frames the first is taken.
- Alpha is dropped, not blended. Palettes are looked up and become RGB. CMYK, YCbCr and LAB become RGB.
- Grey of 16 bits is divided by 257 and rounded, so that 65535 becomes 255; of 16-bit colour the high byte is kept.
- Grey of 1, 2 or 4 bits is spread over 0 to 255.
- Grey of 32 bits or in floating point has no known range and is refused.
"""

import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

# What PIL raises on bytes that are not a whole, sane image.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
ORIENTATION = 0x0112  # the EXIF tag
KEPT_FORMATS = ("PNG", "JPEG")
KEPT_RAW = ("L", "RGB")  # how the pixels lie in the file: not "L;4", "I;16B", "RGB;16B", "P", "CMYK;I"
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")


class StoredImage(NamedTuple):
    """A file to store, its size in pixels, and what was done to the authors' file."""

    data: bytes
    width: int
    height: int
    conversion: str  # such as "RGBA to RGB"; empty if the bytes are the authors'


def store_image(data: bytes) -> StoredImage:
    """Returns the file to store for an encoded image; every pixel is decoded once.

    Raises:
        ValueError: for bytes that are no image or only a part of one, and for grey levels without a known range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return _store(image, data)
    except BROKEN as error:
        raise ValueError(f"the {len(data)} bytes are not an image that can be used: {error}") from error


def _store(image: Image.Image, data: bytes) -> StoredImage:
    kind = _kind(image)
    image.load()
    turned = image.getexif().get(ORIENTATION, 1) not in (0, 1)
    if kind in KEPT_RAW and image.format in KEPT_FORMATS and not turned and getattr(image, "n_frames", 1) == 1:
        return StoredImage(data, *image.size, "")
    converted = _upright_8_bits(image)
    file = io.BytesIO()
    converted.save(file, "PNG")
    steps = [f"{kind} to {converted.mode}"] if kind != converted.mode else []
    steps += ["EXIF orientation applied"] if turned else []
    steps += [f"{image.format} to PNG"] if image.format not in KEPT_FORMATS else []
    return StoredImage(file.getvalue(), *converted.size, ", ".join(steps) or "first frame")


def _kind(image: Image.Image) -> str:
    """Returns the mode, or for PNG how the pixels lie in the file, where that says more: `RGB;16B`, `L;4`."""
    tile = getattr(image, "tile", None)
    raw = tile[0][3] if image.format == "PNG" and tile else None
    raw = raw[0] if isinstance(raw, tuple) else raw
    return raw if isinstance(raw, str) and ";" in raw and image.mode in KEPT_RAW else image.mode


def read_image(data: bytes) -> Image.Image:
    """Returns an encoded image in mode L or RGB, upright, by the rule above.

    Raises:
        ValueError: for bytes that are no image or only a part of one, and for grey levels without a known range.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _upright_8_bits(image)
    except BROKEN as error:
        raise ValueError(f"the {len(data)} bytes are not an image that can be decoded: {error}") from error


def _upright_8_bits(image: Image.Image) -> Image.Image:
    """Returns a loaded image in mode L or RGB; the image itself, and no copy, if it is that already."""
    if image.getexif().get(ORIENTATION, 1) not in (0, 1):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        levels = np.rint(np.asarray(image, np.float64) / 257).clip(0, 255)
        return Image.fromarray(levels.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no known range of grey levels; convert it to 8 or 16 bits")
    mode = "L" if image.mode in GREY else "RGB"
    return image if image.mode == mode else image.convert(mode)


def image_size(data: bytes) -> tuple[int, int]:
    """Returns width and height in pixels from the head of a file, EXIF orientation applied; no pixel is decoded.

    Raises:
        ValueError: for bytes that are no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                sideways = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if sideways else image.size
    except BROKEN as error:
        raise ValueError(f"the {len(data)} bytes are not an image: {error}") from error
