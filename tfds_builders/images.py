"""Reads any image file as 8 bits, RGB or grey, and defines how it is stored: one rule for every data set and model.

Only BMP, GIF, JPEG, PNG, TIFF and WebP are opened, and only up to MAX_PIXELS; both are checked before a pixel is
decoded. A PNG or JPEG of 8 bits, RGB or grey, is stored unchanged. Any other file is converted and written as PNG:

- EXIF orientation is applied; of several frames the first is taken.
- Alpha is dropped, not blended. Palettes are looked up and become RGB. CMYK, YCbCr and LAB become RGB.
- Grey of 16 bits is divided by 257 and rounded, so that 65535 becomes 255; of 16-bit colour the high byte is kept.
  With a bit depth of 12, grey levels of 16 bits are scaled from 0..4095 instead, and a higher level is an error.
  If 0 is white in a TIFF of 16 bits, its levels are inverted (PIL does that only for 8 bits).
- Grey of 1, 2 or 4 bits is scaled to 0..255.
- Grey of 32 bits or in floating point has no known range and is refused.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfds_builders.png_data import check_png
from tfds_builders.regular_files import refuse_pointer

# The formats that are opened. PIL knows forty more, among them EPS, which it runs with Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000  # of one image or one DICOM frame: more than a mammogram has; decoded, below 1 GB
ORIENTATION = 0x0112  # the EXIF tag
PHOTOMETRIC = 262  # the TIFF tag that says what a grey level of 0 is: 0 = white, 1 = black
SAMPLE_FORMAT, SIGNED = 339, 2  # the TIFF tag of the kind of numbers, and its value for signed integers
KEPT_FORMATS = ("PNG", "JPEG")
KEPT_RAW = ("L", "RGB")  # how the file stores pixels: not "L;4", "I;16B", "RGB;16B", "P", "CMYK;I"
GREY = ("1", "L", "LA", "La")
USUAL_BITS = (8, 10, 12, 14)  # of scanners that store pixels in 16 bits
LOW_BITS = "16-bit image uses only its low bits"  # the warning, before the number of bits in use


class StoredImage(NamedTuple):
    """A file to store, its size in pixels, and the changes to the authors' file."""

    data: bytes
    width: int
    height: int
    conversion: str  # such as "RGBA to RGB"; empty if the bytes are the authors'
    low_bits: int = 0  # bits that a nearly black image of 16 bits uses; 0 for all others


def check_pixels(width: int, height: int) -> None:
    """Raises ValueError if an image of this size, in pixels, is too large to be decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels are more than {MAX_PIXELS} ({MAX_PIXELS / 1e6:g} million), the limit for one "
            "image. Make it smaller, or cut it."
        )


@contextlib.contextmanager
def open_image(data: bytes, *, purpose: str = "decoded") -> Iterator[Image.Image]:
    """Opens an encoded image for a `with` block; any exception of a decoder in it becomes a ValueError.

    Args:
        data: of the file.
        purpose: completes the message "the bytes are not an image that can be `purpose`".

    Raises:
        ValueError: for bytes that are not an image in one of FORMATS, and for too large an image.
    """
    try:
        refuse_pointer(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_pixels(*image.size)
            yield image
    except Exception as error:  # decoders raise any exception on bytes that were made to break them
        why = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            why = f"their format is not one of {', '.join(FORMATS)}, or they are damaged"
        elif isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            why = f"they hold more than {MAX_PIXELS} pixels, the limit for one image"
        raise ValueError(f"the {len(data)} bytes are not an image that can be {purpose}: {why}") from error


def count_frames(data: bytes) -> int:
    """The number of frames of an encoded image: 1, except for animations and TIFF with several pages.

    Raises:
        ValueError: for bytes that are not an image.
    """
    with open_image(data, purpose="counted") as image:
        return getattr(image, "n_frames", 1)


def store_image(data: bytes, *, bit_depth: int = 0) -> StoredImage:
    """The file to store for an encoded image; every pixel is decoded once.

    Args:
        data: of the authors' file.
        bit_depth: bits that grey images of 16 bits use; 0 = all.

    Raises:
        ValueError: for bytes that are not an image or only a part of one, for too large an image, for grey levels
            without a known range, and for levels beyond `bit_depth`.
    """
    with open_image(data, purpose="used") as image:
        check_png(data)
        return _store(image, data, bit_depth)


def _store(image: Image.Image, data: bytes, bit_depth: int) -> StoredImage:
    kind, deep = _kind(image), _is_deep(image)
    image.load()
    turned = image.getexif().get(ORIENTATION, 1) not in (0, 1)
    if kind in KEPT_RAW and image.format in KEPT_FORMATS and not turned and getattr(image, "n_frames", 1) == 1:
        return StoredImage(data, *image.size, "")
    converted, low_bits = _upright_8_bits(image, bit_depth, deep=deep)
    file = io.BytesIO()
    converted.save(file, "PNG")
    steps = [f"{kind} to {converted.mode}"] if kind != converted.mode else []
    steps += ["EXIF orientation applied"] if turned else []
    steps += [f"{image.format} to PNG"] if image.format not in KEPT_FORMATS else []
    steps += ["first frame"] if getattr(image, "n_frames", 1) > 1 else []
    return StoredImage(file.getvalue(), *converted.size, ", ".join(steps), low_bits)


def _raw_mode(image: Image.Image) -> str:
    """The pixel format in the file of an image that is not loaded yet, according to PIL: `RGB;16B`."""
    tile = getattr(image, "tile", None)
    raw = tile[0][3] if tile else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return raw if isinstance(raw, str) else ""


def _kind(image: Image.Image) -> str:
    """The mode, or for PNG the raw mode if that says more: `RGB;16B`, `L;4`."""
    raw = _raw_mode(image) if image.format == "PNG" else ""
    return raw if ";" in raw and image.mode in KEPT_RAW else image.mode


def _is_deep(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet is colour of 16 bits."""
    return ";16" in _raw_mode(image) and not image.mode.startswith("I")


def read_image(data: bytes, *, bit_depth: int = 0, whole: bool = False) -> tuple[Image.Image, int]:
    """An encoded image in mode L or RGB, upright, by the rule above; and its low bits, as StoredImage has them.

    Args:
        data: of the file.
        bit_depth: as of `store_image`.
        whole: also check that the data of every row are present, as `store_image` does. It has checked the images
            that it stored, which are read faster without.

    Raises:
        ValueError: as `store_image`.
    """
    with open_image(data) as image:
        if whole:
            check_png(data)
        deep = _is_deep(image)
        image.load()
        return _upright_8_bits(image, bit_depth, deep=deep)


def is_inverted(image: Image.Image) -> bool:
    """Whether a PIL image is a TIFF of 16 bits whose level 0 is white; PIL does not invert it."""
    return (
        image.format == "TIFF" and image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0
    )


def _upright_8_bits(image: Image.Image, bit_depth: int, *, deep: bool) -> tuple[Image.Image, int]:
    """A loaded image in mode L or RGB, unchanged if it already has one; and its low bits."""
    inverted = is_inverted(image)
    if image.format == "TIFF" and SIGNED in getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, ()):
        raise ValueError("signed levels have no known range of grey; convert it to unsigned levels of 8 or 16 bits")
    if image.getexif().get(ORIENTATION, 1) not in (0, 1):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey, low_bits = _spread(np.asarray(image), bit_depth)
        return ImageOps.invert(grey) if inverted else grey, low_bits
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no known range of grey levels; convert it to 8 or 16 bits")
    mode = "L" if image.mode in GREY else "RGB"
    converted = image if image.mode == mode else image.convert(mode)
    if not deep:
        return converted, 0
    if bit_depth not in (0, 16):
        raise ValueError(
            f"16-bit colour is read by its high byte, so that a bit depth of {bit_depth} cannot be used; convert it to "
            "8 bits"
        )
    highest = max(top for _, top in np.atleast_2d(converted.getextrema()))
    return converted, 8 + int(highest).bit_length() if 0 < highest < 64 else 0


def _spread(values: np.ndarray, bit_depth: int) -> tuple[Image.Image, int]:
    """Grey levels of 16 bits as 8 bits, and the bits that they use if these leave the image nearly black."""
    highest, top = int(values.max()), 2 ** (bit_depth or 16) - 1
    if highest > top or int(values.min()) < 0:
        raise ValueError(
            f"a grey level is {highest}, more than the {top} of data.bit_depth={bit_depth}; give the bits that the "
            "images use, or 0 for all 16"
        )
    levels = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)[values]
    bits = highest.bit_length()
    return Image.fromarray(levels), bits if not bit_depth and 0 < bits <= max(USUAL_BITS) else 0


def depth_advice(bits: int) -> str:
    """The remedy for images that use `bits` of 16 bits.

    >>> depth_advice(11)
    'is nearly black: its grey levels need 11 of 16 bits. If a pixel has 12 bits, give data.bit_depth=12.'
    """
    usual = next(size for size in USUAL_BITS if size >= bits)
    return (
        f"is nearly black: its grey levels need {bits} of 16 bits. If a pixel has {usual} bits, give "
        f"data.bit_depth={usual}."
    )


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the header of a file, EXIF orientation applied; no pixel is decoded.

    Raises:
        ValueError: for bytes that are not an image, and for too large an image.
    """
    with open_image(data, purpose="measured") as image:
        sideways = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.height, image.width) if sideways else image.size
