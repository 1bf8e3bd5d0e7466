"""Checkpoints as big_vision's tree: reads native `.npz` files and Hugging Face folders or files; writes native ones.

A native checkpoint is one `.npz` whose keys are `params/` and the leaf's name. Loading goes leaf by leaf straight into
the dtype and the sharding of the model's leaf; nothing is loaded unless every leaf fits. A leaf that does not fit is
adapted as in the reference (position embeddings for another resolution, rows for added tokens; the spare rows of a
Hugging Face file are left out), or allowed by a rule of the config, or listed in an error.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from radvqa_jax import trees
from radvqa_jax.checkpoints import leaf_fit
from radvqa_jax.checkpoints.huggingface_weights import HuggingFaceWeights
from radvqa_jax.checkpoints.layouts import layout_of
from radvqa_jax.checkpoints.npz import FLOATS, PathLike, count_nonfinite, write_npz
from radvqa_jax.checkpoints.readers import PREFIX, Held, NativeWeights, Weights
from radvqa_jax.trees import Flat


class LoadReport(NamedTuple):
    """A report on loading: the loaded leaves, and everything that was not taken unchanged from the file."""

    path: str
    sha256: str  # of the file; empty if it was not requested
    leaves: int
    weights: int
    resampled: tuple[str, ...]  # lines that begin with the leaf's name, like the next four
    extended: tuple[str, ...]
    drawn: tuple[str, ...]
    ignored: tuple[str, ...]
    cut: tuple[str, ...]
    nonfinite: dict[str, int]  # leaf -> how many of its values are not finite in the model; only leaves with some

    def text(self) -> str:
        """The report for a log: one line, and one more for each leaf that differs from the file."""
        digest = f", sha256 {self.sha256[:16]}…" if self.sha256 else ""
        lines = [f"{self.path}: {self.leaves} leaves, {self.weights:,} weights{digest}"]
        for what in ("resampled", "extended", "cut", "drawn", "ignored"):
            lines += [f"  {what} {line}" for line in getattr(self, what)]
        lines += [
            f"  {name}: {n:,} values are NaN, infinite or too large for the dtype" for name, n in self.nonfinite.items()
        ]
        return "\n".join(lines)


def open_weights(path: PathLike) -> Weights:
    """An open checkpoint: a native `.npz`, a Hugging Face folder, or one `.safetensors` file.

    Raises:
        FileNotFoundError, ValueError: if it does not exist, or has none of the three formats.
    """
    place = Path(path).expanduser()
    if os.fspath(path) and any((place / name).is_file() for name in ("adapter_config.json", "adapter.npz")):
        raise ValueError(f"{path} is an adapter, not a model. Give it as `adapter`, and its base as model.checkpoint.")
    if os.fspath(path) and (place.is_dir() or place.suffix == ".safetensors"):
        return HuggingFaceWeights(place)
    return NativeWeights(path)


def read_shapes(path: PathLike) -> dict[str, jax.ShapeDtypeStruct]:
    """{leaf name: shape and dtype in the file} of a native checkpoint without reading the values.

    Names come without `params/`; other groups, as in a training checkpoint, keep their full names.

    Raises:
        FileNotFoundError, ValueError: if there is no such file, or it is not a native checkpoint.
    """
    with NativeWeights(path) as weights:
        return weights.leaves()


def load(
    path: PathLike,
    abstract: Mapping[str, Any],
    *,
    allow_missing: tuple[str, ...] = (),
    allow_extra: tuple[str, ...] = (),
    digest: bool = True,
    convert: Callable[[str, jax.Array], Any] = lambda name, leaf: leaf,
) -> tuple[Flat, LoadReport]:
    """The leaves of `abstract` with the values of the file, and a report.

    Args:
        path: a native `.npz`, a Hugging Face folder or a `.safetensors` file; float16, bfloat16, float32 or float64.
        abstract: flat tree of shapes (or arrays) in the wanted dtypes; a leaf's `sharding`, if it has one, determines
            its devices, otherwise it goes to the default device.
        allow_missing: regular expressions over whole names of leaves that the file may lack; they are drawn N(0, 0.02),
            always the same values for a name and shape.
        allow_extra: the same for leaves that only the file has; they are ignored.
        digest: compute the sha256 of the file or files for the report, which reads them a second time.
        convert: (name, leaf) -> the kept form of the leaf, before the next one is loaded.

    Raises:
        FileNotFoundError, ValueError: if there is no such file, it is damaged or of another kind, its leaves do not fit
            (all of them are listed), or a leaf has no finite value. Leaves are judged before the first one is loaded.
    """
    with open_weights(path) as reader, ThreadPoolExecutor(1) as pool:
        held = reader.held(abstract)
        drawn, ignored = leaf_fit.decide(reader, held, abstract, allow_missing=allow_missing, allow_extra=allow_extra)
        # During loading, from the bytes that are read anyway.
        hashed = pool.submit(reader.sha256) if digest else None
        flat: Flat = {}
        nonfinite: dict[str, int] = {}
        for name, target in abstract.items():
            if name in drawn:
                flat[name] = convert(name, _put(leaf_fit.draw(name, target.shape), target))
            else:
                leaf, bad = _load_leaf(reader, name, target)
                flat[name] = convert(name, leaf)
                nonfinite |= {name: bad} if bad else {}
        report = _report(reader, held, abstract, drawn=drawn, ignored=ignored, nonfinite=nonfinite)
    return flat, report._replace(sha256=hashed.result() if hashed is not None else "")


def _report(
    reader: Weights,
    held: Held,
    abstract: Mapping[str, Any],
    *,
    drawn: list[str],
    ignored: list[str],
    nonfinite: dict[str, int],
) -> LoadReport:
    """The report on leaves that were loaded, without a sha256."""
    have = held.leaves
    adapted = {
        name: leaf_fit.adaptation(name, have[name], abstract[name], reader.spare_rows)
        for name in abstract
        if name in have
    }

    def lines(kind: str) -> tuple[str, ...]:
        return tuple(f"{name}: {how.text}" for name, how in adapted.items() if how.kind == kind)

    return LoadReport(
        path=os.fspath(reader.path),
        sha256="",
        leaves=len(abstract),
        weights=trees.count(dict(abstract)),
        resampled=lines("resampled"),
        extended=lines("extended"),
        cut=lines("cut"),
        drawn=tuple(f"{name} {tuple(abstract[name].shape)}" for name in drawn),
        ignored=tuple(f"{name} {tuple(held.extra[name].shape)}" for name in ignored) + held.unused,
        nonfinite=nonfinite,
    )


def stored_dtype(path: PathLike, abstract: Mapping[str, Any]) -> np.dtype:
    """The dtype of the checkpoint's leaves; if there are several, one that can hold every value of each."""
    with open_weights(path) as reader:
        dtypes = {leaf.dtype for leaf in reader.held(abstract).leaves.values() if leaf.dtype in FLOATS}
    return dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)


def made_here(path: PathLike, abstract: Mapping[str, Any]) -> list[str]:
    """The names of leaves that `load` resamples, extends or draws, so that the file's values are not the model's."""
    with open_weights(path) as reader:
        have = reader.held(abstract).leaves
        fits = {name: leaf_fit.adaptation(name, have[name], abstract[name], reader.spare_rows).kind for name in have}
    return [name for name in abstract if fits.get(name, "drawn") in ("resampled", "extended", "drawn")]


def iterate(
    path: PathLike,
    abstract: Mapping[str, Any],
    *,
    allow_missing: tuple[str, ...] = (),
    allow_extra: tuple[str, ...] = (),
    dtype: Any = None,
    tell: Callable[[LoadReport], None] = lambda report: None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, leaf), one leaf at a time on the host, adapted as `load` adapts them.

    The leaves have `dtype`, or else the file's own, and the report counts the values that are not finite in it. Before
    the last leaf comes `tell` is called with the report, which has no sha256.

    Raises:
        FileNotFoundError, ValueError: as `load` does.
    """
    with open_weights(path) as reader:
        held = reader.held(abstract)
        drawn, ignored = leaf_fit.decide(reader, held, abstract, allow_missing=allow_missing, allow_extra=allow_extra)
        nonfinite: dict[str, int] = {}
        for number, (name, target) in enumerate(abstract.items(), 1):
            if name in drawn:
                leaf, bad = leaf_fit.draw(name, target.shape), 0
            else:
                wanted = jax.ShapeDtypeStruct(target.shape, held.leaves[name].dtype)
                leaf, bad = _read_leaf(reader, name, wanted)
            if dtype is not None:
                with np.errstate(over="ignore"):  # they are counted
                    leaf = leaf.astype(dtype, copy=False)
                bad = count_nonfinite(leaf)
            nonfinite |= {name: bad} if bad else {}
            if number == len(abstract):  # a caller may stop after the last leaf
                tell(_report(reader, held, abstract, drawn=drawn, ignored=ignored, nonfinite=nonfinite))
            yield name, leaf


def save(path: PathLike, flat: Mapping[str, Any], *, dtype: Any = None, compress: bool = False) -> None:
    """Writes a native checkpoint, one leaf at a time; `path` is whole or untouched.

    The same leaves give the same bytes. bfloat16 is written as big_vision does, as raw 2-byte values.

    Args:
        path: the file, ending in `.npz`, by which the reference recognises native checkpoints.
        flat: {leaf name: array}, without `params/` in front.
        dtype: write every leaf in this dtype; None = in its own.
        compress: smaller and slower; weights shrink little.

    Raises:
        ValueError: if the path has another ending, or a leaf is not an array of floats.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"A native checkpoint's name must end in .npz; got {os.fspath(path)!r}. Rename it.")
    for name, leaf in flat.items():
        wanted = np.dtype(dtype if dtype is not None else getattr(leaf, "dtype", object))
        if wanted not in FLOATS or name.startswith(PREFIX):
            raise ValueError(
                f"A native checkpoint holds float arrays under names without {PREFIX!r}; got {name!r}, {wanted}. "
                "Flatten a nested tree with trees.flatten."
            )

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(flat):
            host = np.asarray(flat[name])
            yield f"{PREFIX}{name}", host if dtype is None else host.astype(dtype, copy=False)

    write_npz(path, arrays(), compress=compress)


def _load_leaf(reader: Weights, name: str, target: Any) -> tuple[jax.Array, int]:
    """One leaf on its device, and the number of its values that are not finite there.

    This is a separate function so that the host's copy is freed before the next leaf is read.
    """
    host, bad = _read_leaf(reader, name, target)
    return _put(host, target), bad


def _read_leaf(reader: Weights, name: str, target: Any) -> tuple[np.ndarray, int]:
    """One leaf on the host in the target's shape, and the number of its values that are not finite in its dtype."""
    with np.errstate(over="ignore"):  # they are counted
        host, bad = reader.read(name, target)
    if bad and bad == host.size:
        raise ValueError(
            f"{reader.path}: every value of {name} is NaN, infinite or too large for {np.dtype(target.dtype)}, so this "
            "checkpoint answers nothing. Use an earlier one, or download it again."
        )
    if host.shape != tuple(target.shape) and name == layout_of([name]).position_embedding:
        host = leaf_fit.resample_pos_embedding(host, math.isqrt(target.shape[1]))
    elif host.shape[0] > target.shape[0]:
        host = host[: target.shape[0]]
    elif host.shape != tuple(target.shape):
        rows = leaf_fit.draw(name, (target.shape[0] - host.shape[0], target.shape[1]))
        host = np.concatenate([host, rows.astype(host.dtype)])
    return host, bad


def _put(host: np.ndarray, target: Any) -> jax.Array:
    """The array in the target's dtype and sharding, after the transfer is done."""
    with np.errstate(over="ignore"):  # reported by `_read_leaf`
        host = host.astype(target.dtype, copy=False)
    sharding = getattr(target, "sharding", None)
    if sharding is None:
        return jax.device_put(host, may_alias=True).block_until_ready()  # on the CPU it is not copied
    # Not device_put: each process gives its own part of a leaf on devices of several processes.
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index]).block_until_ready()
