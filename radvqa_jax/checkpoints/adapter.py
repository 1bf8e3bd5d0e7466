"""The files of a trained stage: `adapter.npz`, the changed leaves, and `adapter.json`, which describes them.

The leaves are trained base leaves (`img/head/kernel`) and adapters (`<weight>/lora_a`, `<weight>/lora_b`), float32.
The description says which base they belong to, and holds the sha256 of the `.npz`, so that a pair whose writing was
interrupted, or that was mixed from two stages, is detected.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from radvqa_jax import files, trees
from radvqa_jax.checkpoints.adapter_meta import REMEDY, AdapterMeta, Described, check_meta, read_meta, write_meta
from radvqa_jax.checkpoints.npz import FLOATS, NpzReader, PathLike, count_nonfinite, write_npz
from radvqa_jax.trees import Flat

NPZ, JSON = "adapter.npz", "adapter.json"
LORA_A, LORA_B = "/lora_a", "/lora_b"
KIND = "the adapter.npz of a stage"

Check = Callable[[Flat, AdapterMeta], None]  # raises ValueError if an adapter is not accepted


def no_check(shapes: Flat, meta: AdapterMeta) -> None:
    """Accepts every adapter."""


def save_adapter(folder: PathLike, leaves: Mapping[str, Any], meta: AdapterMeta) -> Path:
    """Writes `adapter.npz` and `adapter.json` into the folder; returns the path of the first.

    Raises:
        ValueError: if there is no leaf, a leaf is not a float array or has a value that is not finite, an adapter lacks
            one of its two factors, or a field of the description has an impossible value.
    """
    if not leaves:
        raise ValueError(
            "An adapter without leaves was to be saved. A stage must train something: see its train rules."
        )
    _check_factors(leaves, "The leaves to save")

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(leaves):
            yield name, _to_float32(name, leaves[name])

    path = Path(folder) / NPZ
    check_meta(meta, leaves)
    write_npz(path, arrays())
    # The description comes last: without it, or with an older one, the pair is refused.
    write_meta(path.with_name(JSON), meta, leaves=leaves, sha256=files.sha256(path))
    return path


def inspect_adapter(path: PathLike) -> tuple[dict[str, jax.ShapeDtypeStruct], AdapterMeta]:
    """({leaf name: shape}, meta) of an adapter without holding a value; errors are those of `load_adapter`."""
    npz = _find(path)
    with NpzReader(npz, kind=KIND, remedy=REMEDY) as reader:
        return reader.shapes, _check_pair(npz, reader).meta


def load_adapter(path: PathLike, *, check: Check = no_check) -> tuple[Flat, AdapterMeta]:
    """({leaf name: float32 numpy array}, meta) from `adapter.npz`, or the folder that holds it.

    Args:
        path: the file or the folder.
        check: called with the shapes and the meta before the first value is read; raises if they are not accepted.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: if a file is damaged, was changed or has an impossible value, the format is unknown, the two files
            do not belong together, or a leaf has a value that is not finite.
    """
    npz = _find(path)
    with NpzReader(npz, kind=KIND, remedy=REMEDY) as reader:
        meta = _check_pair(npz, reader).meta
        check(reader.shapes, meta)
        leaves = {name: reader.read(name) for name in reader.shapes}
    for name, leaf in leaves.items():
        if bad := count_nonfinite(leaf):
            raise ValueError(
                f"{npz}: {name} has {bad:,} NaN or infinite values of {leaf.size:,}, so this adapter answers nothing. "
                "Use the adapter of an earlier stage or step, or train the stage again."
            )
    return leaves, meta


def _find(path: PathLike) -> Path:
    """The path of adapter.npz, which may be named by its folder."""
    if not os.fspath(path):
        raise ValueError(f"The path of {KIND} is empty. {REMEDY}")
    npz = Path(path).expanduser()
    if not npz.is_dir():
        return npz
    if not (npz / NPZ).exists() and (inside := sorted(one.parent.name for one in npz.glob(f"*/{NPZ}"))):
        raise ValueError(
            f"{npz} is no adapter, but holds some: {', '.join(inside)}. Give one, such as {npz / inside[-1]}."
        )
    return npz / NPZ


def _check_pair(npz: Path, reader: NpzReader) -> Described:
    """The description of adapter.npz, after a check against the file."""
    described = npz.with_suffix(".json")
    if not described.exists():
        raise FileNotFoundError(f"{described} does not exist; it describes {npz.name}. {REMEDY}")
    text = read_meta(described)
    _check_leaves(described, reader, text.leaves)
    # Values are stored as they are, so that a small file cannot fill the memory.
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in reader.shapes.values())
    if held > (size := npz.stat().st_size):
        raise ValueError(f"{npz} is packed: {held:,} bytes of values in a file of {size:,}. {REMEDY}")
    if (digest := files.sha256(npz)) != text.sha256:
        raise ValueError(
            f"{described} describes another {npz.name} (sha256 {text.sha256[:16]}…, found {digest[:16]}…): one "
            f"of them was changed, or its writing was interrupted. {REMEDY}"
        )
    return text


def check_base(meta: AdapterMeta, sha256: str, *, name: str = "") -> None:
    """Raises ValueError if the adapter was trained on another base checkpoint than the one with this sha256.

    A PEFT adapter does not record the files on which it was trained, and passes.
    """
    if meta.base_sha256 and meta.base_sha256 != sha256:
        raise ValueError(
            f"The adapter of {meta.stage} was trained on {meta.base_name} (sha256 {meta.base_sha256[:16]}…), and not "
            f"on {name or 'this checkpoint'} (sha256 {sha256[:16]}…). Set model.checkpoint to the former, or train "
            f"{meta.stage} again on the latter."
        )


def _to_float32(name: str, leaf: Any) -> np.ndarray:
    host = np.asarray(leaf)
    if host.dtype not in FLOATS:
        raise ValueError(f"Leaf {name} must be a float array; got {host.dtype}. Flatten a nested tree first.")
    if bad := count_nonfinite(host, np.float32):
        raise ValueError(
            f"Leaf {name} has {bad:,} NaN or infinite values of {host.size:,}: training diverged, and nothing was "
            "saved. Go back to an earlier checkpoint, with a smaller learning rate."
        )
    return host.astype(np.float32, copy=False)


def _check_factors(names: Mapping[str, Any], what: str) -> None:
    """Raises ValueError if an adapter lacks one of its factors."""
    with_a = {name.removesuffix(LORA_A) for name in names if name.endswith(LORA_A)}
    with_b = {name.removesuffix(LORA_B) for name in names if name.endswith(LORA_B)}
    if lone := sorted(with_a ^ with_b):
        raise ValueError(f"{what} hold only one of lora_a and lora_b for {lone}. An adapter needs both: {REMEDY}")


def _check_leaves(path: Path, reader: NpzReader, described: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError, listing them, if the arrays of the file are not the described ones in float32."""
    want = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in described.items()}
    problems = trees.diff(reader.shapes, want)
    problems["not float32"] = [
        f"{name}: {leaf.dtype}" for name, leaf in reader.shapes.items() if leaf.dtype != np.float32
    ]
    found = [f"{kind} {lines}" for kind, lines in problems.items() if lines]
    if found:
        raise ValueError(f"{path} does not describe {reader.path.name}: {'; '.join(found)}. {REMEDY}")
    _check_factors(reader.shapes, f"The leaves of {reader.path}")
