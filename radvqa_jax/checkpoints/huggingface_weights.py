"""A PaliGemma in Hugging Face's files, read as leaves of big_vision's tree; needs neither torch nor transformers."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np

from radvqa_jax.checkpoints import huggingface, layouts
from radvqa_jax.checkpoints.huggingface import EMBEDDING, LM_HEAD, Place
from radvqa_jax.checkpoints.npz import FLOATS, PathLike, aligned, count_nonfinite
from radvqa_jax.checkpoints.readers import Held
from radvqa_jax.checkpoints.safetensors_files import SafetensorsReader

# `<image>` and padding, which the Hub's files have after the 257,152 rows of the vocabulary: up to a multiple of 64.
SPARE_ROWS = 64
COLUMNS = 256  # copied at a time if axes change their order: small enough to stay in the cache
BLOCK_BYTES = 1 << 26

REMEDY = (
    "Set model.checkpoint to a whole Hugging Face folder of PaliGemma (config.json, model*.safetensors, "
    "tokenizer.model) or to its .safetensors file; if it is that, download it again."
)


class HuggingFaceWeights:
    """The tensors of a folder or file, under any of the names that transformers has used."""

    spare_rows = SPARE_ROWS

    def __init__(self, path: PathLike) -> None:
        self._files = SafetensorsReader(path, remedy=REMEDY)
        self.path = self._files.path
        self._names: dict[str, str] = {}  # canonical -> in the file
        self._places: dict[str, Place] = {}  # of the leaves that `held` gave, and
        self._leaves: dict[str, jax.ShapeDtypeStruct] = {}  # its answers
        try:
            for name in self._files.shapes:
                canonical = huggingface.canonical(name)
                if canonical in self._names:
                    raise ValueError(
                        f"{self.path} holds the same weight as {self._names[canonical]!r} and as {name!r}. {REMEDY}"
                    )
                self._names[canonical] = name
            if EMBEDDING not in self._names and LM_HEAD in self._names:
                self._names[EMBEDDING] = self._names.pop(LM_HEAD)  # tied, and stored once under the other name
        except BaseException:
            self._files.close()
            raise

    def __enter__(self) -> "HuggingFaceWeights":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """{canonical name: shape and dtype in the file}."""
        return {canonical: self._files.shapes[name] for canonical, name in self._names.items()}

    def held(self, want: Mapping[str, Any]) -> Held:
        """See Weights: heads are unfolded as the wanted leaves have them."""
        self._places = layouts.places(want)
        leaves: dict[str, jax.ShapeDtypeStruct] = {}
        problems: defaultdict[str, list[str]] = defaultdict(list)
        used = {LM_HEAD}
        for leaf, place in self._places.items():
            layers = self._count_layers(place)
            names = [name for _, name in huggingface.parts(place, layers)]
            used.update(names)
            there = [name for name in names if name in self._names]
            if not there:
                continue  # a missing leaf, which may be allowed
            if absent := sorted(set(names) - set(there)):
                problems["incomplete"].append(f"{leaf}: the file lacks {_few(absent)}")
            else:
                self._describe(leaf, place, names, want[leaf].shape, leaves, problems)
        self._check_lm_head(problems)
        rest = {self._names[name]: leaf for name, leaf in self.shapes.items() if name not in used}
        unused = {name for name in rest if huggingface.UNUSED.fullmatch(huggingface.canonical(name))}
        extra = {name: leaf for name, leaf in rest.items() if name not in unused}
        lines = tuple(f"{name} {rest[name].shape}: PaliGemma does not use it" for name in sorted(unused))
        self._leaves = leaves
        return Held(leaves, extra, dict(problems), lines)

    def read(self, name: str, target: Any) -> tuple[np.ndarray, int]:
        """See Weights: filled tensor by tensor, in the target's dtype unless the leaf must be adapted first."""
        place, have = self._places[name], self._leaves[name]
        host = aligned(have.shape, np.dtype(target.dtype if have.shape == tuple(target.shape) else have.dtype))
        sizes, bad = huggingface.axis_sizes(place, have.shape), 0
        for index, tensor_name in huggingface.parts(place, have.shape[0] if place.layered else 1):
            for rows, tensor in self._blocks(place, tensor_name):
                bad += count_nonfinite(tensor, target.dtype)
                copy_into(host[(*index, *rows)], huggingface.from_tensor(place, tensor, sizes))
        if place.names == (EMBEDDING,) and LM_HEAD in self._names:
            self._compare_tied()
        return host, bad

    def sha256(self) -> str:
        """The hash of the file, or one of all files (see SafetensorsReader)."""
        return self._files.sha256()

    def _count_layers(self, place: Place) -> int:
        """One more than the largest layer number among the tensors of a leaf; 1 where there are no layers.

        A number larger than the tensors allow is cut: some layer below it is then missing, which is an error.
        """
        if not place.layered:
            return 1
        patterns = [re.compile(re.escape(name).replace(re.escape(huggingface.LAYER), r"(\d+)")) for name in place.names]
        found = [int(hit[1]) for name in self._names for pattern in patterns if (hit := pattern.fullmatch(name))]
        return min(max(found, default=-1), len(self._names)) + 1

    def _describe(
        self,
        leaf: str,
        place: Place,
        names: list[str],
        want: tuple[int, ...],
        leaves: dict[str, jax.ShapeDtypeStruct],
        problems: defaultdict[str, list[str]],
    ) -> None:
        """Adds the leaf's shape from the tensors, or the reason why they do not give one."""
        shapes = self.shapes
        tensors = {shapes[name].shape for name in names}
        dtypes = {shapes[name].dtype for name in names}
        sizes = huggingface.axis_sizes(place, want)
        expected = huggingface.tensor_shape(place, want)
        unfolded = huggingface.unfold(place, next(iter(tensors)), sizes) if len(tensors) == 1 else None
        if unfolded is None:
            odd = next((name for name in names if shapes[name].shape != expected), names[0])
            problems["misshaped"].append(
                f"{leaf}: {self._names[odd]} has {shapes[odd].shape}, want {expected}"
                + (f"; {len(tensors)} shapes among {len(names)} tensors" if len(tensors) > 1 else "")
            )
            return
        if place.layered:
            unfolded[huggingface.LAYERS] = self._count_layers(place)
        if huggingface.STACKED in sizes:
            unfolded[huggingface.STACKED] = len(place.names)
        shape = tuple(unfolded.get(axis, 1) for axis in place.ours.split())
        unread = sorted(dtypes - set(FLOATS), key=str)  # one such tensor among floats is reported, too
        dtype = unread[0] if unread else dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
        leaves[leaf] = jax.ShapeDtypeStruct(shape, dtype)

    def _check_lm_head(self, problems: defaultdict[str, list[str]]) -> None:
        if LM_HEAD in self._names and EMBEDDING in self._names:
            head, table = self.shapes[LM_HEAD], self.shapes[EMBEDDING]
            if (head.shape, head.dtype) != (table.shape, table.dtype):
                problems["not tied"].append(
                    f"{self._names[LM_HEAD]} {head.shape} {head.dtype} and {self._names[EMBEDDING]} {table.shape} "
                    f"{table.dtype} must be the same weights"
                )

    def _blocks(self, place: Place, name: str) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Yields (rows, values) of a tensor: in blocks if nothing is reordered, so that a large table is never twice
        in memory; else (no rows, the whole tensor)."""
        shape = self.shapes[name].shape
        if place.theirs != place.part or not shape:
            yield (), self._files.read(self._names[name])
            return
        step = max(1, BLOCK_BYTES // max(1, int(np.prod(shape[1:])) * self.shapes[name].dtype.itemsize))
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),), self._files.read_rows(self._names[name], start, start + step)

    def _compare_tied(self) -> None:
        table = self._names[EMBEDDING], self._names[LM_HEAD]
        rows = self._files.shapes[table[0]].shape[0]
        step = max(1, rows // 16)
        for start in range(0, rows, step):
            one, other = (self._files.read_rows(name, start, start + step) for name in table)
            if one.tobytes() != other.tobytes():
                raise ValueError(
                    f"{self.path}: {table[0]} and {table[1]} differ, but PaliGemma embeds and predicts tokens with the "
                    f"same weights. Give a checkpoint whose word embeddings are tied. {REMEDY}"
                )


def copy_into(target: np.ndarray, source: np.ndarray) -> None:
    """Copies and casts; a transposed source in blocks of columns, which is twice as fast for large ones."""
    if target.dtype == source.dtype and target.dtype.itemsize == 2:
        target, source = target.view(np.uint16), source.view(np.uint16)
    if source.flags.c_contiguous or source.ndim < 2:
        target[...] = source
        return
    for start in range(0, source.shape[-1], COLUMNS):
        target[..., start : start + COLUMNS] = source[..., start : start + COLUMNS]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(huggingface.hub_name, names[:3])) + more
