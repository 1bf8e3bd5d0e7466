"""Opens an image in any form: a file, a DICOM file, bytes, a PIL image or an array."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from radvqa_jax.data.dicom import read_dicom
from radvqa_jax.data.dicom_guard import MAX_BYTES, is_dicom
from radvqa_jax.data.image import to_rgb
from tfds_builders.images import PHOTOMETRIC, check_pixels, count_frames, depth_advice, is_inverted, read_image
from tfds_builders.regular_files import open_regular


class Opened(NamedTuple):
    """Pixels to ask about, and the facts about them that may be shown."""

    image: UInt8[np.ndarray, "h w 3"]
    facts: Sequence[tuple[str, str]] = ()  # window, frame, and the tags of DICOM that identify nobody
    notes: Sequence[str] = ()  # warnings for a person, one sentence each


ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Opened


def open_any(image: ImageLike, *, frame: int = 0, window: str = "", bit_depth: int = 0) -> Opened:
    """Opens an image.

    Args:
        image: the path or the bytes of a file (the formats of tfds_builders/images.py, or DICOM), a PIL image, or an
            array of grey levels [h w] or of RGB [h w 3] in 0 to 255; an opened image is returned unchanged.
        frame: of a DICOM file, from 1; 0 = the first.
        window: of a DICOM file: empty = its own, or a name such as lung for CT.
        bit_depth: of grey images of 16 bits, 8 to 16; 0 = all bits.

    Raises:
        ValueError: if it cannot be opened, an argument has another type or range, or `frame` or `window` is given for
            what is no DICOM file.
    """
    check_kind(image)
    check_choices(frame, window, bit_depth)
    if isinstance(image, np.ndarray | Opened | Image.Image) and (window or frame > 1):
        raise ValueError("Only DICOM files have a window and a frame, and this image is not one.")
    if isinstance(image, Opened):
        return image
    if isinstance(image, np.ndarray):
        return Opened(_of_array(image))
    data = image if isinstance(image, bytes) else _of_pil(image) if isinstance(image, Image.Image) else _of_path(image)
    if is_dicom(data):
        found = read_dicom(data, frame=frame or 1, window=window)
        facts = [("window", found.window), ("frame", f"{found.frame} of {found.frames}"), *found.tags.items()]
        return Opened(found.image, facts, found.warnings)
    if window or frame > 1:
        raise ValueError("Only DICOM files have a window and a frame, and this image is not one.")
    pixels, low_bits = read_image(data, bit_depth=bit_depth, whole=True)
    notes = [f"The image {depth_advice(low_bits)}"] if low_bits else []
    if (frames := count_frames(data)) > 1:
        notes.append(f"The file has {frames} frames, and the first one is shown.")
    return Opened(to_rgb(pixels), notes=notes)


def check_kind(image: Any) -> None:
    """Raises ValueError unless an image can be opened from the value."""
    if not isinstance(image, str | os.PathLike | bytes | Image.Image | np.ndarray | Opened):
        raise ValueError(
            "An image is a path, the bytes of a file, a PIL image or a uint8 array; got "
            f"{image!r:.80} ({type(image).__name__})."
        )


def check_choices(frame: Any, window: Any, bit_depth: Any) -> None:
    """Raises ValueError, naming the argument, unless each has its type and is in its range."""
    if not _is_integer(frame) or frame < 0:
        raise ValueError(f"frame must be an integer, at least 0 (frames count from 1, 0 is the first); got {frame!r}.")
    if not isinstance(window, str):
        raise ValueError(f"window must be text, such as lung; got {window!r:.80} ({type(window).__name__}).")
    if not _is_integer(bit_depth) or not (bit_depth == 0 or 8 <= bit_depth <= 16):
        raise ValueError(f"bit_depth must be 0 (all bits) or an integer from 8 to 16; got {bit_depth!r}.")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The pixels as a PNG file; grey ones in one channel."""
    grey = bool((image[..., :1] == image).all())
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if grey else image).save(file, "PNG")
    return file.getvalue()


def _of_path(path: str | os.PathLike[str]) -> bytes:
    try:
        place = Path(path).expanduser()
    except RuntimeError as error:  # ~name, and there is no such user
        raise ValueError(f"{str(path)[:200]!r} cannot be the path of a file: no such user has a home here.") from error
    try:
        is_there = place.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or contains a NUL
        raise ValueError(f"{str(place)[:200]!r} cannot be the path of a file: {error}.") from error
    if not is_there:
        raise ValueError(f"{place} does not exist. Give an image or a DICOM file.")
    with open_regular(place) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise ValueError(f"{place} has {size} bytes, more than {MAX_BYTES}. Give a smaller file.")
        if not size:
            raise ValueError(f"{place} is empty. Give an image or a DICOM file.")
        return file.read()


def _of_pil(image: Image.Image) -> bytes:
    """The image as a file, so that the one rule for images also applies to it; turned by its EXIF orientation.

    The file is not compressed: PIL would compress it like the file that the image was opened from, as JPEG too.
    """
    check_pixels(*image.size)
    file = io.BytesIO()
    try:
        said = {PHOTOMETRIC: 0} if is_inverted(image) else {}
        ImageOps.exif_transpose(image).save(file, "TIFF", compression="raw", tiffinfo=said)
    except (
        OSError,
        ValueError,
        SyntaxError,
        SystemError,
    ) as error:  # cut, closed, empty, or of a mode without a format
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ValueError(f"The PIL image (mode {image.mode}, size {image.size}) cannot be read: {why}.") from error
    return file.getvalue()


def _of_array(array: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] == 3
    if array.dtype != np.uint8 or not (grey or colour) or not array.size:
        raise ValueError(
            f"An array must be uint8 [height width] or [height width 3] with levels from 0 to 255; got {array.dtype} "
            f"{list(array.shape)}. Map your values to grey levels first: only you know their range."
        )
    check_pixels(array.shape[1], array.shape[0])
    # A copy, since answers keep their image, and callers use one array for many.
    return np.repeat(array[..., None], 3, axis=-1) if grey else array.copy()
