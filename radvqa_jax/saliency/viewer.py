"""viewer.html: cases with all their maps in one file that loads nothing, for a browser.

The page is made of templates/viewer.{html,css} and SCRIPTS (pages.py). Text of a case is data: JSON in a block that no
browser executes, put on the page as text, never as markup.

Maps are stored as whole numbers with their scale (`quantise`): 16 bits for a map of a whole method or layer, 8 for one
of a single head, of which there are many. All of a case are packed together, deflated and written as base64.
"""

import base64
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from markupsafe import Markup
from PIL import Image

from radvqa_jax.files import write_text
from radvqa_jax.pages import data_block, render_page
from radvqa_jax.saliency.methods import METHODS
from radvqa_jax.saliency.overlay import finer
from radvqa_jax.saliency.quality import centre_prior, coverage, edge_map, quality
from radvqa_jax.saliency.viewer_types import ViewerCase, ViewerMap, WrittenCase

TEMPLATES = Path(__file__).parent / "templates"
# Perceptually uniform and safe for colour-blind readers; the diverging ones for values with a sign, dark or light at 0.
COLOUR_MAPS = ("viridis", "cividis", "magma", "inferno")
DIVERGING = ("berlin", "RdBu_r")
CASE_BUDGET = 8_000_000  # bytes of the page that one case may take
MAX_SIDE = 1600  # pixels; a larger image is reduced, and the page says so
# One script of the page, in this order.
SCRIPTS = tuple(
    f"viewer{part}.js" for part in ("_data", "", "_texts", "_sources", "_stage", "_draw", "_input", "_main")
)
HEAD_BITS, MEAN_BITS = 8, 16
SHOWN = ("label", "unit", "about", "share", "signed", "whole")  # of a method's record


def quantise(
    values: Float[np.ndarray, "W grid grid"], *, bits: int, signed: bool = False
) -> tuple[Integer[np.ndarray, "W grid grid"], list[float]]:
    """Whole numbers q and one scale for each word: value = q * scale / (2 ** bits - 1), to within half a step.

    With `signed` the numbers have a sign, and the steps are 2 ** (bits - 1) - 1.

    Raises:
        ValueError: for values that are negative, unless they may be, or not finite.
    """
    if not np.isfinite(values).all() or (not signed and (values < 0).any()):
        raise ValueError("A map for the viewer holds values that are negative or not finite; shares are neither.")
    top, steps = np.abs(values.astype(np.float64)).max(axis=(1, 2)), 2 ** (bits - signed) - 1
    # Short in the file, and never below the largest value.
    scale = np.array([float(f"{value * (1 + 1e-6):.6g}") for value in top])
    unit = np.where(scale > 0, scale, 1.0)[:, None, None]
    kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    return np.rint(values / unit * steps).clip(-steps * signed, steps).astype(kind), scale.tolist()


def outline_path(mask: Bool[np.ndarray, "h w"]) -> str:
    """The border of a mask as an SVG path along the edges of its pixels.

    >>> outline_path(np.array([[False, True]]))
    'M1 0H2M1 1H2M1 0V1M2 0V1'
    """
    padded = np.pad(mask, 1)
    parts: list[str] = []
    for edges, form in (
        (padded[1:, 1:-1] != padded[:-1, 1:-1], "M{start} {line}H{stop}"),
        ((padded[1:-1, 1:] != padded[1:-1, :-1]).T, "M{line} {start}V{stop}"),
    ):
        turns = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        starts, stops = np.argwhere(turns == 1), np.argwhere(turns == -1)
        parts += [form.format(line=line, start=a, stop=b) for (line, a), (_, b) in zip(starts, stops, strict=True)]
    return "".join(parts)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _image(image: UInt8[np.ndarray, "h w 3"], grid: int) -> tuple[str, int, int]:
    """(data URL of a PNG, its width, its height): exact pixels, unless the image is larger than MAX_SIDE or has
    too few for its patches."""
    grey = (image[..., :1] == image).all()
    picture = Image.fromarray(image[..., 0] if grey else image)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    picture = Image.fromarray(finer(np.asarray(picture), grid=grid))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{_base64(file.getvalue())}", picture.width, picture.height


def _pack(maps: Sequence[ViewerMap]) -> dict[str, Any]:
    """The maps as one base64 text of deflated bytes, and an index of its parts."""
    index, chunks, offset = [], list[bytes](), 0
    for item in maps:
        bits = MEAN_BITS if item.head is None else HEAD_BITS
        whole, scale = quantise(item.values, bits=bits, signed=METHODS[item.method].signed)
        chunk = whole.astype(whole.dtype.newbyteorder("<")).tobytes()
        described = item._asdict() | {"bits": bits, "offset": offset, "scale": scale}
        for name, read in (("prompt", item.prompt), ("earlier", item.earlier)):
            if read is not None:
                described[name] = np.round(read.astype(float), 5).tolist()
        index.append({key: value for key, value in described.items() if key != "values"})
        chunks.append(chunk)
        offset += len(chunk)
    return {"index": index, "data": _base64(zlib.compress(b"".join(chunks), 6))}


def _check(case: ViewerCase) -> int:
    """The grid of the case's maps; raises ValueError if its parts do not belong together."""
    if not case.maps or not case.words:
        raise ValueError(f"Case {case.question_id!r} has {len(case.maps)} maps and {len(case.words)} words; give both.")
    grid, names = case.maps[0].values.shape[-1], {model.name for model in case.models}
    for item in case.maps:
        count = len(case.words if item.query == "answer" else case.prompt)
        if item.values.shape != (count, grid, grid):
            raise ValueError(
                f"Case {case.question_id!r}: the map {item.method} of the {item.query} has shape {item.values.shape}; "
                f"with {count} words it must be {(count, grid, grid)}."
            )
        for read, words in ((item.prompt, case.prompt), (item.earlier, case.words)):
            if read is not None and read.shape != (count, len(words)):
                raise ValueError(f"Case {case.question_id!r}: {read.shape} values of {len(words)} words of the text.")
        if item.model not in names:
            raise ValueError(f"Case {case.question_id!r}: a map is of {item.model!r}, but the models are {names}.")
    if case.mask is not None and case.mask.shape != case.image.shape[:2]:
        raise ValueError(f"Case {case.question_id!r}: mask {case.mask.shape} and image {case.image.shape[:2]} differ.")
    return grid


def _of_answer(case: ViewerCase, item: ViewerMap) -> Float[np.ndarray, "grid grid"]:
    """The mean over the answer's tokens; the end counts only if there is nothing else."""
    inner = [not word.end for word in case.words]
    weights = [word.tokens * (keep or not any(inner)) for word, keep in zip(case.words, inner, strict=True)]
    return np.average(item.values, axis=0, weights=weights)


def _quality_rows(case: ViewerCase, grid: int) -> list[dict[str, Any]]:
    """The figures of each method's map of the whole answer against the mask, then those of maps that are blind
    to question and model; none without a mask."""
    if case.mask is None or not case.mask.any():
        return []
    rows = []
    for item in case.maps:
        whole = item.layer is None and item.head is None and item.query == "answer"
        if whole and not METHODS[item.method].signed and (found := quality(_of_answer(case, item), case.mask)):
            described = {key: getattr(item, key) for key in ("model", "method", "residual", "vision")}
            rows.append(described | found._asdict())
    blind = {
        "centre of the image": centre_prior(grid),
        "edges of the image": edge_map(case.image, grid=grid),
    }
    for name, values in blind.items():
        if found := quality(values, case.mask):
            rows.append({"model": None, "method": name} | found._asdict())
    return rows


def _without_heads(case: ViewerCase, size: int) -> ViewerCase | None:
    """The case without maps of single heads, or only without those of the question; None if it has no such maps."""
    for query in ("question", "answer"):
        kept = [item for item in case.maps if item.head is None or item.query != query]
        if len(kept) < len(case.maps):
            note = (
                f"Single heads of the {query}'s words are left out: with them this case would take {size / 1e6:.0f} MB."
            )
            return case._replace(maps=kept, notes=[*case.notes, note])
    return None


def case_json(case: ViewerCase, *, budget: int = CASE_BUDGET) -> Markup:
    """A case as JSON that is safe inside a page; maps of single heads are left out if it exceeds the budget.

    Raises:
        ValueError: if the parts of the case do not belong together.
    """
    grid = _check(case)
    src, width, height = _image(case.image, grid)
    notes, (h, w) = list(case.notes), case.image.shape[:2]
    if (width, height) != (w, h):
        notes.append(f"The image has {w} x {h} pixels and is shown with {width} x {height}.")
    has_mask = case.mask is not None and bool(case.mask.any())
    value: dict[str, Any] = {
        "id": case.question_id,
        "question": case.question,
        "reference": case.reference,
        "prompt": [word._asdict() for word in case.prompt],
        "other": case.other,
        "words": [word._asdict() for word in case.words],
        "models": [model._asdict() for model in case.models],
        "grid": grid,
        "image": {"src": src, "width": width, "height": height, "original": [w, h]},
        "outline": outline_path(case.mask) if has_mask and case.mask is not None else "",
        "coverage": np.round(coverage(case.mask, grid=grid), 5).ravel().tolist() if case.mask is not None else None,
        "quality": _quality_rows(case, grid),
        "headline": [list(item) for item in case.headline],
        "facts": [list(fact) for fact in case.facts],
        "notes": notes,
        "maps": _pack(case.maps),
    }
    text = data_block(value)
    if len(text) > budget and (fewer := _without_heads(case, len(text))):
        return case_json(fewer, budget=budget)
    return text


def write_case_text(case: ViewerCase) -> WrittenCase:
    """The case as text of the page, without its arrays."""
    return WrittenCase(case.question, case_json(case))


def colour_tables() -> dict[str, str]:
    """The 256 colours of each colour map as base64 of RGB bytes."""
    tables = {name: matplotlib.colormaps[name](np.arange(256))[:, :3] * 255 for name in COLOUR_MAPS + DIVERGING}
    return {name: _base64(np.rint(table).astype(np.uint8).tobytes()) for name, table in tables.items()}


def render_viewer(
    cases: Sequence[ViewerCase | WrittenCase], *, title: str = "Attention viewer", synthetic: bool = False
) -> str:
    """The page for some cases.

    Args:
        cases: in the order shown, at least one.
        title: of the page.
        synthetic: says on the page that the images are drawn, not of patients.
    """
    if not cases:
        raise ValueError("The viewer needs at least one case.")
    written = [case if isinstance(case, WrittenCase) else write_case_text(case) for case in cases]
    methods = {name: {key: getattr(method, key) for key in SHOWN} for name, method in METHODS.items()}
    return render_page(
        TEMPLATES,
        "viewer",
        scripts=SCRIPTS,
        title=title,
        synthetic=synthetic,
        shared=data_block({"colours": colour_tables(), "diverging": DIVERGING, "methods": methods}),
        cases=[case.json for case in written],
        names=[f"{number}. {case.question}" for number, case in enumerate(written, 1)],
    )


def write_viewer(path: str | Path, cases: Sequence[ViewerCase | WrittenCase], **options: Any) -> Path:
    """Writes the page of `render_viewer`, whole or not at all, and returns its path."""
    write_text(path, render_viewer(cases, **options))
    return Path(path)
