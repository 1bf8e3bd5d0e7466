"""Safetensors files, alone or as the shards of a folder: read tensor by tensor, written as a stream.

The safetensors package reads, without a memory map: pages of a mapped file would count as memory of the process, in
addition to the arrays made from them. This module writes by itself, because the package needs all tensors of a file in
memory at once. A file is 8 bytes with the length of the header, the header as JSON, and the values in its order.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from radvqa_jax import files
from radvqa_jax.checkpoints.npz import BFLOAT16, PathLike

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
ALIGNMENT = 8  # of the first value, in bytes

# The format's names of dtypes. No PaliGemma is stored in the others (eight-bit floats, complex numbers).
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


class SafetensorsReader:
    """The tensors of one `.safetensors` file, or of all files of a model folder; a context manager.

    Opening reads only the headers. Any fault is a ValueError that names the file and the way out.

    Args:
        path: a file, or a folder with `model.safetensors`, or with shards and (as is usual) their index.
        remedy: a sentence that says what to do if the files are not what they must be.
    """

    def __init__(self, path: PathLike, *, remedy: str) -> None:
        self.path = Path(path).expanduser()
        self._remedy = remedy
        self.files = find_files(self.path, remedy=remedy)
        self._stack = ExitStack()
        self._holders: dict[str, Any] = {}
        self.shapes: dict[str, jax.ShapeDtypeStruct] = {}
        try:
            for file in self.files:
                self._open(file)
            self._check_index()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SafetensorsReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; reading is then an error."""
        self._stack.close()

    def read(self, name: str) -> np.ndarray:
        """One tensor in the dtype of the file."""
        try:
            return self._holders[name].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{self.path}: the tensor {name!r} cannot be read ({error}). {self._remedy}") from error

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """The rows [start, stop) of one tensor in the dtype of the file."""
        try:
            return self._holders[name].get_slice(name)[start : min(stop, self.shapes[name].shape[0])]
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{self.path}: the tensor {name!r} cannot be read ({error}). {self._remedy}") from error

    def sha256(self) -> str:
        """The hash of the file; of several files, the hash of what `sha256sum` prints about them in order."""
        with ThreadPoolExecutor(2) as pool:
            digests = list(pool.map(files.sha256, self.files))
        if len(digests) == 1:
            return digests[0]
        lines = [f"{digest}  {file.name}\n" for digest, file in zip(digests, self.files, strict=True)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _open(self, file: Path) -> None:
        try:
            holder = self._stack.enter_context(safe_open(file, framework="np", backend="pread"))
            slices = {name: holder.get_slice(name) for name in holder.keys()}  # noqa: SIM118 it is not a mapping
        except (SafetensorError, OSError) as error:
            with file.open("rb") as stream:
                start = stream.read(24)
            raise ValueError(
                f"{file} is not a safetensors file, or it is cut short or damaged ({error}; it begins with {start!r}). "
                f"{self._remedy}"
            ) from error
        for name, part in slices.items():
            if name in self._holders:
                raise ValueError(f"{self.path} holds the tensor {name!r} in more than one file. {self._remedy}")
            if part.get_dtype() not in DTYPES:
                raise ValueError(
                    f"{file}: the tensor {name!r} has the dtype {part.get_dtype()}, and float16, bfloat16, float32 and "
                    "float64 are read. Give the model in one of these."
                )
            self._holders[name] = holder
            self.shapes[name] = jax.ShapeDtypeStruct(tuple(part.get_shape()), DTYPES[part.get_dtype()])

    def _check_index(self) -> None:
        """Raises ValueError if the index names a tensor that no file holds, or the other way round."""
        index = self.path / INDEX
        if not self.path.is_dir() or not index.is_file():
            return
        listed = set(files.read_json(index)["weight_map"])
        lacking, beside = sorted(listed - set(self.shapes)), sorted(set(self.shapes) - listed)
        if lacking or beside:
            raise ValueError(
                f"{index} does not describe the files in its folder: they lack {lacking[:5]} and also "
                f"have {beside[:5]} ({len(lacking)} and {len(beside)} tensors). {self._remedy}"
            )


def find_files(path: Path, *, remedy: str) -> list[Path]:
    """The safetensors files of a model: the file itself, or those of its folder.

    Raises:
        FileNotFoundError, ValueError: if there is none, or the index names one that is absent.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist. {remedy}")
    if (path / INDEX).is_file():
        index = files.read_json(path / INDEX)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
            raise ValueError(f"{path / INDEX} has no `weight_map` from tensors to files. {remedy}")
        names = sorted(set(map(str, index["weight_map"].values())))
        if outside := [name for name in names if Path(name).name != name]:
            raise ValueError(f"{path / INDEX} names files outside its folder: {outside[:3]}. {remedy}")
        if absent := [name for name in names if not (path / name).is_file()]:
            raise FileNotFoundError(f"{path} lacks {', '.join(absent)}, which {INDEX} names. {remedy}")
        return [path / name for name in names]
    found = [path / MODEL] if (path / MODEL).is_file() else sorted(path.glob("model-*.safetensors"))
    if found:
        return found
    held = sorted(item.name for item in path.iterdir())
    why = "; it holds pickled weights (.bin), which are never read" if any(n.endswith(".bin") for n in held) else ""
    raise FileNotFoundError(
        f"{path} holds no {MODEL} and no model-*.safetensors{why}. It holds: {', '.join(held[:8]) or 'nothing'}. "
        f"{remedy}"
    )


class Tensor(NamedTuple):
    """A tensor that is to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def write_file(path: PathLike, tensors: Sequence[Tensor], arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes one file, one tensor at a time; `path` is whole or untouched.

    Args:
        path: the file.
        tensors: what the file will hold, in order.
        arrays: (name, array) in the same order, in the same shapes and dtypes.
    """
    with files.atomic_write(path, "wb") as file:
        file.write(_header(tensors))
        _stream(file, tensors, iter(arrays), path)


def write_folder(
    folder: PathLike,
    tensors: Sequence[Tensor],
    arrays: Iterable[tuple[str, np.ndarray]],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes a model's tensors as one file or as shards with an index, one tensor at a time; returns the files.

    The names are those of transformers. Files of an earlier model in the folder are removed at the end.

    Args:
        folder: made if it is missing.
        tensors: what will be written, in order.
        arrays: (name, array) in the same order, in the same shapes and dtypes.
        shard_bytes: largest size of a file's values, unless one tensor has more.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _plan(tensors, shard_bytes)
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else [MODEL]
    stream = iter(arrays)
    for name, shard in zip(names, shards, strict=True):
        write_file(folder / name, shard, (next(stream) for _ in shard))
    if len(shards) > 1:
        where = {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = sum(tensor.nbytes for tensor in tensors)
        files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})
    else:
        (folder / INDEX).unlink(missing_ok=True)
    for old in [folder / MODEL, *folder.glob("model-*-of-*.safetensors")]:
        if old.name not in names:
            old.unlink(missing_ok=True)
    return [folder / name for name in names]


def _plan(tensors: Sequence[Tensor], shard_bytes: int) -> list[list[Tensor]]:
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


def _header(tensors: Sequence[Tensor]) -> bytes:
    header: dict[str, Mapping[str, Any]] = {"__metadata__": {"format": "pt"}}  # transformers refuses a file without
    place = 0
    for tensor in tensors:
        span = [place, place + tensor.nbytes]
        header[tensor.name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        place = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _stream(file: Any, tensors: Sequence[Tensor], arrays: Any, path: PathLike) -> None:
    for tensor in tensors:
        name, array = next(arrays)
        if (name, array.shape, array.dtype) != tuple(tensor):
            raise ValueError(f"{path}: {tensor} was to be written, and ({name}, {array.shape}, {array.dtype}) came.")
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
