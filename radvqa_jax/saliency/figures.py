"""Figures of a case for a paper, as PNG or as PDF with vector text: its words by method, and every layer and head."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from radvqa_jax.pages import font_families
from radvqa_jax.saliency.overlay import (
    Colormap,
    Limits,
    colour_limits,
    colours_of,
    finer,
    overlay,
    robust_limits,
    scale_end,
    thin,
)

Format = Literal["png", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "pdf")
Scale = Literal["absolute", "relative"]

GAP = 3  # pixels between two cells
DPI = 150
CELL_SIDE = 160  # pixels of a cell's longer side at most: cells show locations, the overlay shows details
WIDEST, TALLEST = 10.0, 40.0  # inches
THINNEST = 8.0  # ratio of a cell's longer side to its shorter one at most: thinner, no patch could be seen
CELL_INCHES = 2.5  # of a panel
PANEL_SIDE = 2048  # pixels of a panel's longer side at most, about 800 an inch
ALPHA = 0.75  # weight of the hottest colour over the image; it falls to none at 0
EMPTY = "empty"  # a panel with nothing in it


def number_words(words: Sequence[str]) -> list[str]:
    """The words, those that occur more than once with their number, so that each names one map.

    >>> number_words(["left", "and", "left"])
    ['left (1)', 'and', 'left (2)']
    """
    seen: dict[str, int] = {}
    numbered = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        numbered.append(f"{word} ({seen[word]})" if list(words).count(word) > 1 else word)
    return numbered


def save_figure(figure: Figure, kind: Format) -> bytes:
    """A figure as the bytes of a file, the same for the same figure; PDF text stays text.

    The figure's layout is settled by the first call: saving again, in another format, does not move anything.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"pdf.fonttype": 42, "font.family": font_families()}):
        # A question in Chinese: the font shows a box for missing glyphs.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        if kind == "png":
            FigureCanvasAgg(figure).print_figure(file, format="png", dpi=DPI, metadata={"Software": None})
        else:
            none = {"Creator": None, "Producer": None, "CreationDate": None}
            FigureCanvasPdf(figure).print_figure(file, format="pdf", metadata=none)
    figure.set_layout_engine("none")  # placing everything takes as long as drawing it
    return file.getvalue()


Panel = Float[np.ndarray, "grid grid"] | Literal["empty"] | None  # a map, nothing, or the plain image


def _draw_panel(
    axes: Axes,
    image: UInt8[np.ndarray, "h w 3"],
    saliency: Panel,
    *,
    limits: Limits | None,
    colormap: Colormap,
    outline: Bool[np.ndarray, "h w"] | None,
) -> None:
    """Draws the image, or the map over it with its colour bar and the mask's outline."""
    axes.set_axis_off()
    if isinstance(saliency, str):
        return
    if saliency is None:
        axes.imshow(image, interpolation="nearest")
        return
    limits = limits or colour_limits(saliency)
    fine = finer(image, grid=len(saliency))
    height, width = fine.shape[:2]
    aspect = (image.shape[0] / height) / (image.shape[1] / width)  # the original's, whatever was repeated
    shown = overlay(fine, saliency, limits=limits, colormap=colormap, alpha=ALPHA, fade=True)
    axes.imshow(shown, interpolation="nearest", aspect=aspect)
    if outline is not None and outline.any() and not outline.all():
        marked = finer(outline, grid=len(saliency)).astype(float)
        for colour, width_of in (("black", 2.4), ("white", 1.2)):
            axes.contour(marked, levels=[0.5], colors=colour, linewidths=width_of)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), colours_of(limits, colormap)), ax=axes, fraction=0.046, pad=0.03
    )
    ticks = sorted(set(limits))
    bar.set_ticks(ticks, labels=[*(f"{value:.2g}" for value in ticks[:-1]), scale_end(limits, saliency).split(" (")[0]])
    bar.ax.tick_params(labelsize=7)


def _heading(question: str, answer: str, reference: str, note: str) -> list[str]:
    lines = [f"question: {question}", f"answer: {answer}"]
    lines += [f"reference: {reference}"] if reference else []
    lines += [note] if note else []
    return lines


def case_figure(
    image: UInt8[np.ndarray, "h w 3"],
    maps: Sequence[Panel],
    titles: Sequence[str],
    *,
    question: str,
    answer: str,
    reference: str = "",
    note: str = "",
    limits: Sequence[Limits | None] | None = None,
    outline: Bool[np.ndarray, "h w"] | None = None,
    columns: int = 4,
    colormap: Colormap = "viridis",
) -> Figure:
    """A figure with one panel a map.

    Args:
        image: the original pixels.
        maps: shares of attention, in reading order; None = the plain image, EMPTY = nothing.
        titles: one a map.
        question: above the panels, with answer, reference and note where they are given.
        answer: of the model.
        reference: of the data set.
        note: a remark for the reader, in one line.
        limits: colour scale of each map; None = 0 to its largest value. Give the same to maps to be compared. A scale
            that goes below zero has diverging colours.
        outline: a mask that is outlined on every map.
        columns: panels a row.
        colormap: of every map.
    """
    if len(titles) != len(maps) or (limits is not None and len(limits) != len(maps)):
        raise ValueError(f"case_figure needs a title, and limits if any, for each of {len(maps)} maps.")
    image = thin(image, longest=PANEL_SIDE)
    outline = outline if outline is None else thin(outline, longest=PANEL_SIDE)
    rows = -(-len(maps) // columns)
    wide = 26 * columns
    lines = [part for line in _heading(question, answer, reference, note) for part in textwrap.wrap(line, wide)]
    height, width = image.shape[:2]
    cell_height = CELL_INCHES * min(max(height / width, 0.5), 2.0) + 0.25
    head = 0.16 * len(lines) + 0.1
    size = (CELL_INCHES * columns * 1.15, cell_height * rows + head)
    figure = Figure(size, layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / size[1])))
    # Text of a data set is shown as it is: a dollar sign must not start a formula.
    figure.text(0.01, 0.995, "\n".join(lines), va="top", fontsize=9, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    scales = limits or [None] * len(maps)
    for axes, saliency, title, scale in zip(grid, maps, titles, scales, strict=False):
        _draw_panel(axes, image, saliency, limits=scale, colormap=colormap, outline=outline)
        axes.set_title("\n".join(textwrap.wrap(title, 26)), fontsize=8, parse_math=False)
    return figure


def _shrink(image: UInt8[np.ndarray, "h w 3"], grid: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Every n-th row and every m-th column, so that a cell is small and each patch still has pixels of its own; of an
    image with too few pixels, more."""
    image = finer(thin(image, longest=PANEL_SIDE), grid=grid)
    step = -(-max(image.shape[:2]) // CELL_SIDE)
    down, across = (max(1, min(step, side // grid)) for side in image.shape[:2])
    return image[::down, ::across]


def heads_figure(
    image: UInt8[np.ndarray, "h w 3"],
    maps: Float[np.ndarray, "L N grid grid"],
    *,
    question: str,
    answer: str,
    scale: Scale = "absolute",
    unit: str = "share of attention",
    colormap: Colormap = "viridis",
) -> Figure:
    """A figure with layers as rows and heads as columns.

    Args:
        image: original pixels; each cell has its aspect, up to THINNEST.
        maps: one a layer and head, of the same words; values below zero make every scale symmetric around 0.
        question: above the cells, with the answer.
        answer: of the model.
        scale: absolute = one scale for all cells, printed on the bar; relative = each cell from 0 to its own largest
            value (with values below zero, its largest size), which is printed in the cell, as there is no common bar.
        unit: of the bar.
        colormap: perceptually uniform and safe for colour-blind readers.
    """
    depth, count, grid, _ = maps.shape
    signed = bool((maps < 0).any())
    limits = robust_limits(maps.reshape(-1, grid, grid), signed=signed)
    small = _shrink(image, grid)
    height, width = small.shape[:2]
    canvas = np.full((depth * (height + GAP) - GAP, count * (width + GAP) - GAP, 3), 255, np.uint8)
    for layer, head in np.ndindex(depth, count):
        cell = maps[layer, head]
        at = slice(layer * (height + GAP), None), slice(head * (width + GAP), None)
        own = limits if scale == "absolute" else colour_limits(cell, signed=signed)
        canvas[at][:height, :width] = overlay(small, cell, limits=own, colormap=colormap, alpha=ALPHA, fade=True)
    heading = [part for line in (f"question: {question}", f"answer: {answer}") for part in textwrap.wrap(line, 90)]
    wide = min(WIDEST, 1.2 * count + 1.5)
    head_room = 0.2 * len(heading) + 0.3
    drawn = min(max(image.shape[0] / image.shape[1], 1 / THINNEST), THINNEST)  # height of a cell to its width
    aspect = drawn * width / height  # of a pixel of the canvas: rows and columns of the image are thinned on their own
    tall = min((wide - 1.2) * aspect * canvas.shape[0] / canvas.shape[1], TALLEST)  # the rest of the width stays empty
    figure = Figure((wide, tall + head_room + 0.4), layout="constrained")
    figure.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=9, parse_math=False)
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest", aspect=aspect)
    axes.set_xticks([h * (width + GAP) + width / 2 for h in range(count)], [str(h) for h in range(count)], fontsize=7)
    axes.set_yticks([i * (height + GAP) + height / 2 for i in range(depth)], [str(i) for i in range(depth)], fontsize=7)
    axes.set_xlabel("head", fontsize=8)
    axes.set_ylabel("layer", fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if scale == "absolute":
        bar = figure.colorbar(
            ScalarMappable(Normalize(*limits), colours_of(limits, colormap)), ax=axes, fraction=0.03, pad=0.02
        )
        beyond = f", {end}" if (end := scale_end(limits, maps)).startswith("≥") else ""
        bar.set_label(f"{unit} a patch, absolute scale{beyond}", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    else:
        for layer, head in np.ndindex(depth, count):
            place = head * (width + GAP) + 2, layer * (height + GAP) + 3
            top = f"{'±' * signed}{np.abs(maps[layer, head]).max():.2g}"
            axes.text(
                *place, top, color="white", fontsize=5, va="top", bbox={"color": "black", "alpha": 0.6, "pad": 0.8}
            )
        start = "symmetric around 0, up" if signed else "0"
        axes.set_title(f"relative scale: {start} to the value in each cell, {unit} a patch", fontsize=7, loc="left")
    return figure
