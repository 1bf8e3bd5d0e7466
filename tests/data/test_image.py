"""From image bytes to pixels to the model's input."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.data.image import decode_image, resize_image


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_resize_equals_the_reference(golden: Path) -> None:
    arrays = np.load(golden / "resize.npz")
    for key in sorted(name for name in arrays if name.startswith("in_")):
        want = arrays[key.replace("in_", "out_")]
        have = resize_image(arrays[key], want.shape[0])
        assert have.dtype == np.float32
        levels = np.abs((have - want) * 127.5).round().astype(int)
        assert levels.max() <= 1, key
        assert (have == want).mean() >= 0.998, key


def test_resize_keeps_an_image_of_the_right_size() -> None:
    image = pixels(16, 16, 3)
    np.testing.assert_array_equal(resize_image(image, 16), image / np.float32(127.5) - 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_resize_of_one_grey_level_is_that_level(size: tuple[int, int]) -> None:
    have = resize_image(np.full((*size, 3), 77, np.uint8), 24)
    assert have.shape == (24, 24, 3)
    np.testing.assert_array_equal(have, np.full_like(have, np.float32(77) / np.float32(127.5) - 1))


def test_resize_squashes_and_does_not_crop() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 255
    have = resize_image(image, 20)
    assert (have[:, :9] == -1).all()
    assert (have[:, 11:] == 1).all()


def test_colour_is_kept_bit_for_bit() -> None:
    image = pixels(9, 7, 3)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(image))), image)


def test_alpha_is_dropped_and_not_blended() -> None:
    image = pixels(9, 7, 4)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(image))), image[..., :3])
    grey = pixels(9, 7, 2)
    have = decode_image(encode(Image.fromarray(grey)))
    np.testing.assert_array_equal(have, np.repeat(grey[..., :1], 3, axis=-1))


def test_grey_is_repeated() -> None:
    image = pixels(9, 7)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(image))), np.stack([image] * 3, -1))


def test_bilevel_becomes_black_and_white() -> None:
    bits = pixels(9, 7) > 127
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(bits)))[..., 0], bits * np.uint8(255))


def test_palette_is_looked_up() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([1, 0])
    have = decode_image(encode(palette, transparency=1))
    assert have.tolist() == [[[200, 100, 50], [10, 20, 30]]]


def test_sixteen_bits_are_scaled_to_the_whole_range() -> None:
    levels = np.array([[0, 128, 129, 257, 32767, 65000, 65535]], np.uint16)
    assert decode_image(encode(Image.fromarray(levels)))[0, :, 1].tolist() == [0, 0, 1, 1, 127, 253, 255]


def test_cmyk_is_converted() -> None:
    have = decode_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = have.reshape(-1, 3).mean(0)
    assert red > 240 and green < 15 and blue < 15


def test_exif_orientation_is_applied() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the top row becomes the right column
    have = decode_image(encode(Image.fromarray(image), exif=exif))
    assert have.shape == (6, 4, 3)
    assert (have[:, -1] == 255).all() and (have[:, :-1] == 0).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_truncation_is_an_error(kind: str) -> None:
    whole = encode(Image.fromarray(pixels(16, 16, 3)), kind)
    # The last 20 bytes of a PNG are checksums and the end chunk: all its pixels are before them.
    # No bytes at all are a row without an image.
    for length in range(1, len(whole) - 20, 7):
        with pytest.raises(ValueError, match="not an image that can be decoded"):
            decode_image(whole[:length])


@pytest.mark.filterwarnings("ignore")  # PIL may warn about odd tags and sizes before it gives up
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP"])
def test_flipped_bytes_give_pixels_or_a_clear_error(kind: str) -> None:
    whole = encode(Image.fromarray(pixels(16, 16, 3)), kind)
    rng = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 200), 3):
            broken[place] = rng.integers(0, 256)
        try:
            assert decode_image(bytes(broken)).ndim == 3
        except ValueError as error:
            assert "not an image that can be decoded" in str(error)


def test_grey_levels_without_a_range_are_refused() -> None:
    image = Image.fromarray(np.array([[0.0, 1234.5]], np.float32))
    with pytest.raises(ValueError, match="mode F has no known range"):
        decode_image(encode(image, "TIFF"))
