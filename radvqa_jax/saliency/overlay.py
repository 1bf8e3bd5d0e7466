"""Maps on the pixels of the original image.

The model squashes the image to a square, without cropping, and cuts the square into grid x grid patches. So patch
(i, j) is the rectangle of rows i h / grid to (i + 1) h / grid and columns j w / grid to (j + 1) w / grid of the
original, and a map is brought back by a plain resize to (h, w). The default is `nearest`: every pixel has the value of
its patch and no detail is drawn that the map does not have; `bilinear` is smoother to look at.
"""

import io
from typing import Literal

import matplotlib
import matplotlib.colors
import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

Interpolation = Literal["nearest", "bilinear"]
Colormap = Literal["viridis", "cividis", "magma", "inferno", "plasma"]  # perceptually uniform, all of them
Limits = tuple[float, float]

BAR_HEIGHT, STRIP_HEIGHT, MARGIN, FONT_SIZE = 12, 34, 6, 13  # pixels of the colour bar below an overlay
DIVERGING = "RdBu_r"  # of a scale that goes below zero: white at zero
FINE = 4  # pixels that a patch has along a side, at least
RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


def to_pixels(
    saliency: Float[np.ndarray, "grid grid"], height: int, width: int, *, interpolation: Interpolation = "nearest"
) -> Float32[np.ndarray, "{height} {width}"]:
    """Returns the map at the size of the original image; values are not rescaled."""
    resized = Image.fromarray(saliency.astype(np.float32)).resize((width, height), RESAMPLING[interpolation])
    return np.asarray(resized)


def enlarge(image: UInt8[np.ndarray, "h w 3"], *, min_side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the image with every pixel repeated so often that the shorter side has at least `min_side` pixels."""
    times = max(1, -(-min_side // min(image.shape[:2])))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def finer(pixels: Shaped[np.ndarray, "h w *C"], *, grid: int) -> Shaped[np.ndarray, "H W *C"]:
    """Returns an image or mask with rows and columns repeated until every patch has FINE of each.

    An image with fewer pixels than patches would otherwise show some patches and lose others. Rows and columns are
    repeated apart, so a thin image stays small; who shows it keeps the original's aspect.
    """
    down, across = (max(1, -(-FINE * grid // side)) for side in pixels.shape[:2])
    return pixels.repeat(down, axis=0).repeat(across, axis=1)


def colour_limits(*maps: Float[np.ndarray, "..."], signed: bool = False) -> Limits:
    """Returns the ends of one colour scale for all these maps: 0 to their largest value, or with `signed` as far below
    zero as above it.

    Raises:
        ValueError: for a value that is not finite, or is negative without `signed`.
    """
    for values in maps:
        if not np.isfinite(values).all() or (not signed and (values < 0).any()):
            raise ValueError("A map holds values that are negative or not finite; shares of attention are neither.")
    top = float(max(np.abs(values).max() for values in maps))
    return (-top if signed else 0.0), top


def colours_of(limits: Limits, colormap: str) -> matplotlib.colors.Colormap:
    """Returns the colours of a scale: those of `colormap`, or diverging ones if it goes below zero."""
    return matplotlib.colormaps[DIVERGING if limits[0] < 0 else colormap]


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    saliency: Float[np.ndarray, "grid grid"],
    *,
    limits: Limits | None = None,
    alpha: float = 0.5,
    colormap: Colormap = "viridis",
    interpolation: Interpolation = "nearest",
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the image with the map's colours over it.

    Args:
        image: the original pixels, of any aspect ratio.
        saliency: shares of attention.
        limits: ends of the colour scale; None = 0 to the map's largest value. Values beyond take the colour of the end.
        alpha: weight of the colours; the same everywhere, so that a colour means a value.
        colormap: perceptually uniform and safe for colour-blind readers.
        interpolation: see the head of this file.
    """
    low, high = limits or colour_limits(saliency)
    values = to_pixels(saliency, *image.shape[:2], interpolation=interpolation)
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = colours_of((low, high), colormap)(scaled.clip(0, 1))[..., :3] * 255
    return np.rint((1 - alpha) * image + alpha * colours).astype(np.uint8)


def _scale_strip(width: int, limits: Limits, *, colormap: Colormap, label: str) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a colour bar with its ends printed, as a strip to put below an image."""
    strip = Image.new("RGB", (width, STRIP_HEIGHT), "white")
    ramp = colours_of(limits, colormap)(np.linspace(0, 1, width - 2 * MARGIN))[None, :, :3] * 255
    bar = np.rint(ramp).astype(np.uint8).repeat(BAR_HEIGHT, axis=0)
    strip.paste(Image.fromarray(bar), (MARGIN, MARGIN // 2))
    draw, font, top = ImageDraw.Draw(strip), ImageFont.load_default(FONT_SIZE), BAR_HEIGHT + MARGIN
    draw.text((MARGIN, top), f"{limits[0]:.3g}", "black", font)
    draw.text((width // 2, top), label, "black", font, anchor="ma")
    draw.text((width - MARGIN, top), f"{limits[1]:.3g}", "black", font, anchor="ra")
    return np.asarray(strip)


def overlay_png(
    image: UInt8[np.ndarray, "h w 3"],
    saliency: Float[np.ndarray, "grid grid"],
    *,
    limits: Limits | None = None,
    alpha: float = 0.5,
    colormap: Colormap = "viridis",
    interpolation: Interpolation = "nearest",
    min_side: int = 320,
    label: str = "share of attention",
) -> bytes:
    """Returns a PNG of the overlay, enlarged by a whole factor if small, with the printed scale below it.

    Arguments are those of `overlay`; `min_side` is the least length of the shorter side in pixels, without the scale,
    and `label` says what the scale is of.
    """
    limits = limits or colour_limits(saliency)
    big = finer(enlarge(image, min_side=min_side), grid=len(saliency))
    shown = overlay(big, saliency, limits=limits, alpha=alpha, colormap=colormap, interpolation=interpolation)
    strip = _scale_strip(shown.shape[1], limits, colormap=colormap, label=label)
    file = io.BytesIO()
    Image.fromarray(np.concatenate([shown, strip])).save(file, "PNG", optimize=True)
    return file.getvalue()
