"""Image bytes -> uint8 pixels -> what the model sees. One path for training, evaluation and saliency."""

import io
import struct

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps

# What PIL raises on bytes that are not a whole, sane image.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, Image.DecompressionBombError)

NO_IMAGE = 128  # grey level that stands for an image where a row has none


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of an encoded image as RGB.

    EXIF orientation is applied. Alpha is dropped, not blended, as big_vision does. Grey is repeated, palettes are
    looked up, CMYK and the like are converted. Grey of 16 bits is divided by 257 and rounded, so that 65535 becomes
    255; of 16-bit colour PIL keeps the high byte. Of several frames the first is taken. No bytes at all, the image of
    a row that has none (Med-HALT), give a uniform grey, the middle of [-1, 1].

    Raises:
        ValueError: for bytes that are no image or only a part of one, and for grey levels without a known range.
    """
    if not data:
        return np.full((1, 1, 3), NO_IMAGE, np.uint8)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or (image.mode == "I" and opened.format == "PNG"):
                grey = np.rint(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if image.mode in ("I", "F"):
                raise ValueError(f"mode {image.mode} has no known range of grey levels; convert it to 8 or 16 bits")
            return np.asarray(image.convert("RGB"))
    except BROKEN as error:
        raise ValueError(f"The {len(data)} bytes are not an image that can be decoded: {error}.") from error


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float32[np.ndarray, "{size} {size} 3"]:
    """Returns the image as a square of `size` pixels in [-1, 1]; the aspect ratio is not kept.

    This is TensorFlow's antialiased bilinear resize, clipped and cut down to whole grey levels, then / 127.5 - 1, as
    big_vision feeds PaliGemma. PIL's resize of float images is the same filter, to within one grey level.
    """
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(channel.resize((size, size), Image.Resampling.BILINEAR)) for channel in channels]
    levels = np.stack(resized, axis=-1).clip(0, 255).astype(np.uint8)
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)
