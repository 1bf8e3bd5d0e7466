"""One rule for images: PNG and JPEG of 8 bits, RGB or grey, keep their bytes; all others are converted."""

import io
import struct
import subprocess
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from radvqa_jax.data.image import decode_image, read_mask
from radvqa_jax.data.opened import open_any
from tfds_builders import images
from tfds_builders.dummy import encode, noise
from tfds_builders.images import (
    FORMATS,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SIGNED,
    image_size,
    is_inverted,
    read_image,
    store_image,
)

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY + 7, 255 - GREY], axis=-1)


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def file(array: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    return encode(Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode), kind, **options)


def turned() -> bytes:
    """A PNG whose EXIF orientation turns it on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(COLOUR, exif=exif)


@pytest.mark.parametrize(
    "data", [file(GREY), file(COLOUR), file(GREY, "JPEG"), file(COLOUR, "JPEG")], ids=["L", "RGB", "L.jpg", "RGB.jpg"]
)
def test_an_image_that_needs_no_conversion_keeps_its_bytes(data: bytes) -> None:
    stored = store_image(data)
    assert stored == (data, 4, 3, "", 0)


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


def test_grey_of_4_bits_is_scaled() -> None:
    data = encode(Image.fromarray(np.array([[0, 15]], np.uint8)), "PNG", bits=4)
    stored = store_image(data)
    assert stored.conversion or pixels(data).max() == 15  # some versions of PIL write 4 bits only for palettes
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
    """radvqa_jax.data.image reads the same pixels from the original and from the stored file."""
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
def test_incomplete_and_unsupported_images_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store_image(data)


def test_one_limit_on_pixels_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 11)

    def refuse(*_: object) -> None:
        raise AssertionError("a pixel is decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    for check in (store_image, image_size, read_image, decode_image, read_mask):
        with pytest.raises(ValueError, match="4 x 3 pixels are more than 11"):
            check(file(GREY))


def postscript() -> bytes:
    """A picture that Ghostscript would have to run."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{ } loop\n%%EOF\n"


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "SGI", "DDS", "PPM", "ICO", "SPIDER", "MSP", "JPEG2000"])
def test_only_the_formats_of_the_rule_are_opened(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program is started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    mode = {"SPIDER": "F", "MSP": "1"}.get(kind, "RGB")
    data = postscript() if kind == "EPS" else encode(noise(1).convert(mode), kind)
    for check in (store_image, image_size, read_image, decode_image, read_mask):
        with pytest.raises(ValueError, match=r"not one of BMP, GIF, JPEG, PNG, TIFF, WEBP"):
            check(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_the_rule_is_opened(kind: str) -> None:
    assert store_image(encode(noise(1), kind)).width == 20


@pytest.mark.parametrize("error", [RuntimeError, RecursionError, MemoryError, AssertionError, AttributeError])
def test_any_exception_of_a_decoder_becomes_a_value_error(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for check in (store_image, read_image, decode_image, read_mask):
        with pytest.raises(ValueError, match=rf"the \d+ bytes are not an image that can be \w+: {error.__name__}"):
            check(file(GREY))


def test_a_git_lfs_pointer_is_reported() -> None:
    with pytest.raises(ValueError, match="Git LFS pointer, not the file; fetch it with `git lfs pull`"):
        decode_image(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


TWELVE = np.array([[0, 100, 2048, 4095]], np.uint16)


def test_twelve_bits_in_sixteen_are_reported_and_scaled_if_asked() -> None:
    stored = store_image(file(TWELVE))
    assert stored.low_bits == 12 and pixels(stored.data).max() == 16
    told = store_image(file(TWELVE), bit_depth=12)
    assert pixels(told.data).tolist() == [[0, 6, 128, 255]] and told.low_bits == 0
    assert decode_image(file(TWELVE), bit_depth=12)[0, :, 1].tolist() == [0, 6, 128, 255]
    assert store_image(file(TWELVE * 16)).low_bits == 0  # the whole range
    assert store_image(file(TWELVE * 0)).low_bits == 0  # black
    with pytest.raises(ValueError, match=r"a grey level is 4095, more than the 1023 of data\.bit_depth=10"):
        store_image(file(TWELVE), bit_depth=10)
    assert store_image(file(GREY), bit_depth=12) == (file(GREY), 4, 3, "", 0)  # a rule only for 16 bits


def test_a_tiff_of_16_bits_whose_zero_is_white_is_inverted() -> None:
    def tiff(levels: np.ndarray, white: int) -> bytes:
        target = io.BytesIO()
        Image.fromarray(levels).save(target, "TIFF", tiffinfo={PHOTOMETRIC: white})
        return target.getvalue()

    levels = np.array([[0, 12_000, 60_000, 65_535]], np.uint16)
    black, white = (pixels(store_image(tiff(levels, which)).data) for which in (1, 0))
    assert black.tolist() == [[0, 47, 233, 255]] and (white == 255 - black).all()
    assert (decode_image(tiff(levels, 0))[0, :, 0] == white).all()
    with Image.open(io.BytesIO(tiff(levels, 0))) as image:
        assert is_inverted(image) and (open_any(image).image[0, :, 0] == white).all()
    twelve = pixels(store_image(tiff(TWELVE, 0), bit_depth=12).data)
    assert twelve.tolist() == [[255, 249, 127, 0]]


def test_a_tiff_of_signed_levels_is_refused() -> None:
    """Read as unsigned ones, the dark half would be the bright one."""
    target = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(
        target, "TIFF", tiffinfo={SAMPLE_FORMAT: (SIGNED,)}
    )
    for read in (store_image, read_image):
        with pytest.raises(ValueError, match="signed levels have no known range of grey; convert it"):
            read(target.getvalue())


def sixteen_bit_colour(levels: np.ndarray) -> bytes:
    """A PNG of 16-bit colour, which PIL does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in levels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_of_sixteen_bits_keeps_its_high_byte() -> None:
    stored = store_image(sixteen_bit_colour(TWELVE))
    assert stored.low_bits == 12 and pixels(stored.data).max() == 15
    assert store_image(sixteen_bit_colour(TWELVE * 16)).low_bits == 0
    with pytest.raises(ValueError, match="16-bit colour is read by its high byte"):
        store_image(sixteen_bit_colour(TWELVE), bit_depth=12)


def png(mode: str, *, rows: int, **options: Any) -> bytes:
    """A PNG file of 16 rows whose image data end properly after fewer rows."""
    whole = encode(noise(0, mode="L").convert(mode), "PNG", **options)
    start = whole.index(b"IDAT") - 4
    end = whole.rindex(b"IEND") - 4
    inner, place = b"", start
    while place < end:
        size = int.from_bytes(whole[place : place + 4], "big")
        inner += whole[place + 8 : place + 8 + size]
        place += 12 + size
    data = zlib.decompress(inner)
    packed = zlib.compress(data[: len(data) // 16 * rows])
    chunk = b"IDAT" + packed
    made = len(packed).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return whole[:start] + made + whole[end:]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_image_data_that_end_early_are_refused(mode: str) -> None:
    store_image(png(mode, rows=16))
    with pytest.raises(ValueError, match="the image data end after"):
        store_image(png(mode, rows=3))
    with pytest.raises(ValueError, match="the image data end after"):
        read_image(png(mode, rows=3), whole=True)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (13, 5)])
@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 8), (2, 8), (6, 16)])
def test_an_interlaced_png_has_the_data_of_all_passes(size: tuple[int, int], colour: int, depth: int) -> None:
    width, height = size
    channels = {0: 1, 2: 3, 6: 4}[colour]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for left, top, across, down in passes:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        data += (b"\0" + bytes((columns * depth * channels + 7) // 8)) * rows if columns else b""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    def file(content: bytes) -> bytes:
        head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 1])
        return (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
        )

    store_image(file(data))
    for part in (data[:-1], data[: len(data) // 2]):
        with pytest.raises(ValueError, match="the image data end after"):
            store_image(file(part))
