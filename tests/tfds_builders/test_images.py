"""One rule for images: what is RGB or grey of 8 bits keeps its bytes, everything else becomes that."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.data.image import decode_image
from tfds_builders.dummy import encode, noise
from tfds_builders.images import image_size, store_image

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY + 7, 255 - GREY], axis=-1)


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def file(array: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    return encode(Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode), kind, **options)


def turned() -> bytes:
    """Returns a PNG that says it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(COLOUR, exif=exif)


@pytest.mark.parametrize(
    "data", [file(GREY), file(COLOUR), file(GREY, "JPEG"), file(COLOUR, "JPEG")], ids=["L", "RGB", "L.jpg", "RGB.jpg"]
)
def test_what_needs_no_conversion_keeps_its_bytes(data: bytes) -> None:
    stored = store_image(data)
    assert stored == (data, 4, 3, "")


ALPHA = np.concatenate([COLOUR, np.full((3, 4, 1), 9, np.uint8)], axis=-1)
PALETTE = Image.fromarray(COLOUR).quantize(16)


@pytest.mark.parametrize(
    ("data", "want", "conversion"),
    [
        (file(ALPHA), COLOUR, "RGBA to RGB"),  # dropped, not blended
        (encode(Image.merge("LA", [Image.fromarray(GREY)] * 2), "PNG"), GREY, "LA to L"),
        (encode(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), "P to RGB"),
        (encode(Image.fromarray(GREY > 100), "PNG"), (GREY > 100) * np.uint8(255), "1 to L"),
        (file(GREY.astype(np.uint16) * 257), GREY, "I;16 to L"),
        (file(COLOUR, "BMP"), COLOUR, "BMP to PNG"),
        (file(COLOUR, "TIFF"), COLOUR, "TIFF to PNG"),
        (turned(), np.rot90(COLOUR, -1), "EXIF orientation applied"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_everything_else_becomes_rgb_or_grey_of_8_bits(data: bytes, want: np.ndarray, conversion: str) -> None:
    stored = store_image(data)
    assert conversion in stored.conversion
    assert np.array_equal(pixels(stored.data), want)
    assert (stored.width, stored.height) == (want.shape[1], want.shape[0])
    assert image_size(data) == (want.shape[1], want.shape[0])
    assert store_image(stored.data).data is stored.data  # and then stays


def test_16_bits_keep_their_range() -> None:
    levels = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    assert pixels(store_image(file(levels)).data).tolist() == [[0, 0, 1, 1, 255]]


def test_grey_of_4_bits_is_spread() -> None:
    data = encode(Image.fromarray(np.array([[0, 15]], np.uint8)), "PNG", bits=4)
    stored = store_image(data)
    assert stored.conversion or pixels(data).max() == 15  # PIL writes 4 bits for palettes alone in some versions
    assert pixels(stored.data).dtype == np.uint8


def test_cmyk_becomes_rgb() -> None:
    data = encode(noise(1, mode="CMYK"), quality=95)
    stored = store_image(data)
    assert stored.conversion == "CMYK to RGB"
    assert pixels(stored.data).shape == (16, 20, 3)
    assert abs(pixels(stored.data).astype(int) - np.asarray(noise(1))).mean() < 12


@pytest.mark.parametrize(
    "data",
    [file(ALPHA), encode(noise(2, mode="CMYK")), file(GREY.astype(np.uint16) * 257), turned(), encode(PALETTE, "PNG")],
    ids=["RGBA", "CMYK", "I;16", "EXIF", "P"],
)
def test_the_loader_sees_the_same_before_and_after(data: bytes) -> None:
    """Stored or not, an image is what radvqa_jax.data.image makes of it."""
    assert np.array_equal(decode_image(data), decode_image(store_image(data).data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the 0 bytes are not an image"),
        (b"not an image", "the 12 bytes are not an image"),
        (file(noise_array := np.asarray(noise(3)), "JPEG")[:-40], "not an image that can be used"),
        (file(noise_array)[:-40], "not an image that can be used"),
        (encode(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "no known range"),
        (encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "mode F has no known range"),
    ],
    ids=["empty", "text", "cut jpg", "cut png", "I", "F"],
)
def test_what_is_no_whole_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store_image(data)


def test_an_image_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    for check in (store_image, image_size):
        with pytest.raises(ValueError, match="exceeds limit of 11 pixels"):
            check(file(GREY))
