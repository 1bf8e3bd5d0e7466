"""Decides how each leaf of a checkpoint gets into a model: unchanged, in another shape, drawn, or not at all."""

import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from radvqa_jax import trees
from radvqa_jax.checkpoints.layouts import layout_of
from radvqa_jax.checkpoints.npz import FLOATS
from radvqa_jax.checkpoints.readers import Held, Weights

MOST_GRID = 256  # most patches per side of resampled position embeddings: four times those of any released size
NEW_STDDEV = 0.02  # of values that the checkpoint lacks, as in the reference

WAY_OUT = (
    "Set model.variant and model.checkpoint to ones that belong together. Or allow it: model.allow_missing and "
    "model.allow_extra take regular expressions over whole leaf names; missing leaves are then drawn N(0, 0.02) and "
    "extra ones are ignored. A shape or a dtype that does not fit cannot be allowed."
)


def resample_pos_embedding(old: Float[np.ndarray, "1 P D"], grid: int) -> Float[np.ndarray, "1 P_new D"]:
    """Position embeddings for grid x grid patches: linear between the old ones, corners kept.

    This is the reference's resampling (scipy's zoom of order 1 over the square grid of patches); float32.
    """
    side = math.isqrt(old.shape[1])
    square = old.astype(np.float32).reshape(side, side, -1)
    zoomed = np.asarray(scipy.ndimage.zoom(square, (grid / side, grid / side, 1), order=1))
    return zoomed.reshape(1, grid * grid, -1)


class Adaptation(NamedTuple):
    """The conversion of a leaf to the wanted shape, in words; empty if there is none, or none is needed."""

    kind: str = ""  # resampled, extended or cut
    text: str = ""


def adaptation(name: str, have: Any, want: Any, spare_rows: int) -> Adaptation:
    """The way by which a leaf of the checkpoint gets the shape of the model's.

    Args:
        name: of the leaf.
        have: its shape and dtype in the checkpoint.
        want: those in the model.
        spare_rows: how many rows at the end of the token table may be left out.
    """
    old, new = tuple(have.shape), tuple(want.shape)
    if old == new or len(old) != len(new) or old[-1] != new[-1]:
        return Adaptation()
    layout = layout_of([name])
    if name == layout.token_table and len(old) == 2 and new[0] > old[0]:
        text = f"{old[0]:,} rows from the file, {new[0] - old[0]:,} drawn N(0, {NEW_STDDEV})"
        return Adaptation("extended", text)
    if name == layout.token_table and len(old) == 2 and old[0] - new[0] <= spare_rows:
        return Adaptation("cut", f"{new[0]:,} of {old[0]:,} rows; the others are <image> and padding")
    if name == layout.position_embedding and len(old) == 3 and old[0] == new[0] == 1:
        sides = [math.isqrt(old[1]), math.isqrt(new[1])]
        if [side * side for side in sides] == [old[1], new[1]] and sides[0] <= MOST_GRID:
            return Adaptation("resampled", f"grid {sides[0]}x{sides[0]} to {sides[1]}x{sides[1]}")
    return Adaptation()


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values from N(0, 0.02) that depend on the leaf's name and shape only.

    No seed changes them: they belong to the base, which an adapter knows by the sha256 of its file.
    """
    rng = np.random.default_rng([0, zlib.crc32(name.encode())])
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(NEW_STDDEV)


def decide(
    reader: Weights,
    held: Held,
    want: Mapping[str, Any],
    *,
    allow_missing: tuple[str, ...],
    allow_extra: tuple[str, ...],
) -> tuple[list[str], list[str]]:
    """The names of leaves to draw and to ignore; raises ValueError that lists every leaf that does not fit."""
    have = held.leaves
    unfit = {line.split(":")[0] for lines in held.problems.values() for line in lines}
    may_lack, may_have = _compile(allow_missing, "allow_missing"), _compile(allow_extra, "allow_extra")
    drawn = [name for name in want if name not in have and name not in unfit and _matches(name, may_lack)]
    ignored = [name for name in held.extra if _matches(name, may_have)]
    # A leaf that can be adapted counts as fitting, and a leaf with another problem is not also called missing.
    fitting = {
        name: want[name] if adaptation(name, leaf, want[name], reader.spare_rows).kind else leaf
        for name, leaf in have.items()
    }
    extra = {name: leaf for name, leaf in held.extra.items() if name not in ignored}
    expected = {name: leaf for name, leaf in want.items() if name not in drawn and name not in unfit}
    problems = trees.diff(fitting | extra, expected)
    for kind, lines in held.problems.items():
        problems[kind] = [*problems.get(kind, []), *lines]
    problems["not float16, bfloat16, float32 or float64"] = [
        f"{name}: {np.dtype(have[name].dtype)}" for name in want if name in have and have[name].dtype not in FLOATS
    ]
    found = {kind: lines for kind, lines in problems.items() if lines}
    if found:
        listed = "".join(f"\n{kind} ({len(lines)}):\n  " + "\n  ".join(lines) for kind, lines in found.items())
        count = len(have) + len(unfit & set(want)) + len(held.extra)
        raise ValueError(
            f"{reader.path} holds {count} leaves and the model has {len(want)}; these do not fit:{listed}\n{WAY_OUT}"
        )
    return drawn, ignored


def _compile(patterns: tuple[str, ...], field: str) -> list[Any]:
    return [trees.compile_pattern(pattern, f"model.{field}[{number}]") for number, pattern in enumerate(patterns)]


def _matches(name: str, patterns: list[Any]) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)
