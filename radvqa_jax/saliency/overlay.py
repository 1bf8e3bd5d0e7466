"""Maps on the pixels of the original image.

The model squashes the image to a square, without cropping, and cuts the square into grid x grid patches. So patch
(i, j) is the rectangle of rows i h / grid to (i + 1) h / grid and columns j w / grid to (j + 1) w / grid of the
original, and a map is brought back by a plain resize to (h, w). The default is `nearest`: every pixel has the value of
its patch and no detail is drawn that the map does not have; `bilinear` is smoother to look at.
"""

import io
import math
from typing import Literal

import matplotlib
import matplotlib.colors
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Interpolation = Literal["nearest", "bilinear"]
Colormap = Literal["viridis", "cividis", "magma", "inferno", "plasma"]  # perceptually uniform, all of them
Limits = tuple[float, float]

BAR_HEIGHT, STRIP_HEIGHT, MARGIN, FONT_SIZE = 12, 52, 6, 13  # pixels of the colour bar below an overlay
DIVERGING = "RdBu_r"  # of a scale that goes below zero: white at zero
FINE = 4  # least number of pixels of a patch along a side
BAND = 1 << 20  # pixels that are coloured at a time: in colours, a pixel takes 24 times the memory of its own
LONGEST, LARGEST = 4096, 16384  # pixels of the longer side: of an image that is enlarged, and of any that is shown
NARROWEST = 320  # pixels in which the text below an overlay has room
HOTTEST = 0.02  # share of a map's patches, at least one, that a robust scale leaves beyond its end
OUTLINE = 2  # pixels
RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


def to_pixels(
    saliency: Float[np.ndarray, "grid grid"], height: int, width: int, *, interpolation: Interpolation = "nearest"
) -> Float32[np.ndarray, "{height} {width}"]:
    """The map at the size of the original image; values are not rescaled."""
    resized = Image.fromarray(saliency.astype(np.float32)).resize((width, height), RESAMPLING[interpolation])
    return np.asarray(resized)


def enlarge(image: UInt8[np.ndarray, "h w 3"], *, min_side: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image with every pixel repeated until the shorter side has at least `min_side` pixels, or the longer one
    would get more than LONGEST."""
    times = min(-(-min_side // min(image.shape[:2])), LONGEST // max(image.shape[:2]))
    return _repeat(image, times, times)


def _repeat(pixels: Shaped[np.ndarray, "h w *C"], down: int, across: int) -> Shaped[np.ndarray, "H W *C"]:
    """The pixels with rows and columns repeated; not copied if once is enough."""
    pixels = pixels.repeat(down, axis=0) if down > 1 else pixels
    return pixels.repeat(across, axis=1) if across > 1 else pixels


def thin(pixels: Shaped[np.ndarray, "h w *C"], *, longest: int) -> Shaped[np.ndarray, "H W *C"]:
    """Every n-th row and column of an image or mask, so that the longer side has at most `longest` pixels."""
    step = -(-max(pixels.shape[:2]) // longest)
    return pixels[::step, ::step]


def finer(pixels: Shaped[np.ndarray, "h w *C"], *, grid: int) -> Shaped[np.ndarray, "H W *C"]:
    """An image or mask with rows and columns repeated until every patch has FINE of each.

    An image with fewer pixels than patches would otherwise show some patches and lose others. Rows and columns are
    repeated independently, so a thin image stays small; whoever shows it must keep the original's aspect ratio.
    """
    down, across = (max(1, -(-FINE * grid // side)) for side in pixels.shape[:2])
    return _repeat(pixels, down, across)


def colour_limits(*maps: Float[np.ndarray, "..."], signed: bool = False) -> Limits:
    """The ends of one colour scale for all these maps: 0 to their largest value, or with `signed` as far below
    zero as above it.

    Raises:
        ValueError: for a value that is not finite, or is negative without `signed`.
    """
    for values in maps:
        if not np.isfinite(values).all() or (not signed and (values < 0).any()):
            raise ValueError("A map holds values that are negative or not finite; shares of attention are neither.")
    top = float(max(np.abs(values).max() for values in maps))
    return (-top if signed else 0.0), top


def robust_limits(*maps: Float[np.ndarray, "..."], signed: bool = False) -> Limits:
    """The ends of one colour scale that do not depend on a few hot patches.

    Attention sinks are patches that every word reads; one of them can be forty times as hot as a lesion. Of each map
    the HOTTEST patches, at least one, are left out; the end is the largest value of the others, or of all where nothing
    else is above 0. Values beyond it take the colour of the end, so the end and the largest value are always printed.

    Raises:
        ValueError: as for `colour_limits`.
    """
    _, top = colour_limits(*maps, signed=signed)
    ends = []
    for values in maps:
        sizes = np.sort(np.abs(values).reshape(-1, values.shape[-2] * values.shape[-1]), axis=1)  # a map each row
        ends.append(float(sizes[:, -1 - hot_patches(sizes.shape[1])].max()))
    end = max(ends) or top
    return (-end if signed else 0.0), end


def hot_patches(patches: int) -> int:
    """The number of patches of a map that a robust scale leaves out.

    >>> hot_patches(16), hot_patches(64), hot_patches(1024)
    (1, 2, 21)
    """
    return min(patches - 1, math.ceil(HOTTEST * patches))


def scale_end(limits: Limits, *maps: Float[np.ndarray, "..."]) -> str:
    """The upper end of a scale as text, with the largest value if that is beyond it."""
    top = float(max(np.abs(values).max() for values in maps))
    return f"{limits[1]:.2g}" if top <= limits[1] else f"≥ {limits[1]:.2g} (largest {top:.2g})"


def outlined(pixels: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels with the border of a mask in white, and black around it."""
    if not mask.any() or mask.all():
        return pixels

    def grow(area: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        return ndimage.binary_dilation(area, np.ones((2 * OUTLINE + 1,) * 2, bool))

    border, drawn = grow(mask) & ~mask, pixels.copy()
    drawn[grow(border) & ~mask] = 0
    drawn[border] = 255
    return drawn


def colours_of(limits: Limits, colormap: str) -> matplotlib.colors.Colormap:
    """The colours of a scale: those of `colormap`, or diverging ones if it goes below zero."""
    return matplotlib.colormaps[DIVERGING if limits[0] < 0 else colormap]


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    saliency: Float[np.ndarray, "grid grid"],
    *,
    limits: Limits | None = None,
    alpha: float = 0.5,
    colormap: Colormap = "viridis",
    interpolation: Interpolation = "nearest",
    fade: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with the map's colours over it.

    Args:
        image: the original pixels, of any aspect ratio.
        saliency: shares of attention.
        limits: ends of the colour scale; None = 0 to the map's largest value. Values beyond take the colour of the end.
        alpha: weight of the colours.
        colormap: perceptually uniform and safe for colour-blind readers.
        interpolation: see the head of this file.
        fade: the weight grows with the value, from none at 0, so that the image stays visible; otherwise it is the same
            everywhere.
    """
    low, high = limits or colour_limits(saliency)
    values = to_pixels(saliency, *image.shape[:2], interpolation=interpolation)
    shown, colours_at, rows = np.empty_like(image), colours_of((low, high), colormap), max(1, BAND // image.shape[1])
    for at in (slice(start, start + rows) for start in range(0, len(image), rows)):
        scaled = (values[at] - low) / (high - low) if high > low else np.zeros_like(values[at])
        scaled = scaled.clip(0, 1)
        strength = np.abs(2 * scaled - 1) if low < 0 else scaled
        weight = alpha * strength[..., None] if fade else alpha
        shown[at] = np.rint((1 - weight) * image[at] + weight * colours_at(scaled)[..., :3] * 255)
    return shown


def _scale_strip(
    width: int, limits: Limits, *, height: int, colormap: Colormap, label: str, end: str
) -> UInt8[np.ndarray, "H W 3"]:
    """A colour bar with its ends printed, as a strip of some width to put below an image of some height."""
    unit = max(1.0, min(width, 4 * height) / NARROWEST)  # legible when the picture is shown smaller
    margin, bar_height, size = round(MARGIN * unit), round(BAR_HEIGHT * unit), round(FONT_SIZE * unit)
    strip = Image.new("RGB", (width, round(STRIP_HEIGHT * unit)), "white")
    ramp = colours_of(limits, colormap)(np.linspace(0, 1, width - 2 * margin))[None, :, :3] * 255
    bar = np.rint(ramp).astype(np.uint8).repeat(bar_height, axis=0)
    strip.paste(Image.fromarray(bar), (margin, margin // 2))
    draw, top = ImageDraw.Draw(strip), bar_height + margin
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)  # Pillow's own font has no ≥
    draw.text((margin, top), f"{limits[0]:.2g}", "black", font)
    draw.text((width - margin, top), end, "black", font, anchor="ra")
    draw.text((width // 2, top + size + margin // 2), label, "black", font, anchor="ma")
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
    fade: bool = False,
    outline: Bool[np.ndarray, "h w"] | None = None,
) -> bytes:
    """A PNG of the overlay, enlarged by a whole factor if small, with the printed scale below it.

    Arguments are those of `overlay`; `min_side` is the least length of the shorter side in pixels, without the scale,
    unless the longer side would get more than LONGEST; `label` names the quantity of the scale, and `outline` is a mask
    of the image's size whose border is drawn. An image of more than LARGEST pixels a side is thinned.
    """
    limits = limits or colour_limits(saliency)
    image = thin(image, longest=LARGEST)
    big = finer(enlarge(image, min_side=min_side), grid=len(saliency))
    settings = {"alpha": alpha, "colormap": colormap, "interpolation": interpolation, "fade": fade}
    shown = overlay(big, saliency, limits=limits, **settings)
    if outline is not None:
        rows, columns = (np.arange(to) * size // to for to, size in zip(shown.shape[:2], outline.shape, strict=True))
        shown = outlined(shown, outline[np.ix_(rows, columns)])
    end = scale_end(limits, saliency)
    height, width = shown.shape[:2]
    strip = _scale_strip(max(width, NARROWEST), limits, height=height, colormap=colormap, label=label, end=end)
    sheet = np.full((height + len(strip), strip.shape[1], 3), 255, np.uint8)
    sheet[:height, :width], sheet[height:] = shown, strip
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()
