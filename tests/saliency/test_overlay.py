"""Maps are drawn on the right pixels of the original image, for any shape, and keep their scale."""

import io

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.data.image import resize_image
from radvqa_jax.saliency import overlay as overlay_module
from radvqa_jax.saliency.overlay import (
    STRIP_HEIGHT,
    colour_limits,
    enlarge,
    finer,
    outlined,
    overlay,
    overlay_png,
    robust_limits,
    scale_end,
    to_pixels,
)


def hot(grid: int, row: int, column: int) -> np.ndarray:
    saliency = np.zeros((grid, grid), np.float32)
    saliency[row, column] = 0.25
    return saliency


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 3), (3, 0), (3, 3), (1, 2)])
@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (40, 40)])
def test_a_hot_patch_is_its_rectangle_of_the_original(row: int, column: int, height: int, width: int) -> None:
    h, w = height // 4, width // 4
    expected = np.zeros((height, width), np.float32)
    expected[row * h : (row + 1) * h, column * w : (column + 1) * w] = 0.25
    assert np.array_equal(to_pixels(hot(4, row, column), height, width), expected)
    smooth = to_pixels(hot(4, row, column), height, width, interpolation="bilinear")
    y, x = np.unravel_index(smooth.argmax(), smooth.shape)
    assert expected[y, x] == 0.25


@pytest.mark.parametrize(("height", "width"), [(120, 60), (60, 120)])
def test_it_is_the_inverse_of_the_resize_that_the_model_sees_through(height: int, width: int) -> None:
    """A white spot in the original makes one patch bright; that patch must be drawn over the spot."""
    image = np.zeros((height, width, 3), np.uint8)
    y, x = height * 5 // 8, width // 8
    image[y - 2 : y + 2, x - 2 : x + 2] = 255
    seen = resize_image(image, 56).mean(axis=-1).reshape(4, 14, 4, 14).mean(axis=(1, 3))
    values = to_pixels(seen + 1, height, width)
    assert values[y, x] == values.max()
    assert (values == values.max()).sum() == height * width / 16


def test_pixels_that_do_not_divide_by_the_grid_go_to_the_nearest_patch() -> None:
    values = to_pixels(np.arange(9, dtype=np.float32).reshape(3, 3), 7, 10)
    assert values[:, 0].tolist() == [0, 0, 3, 3, 3, 6, 6]
    assert values[0].tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_colours_mean_values() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    saliency = np.array([[0.0, 0.1], [0.2, 0.4]])
    half = overlay(image, saliency / 2, limits=(0, 0.4), alpha=1.0)
    full = overlay(image, saliency, limits=(0, 0.4), alpha=1.0)
    assert np.array_equal(half[7, 7], full[7, 0])  # 0.2 is 0.2 on a shared scale
    assert np.array_equal(overlay(image, saliency * 7, alpha=1.0), overlay(image, saliency, alpha=1.0))
    assert np.array_equal(overlay(image, saliency, alpha=0.0), image)


def test_brighter_is_more() -> None:
    """The colour maps rise in lightness, so they survive colour blindness and grey printing."""
    ramp = np.linspace(0, 1, 16).reshape(4, 4)
    for colormap in ("viridis", "cividis", "magma", "inferno", "plasma"):
        colours = overlay(np.zeros((4, 4, 3), np.uint8), ramp, alpha=1.0, colormap=colormap).reshape(-1, 3)
        assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > 0).all(), colormap


def test_a_flat_map_of_zero_is_drawn() -> None:
    shown = overlay(np.full((4, 4, 3), 100, np.uint8), np.zeros((2, 2)))
    assert (shown == shown[0, 0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_values_that_are_not_shares_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        colour_limits(np.array([[0.1, bad]]))


def test_limits_span_all_maps_from_zero() -> None:
    assert colour_limits(np.array([[0.1, 0.2]]), np.array([[[0.5]]])) == (0.0, 0.5)


def test_a_sink_does_not_decide_a_robust_scale_and_is_printed() -> None:
    values = np.full((8, 8), 0.001)
    values[0, 0], values[4, 4], values[4, 5] = 0.4, 0.01, 0.009
    assert robust_limits(values) == (0.0, 0.009)  # two of 64 patches are left out
    assert scale_end((0.0, 0.009), values) == "≥ 0.009 (largest 0.4)" and scale_end((0.0, 0.4), values) == "0.4"
    assert robust_limits(values, values / 2) == (0.0, 0.009)
    assert robust_limits(-values, signed=True) == (-0.009, 0.009)
    one = np.zeros((8, 8))
    one[2, 2] = 0.5
    assert robust_limits(one) == (0.0, 0.5)  # there is no other value
    assert robust_limits(np.ones((1, 1))) == (0.0, 1.0)


def test_values_beyond_the_scale_are_printed_below_the_picture() -> None:
    """The sign for it is in the font: it looks different from a missing character."""
    strips = [
        overlay_module._scale_strip(320, (0.0, 1.0), height=320, colormap="viridis", label="share", end=f"{sign} 1")
        for sign in ("≥", "\ue000", "")
    ]
    assert not np.array_equal(strips[0], strips[1]) and not np.array_equal(strips[0], strips[2])


def test_a_map_that_fades_leaves_the_image_where_nothing_was_read() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    values = np.array([[0.0, 1.0]]).repeat(2, axis=0)
    shown = overlay(image, values, alpha=1.0, fade=True)
    assert np.array_equal(shown[:, :4], image[:, :4])
    assert np.array_equal(shown[:, 4:], overlay(image, values, alpha=1.0)[:, 4:])


def test_the_outline_is_around_the_mask_and_changes_nothing_inside() -> None:
    pixels, mask = np.full((30, 30, 3), 90, np.uint8), np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    shown = outlined(pixels, mask)
    assert np.array_equal(shown[mask], pixels[mask])
    assert (shown[8:10, 10:20] == 255).all() and (shown[6:8, 10:20] == 0).all() and (shown[:5] == 90).all()
    assert np.array_equal(outlined(pixels, ~np.ones_like(mask)), pixels)


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    big = enlarge(image, min_side=5)
    assert big.shape == (6, 9, 3)
    assert np.array_equal(big[::3, ::3], image)
    assert np.array_equal(big[2::3, 2::3], image)
    assert np.array_equal(enlarge(image, min_side=2), image)


def test_the_png_is_the_overlay_with_a_printed_scale_below() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 40, 3)).astype(np.uint8)
    saliency = np.random.default_rng(1).random((4, 4)) / 16
    png = overlay_png(image, saliency, min_side=160)
    shown = pixels(png)
    assert shown.shape == (160 + STRIP_HEIGHT, 320, 3)
    assert np.array_equal(shown[:160], overlay(enlarge(image, min_side=160), saliency))
    strip = shown[160:]
    assert (strip == 255).all(axis=-1).mean() > 0.3 and (strip.sum(axis=-1) < 60).any()  # white, with dark text
    doubled = pixels(overlay_png(image, saliency * 2, min_side=160))
    assert np.array_equal(doubled[:160], shown[:160]) and not np.array_equal(doubled[160:], strip)
    assert overlay_png(image, saliency, min_side=160) == png
    assert overlay_png(image, saliency, min_side=160, label="share of rollout") != png


@pytest.mark.parametrize("shape", [(8, 2000), (3000, 1), (20, 3000), (1, 200_000)])
def test_the_png_of_a_thin_image_is_small_and_has_its_scale(shape: tuple[int, int]) -> None:
    """Repeated until its shorter side has 320 pixels, it would take gigabytes."""
    png = overlay_png(np.zeros((*shape, 3), np.uint8), np.eye(8))
    height, width, _ = pixels(png).shape
    assert height * width < 20e6 and width >= 320 and height > STRIP_HEIGHT


def test_bands_of_a_large_image_are_coloured_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 20, 3)).astype(np.uint8)
    values = np.random.default_rng(1).random((4, 4))
    whole = overlay(image, values, interpolation="bilinear", fade=True)
    monkeypatch.setattr(overlay_module, "BAND", 7 * 20)
    assert np.array_equal(overlay(image, values, interpolation="bilinear", fade=True), whole)


@pytest.mark.parametrize("shape", [(5, 7), (1, 40), (40, 3), (16, 16)])
def test_an_image_with_fewer_pixels_than_patches_shows_every_patch(shape: tuple[int, int]) -> None:
    """Each of the 16 x 16 patches has a value of its own; every one of them must be found again in the picture."""
    image, grid = np.zeros((*shape, 3), np.uint8), 16
    saliency = np.arange(grid**2, dtype=np.float32).reshape(grid, grid)
    fine = finer(image, grid=grid)
    assert min(fine.shape[:2]) >= 4 * grid and max(fine.shape[:2]) < 8 * max(grid, *shape)
    drawn = np.unique(to_pixels(saliency, *fine.shape[:2]))
    assert len(drawn) == grid**2
    assert len(np.unique(to_pixels(saliency, *shape))) < grid**2 or shape == (16, 16)
    assert np.array_equal(finer(np.ones(shape, bool), grid=grid).shape, fine.shape[:2])
    large = np.zeros((200, 90, 3), np.uint8)
    assert finer(large, grid=grid).shape == large.shape


def test_values_with_a_sign_have_colours_around_zero() -> None:
    image, saliency = np.full((8, 8, 3), 128, np.uint8), np.array([[-2.0, 0.0], [0.0, 1.0]], np.float32)
    limits = colour_limits(saliency, signed=True)
    assert limits == (-2.0, 2.0)
    shown = overlay(image, saliency, limits=limits, alpha=1.0)
    blue, white, red = shown[0, 0].astype(int), shown[0, 7].astype(int), shown[7, 7].astype(int)
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240
