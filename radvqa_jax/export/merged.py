"""Base and what was trained, merged leaf by leaf from the original checkpoint: float32 arithmetic, one rounding."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from radvqa_jax.checkpoints.big_vision import iterate
from radvqa_jax.checkpoints.npz import PathLike
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.lora import Lora
from radvqa_jax.trees import Flat


class Merge(NamedTuple):
    """The inputs of a merge: the checkpoint, the model's leaves, and the leaves that differ from the checkpoint."""

    checkpoint: PathLike
    abstract: Flat  # shapes of the model's leaves
    trained: Mapping[str, Any]  # trained base leaves and adapter factors
    lora: Lora | None
    allow_missing: tuple[str, ...] = ()
    allow_extra: tuple[str, ...] = ()


def merged_leaves(merge: Merge, dtype: Any = None) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, leaf) of the merged model, one at a time.

    Args:
        merge: the base and what was trained.
        dtype: of the leaves; None = the checkpoint's own.
    """
    base = iterate(
        merge.checkpoint,
        merge.abstract,
        allow_missing=merge.allow_missing,
        allow_extra=merge.allow_extra,
    )
    for name, host in base:
        yield name, merge_leaf(name, host, merge, np.dtype(dtype or host.dtype))


def merge_leaf(name: str, host: np.ndarray, merge: Merge, dtype: np.dtype) -> np.ndarray:
    """One leaf with what was trained; layer by layer, so that no second copy of it in float32 exists."""
    if name in merge.trained:
        host = np.asarray(merge.trained[name], np.float32)
    if merge.lora is None or name not in merge.lora.targets:
        return host.astype(dtype, copy=False)
    a, b = (jnp.asarray(merge.trained[f"{name}{factor}"], jnp.float32) for factor in ("/lora_a", "/lora_b"))
    equation, scale = merge.lora.equation_of(name), merge.lora.scale
    if not lora_lib.is_layered(equation, host.ndim):
        return (host.astype(np.float32) + np.asarray(lora_lib.delta(equation, a, b, scale=scale))).astype(dtype)
    out = np.empty(host.shape, dtype)
    for layer in range(len(host)):
        change = lora_lib.delta(equation, a[layer], b[layer], scale=scale)
        out[layer] = (host[layer].astype(np.float32) + np.asarray(change)).astype(dtype)
    return out


def checksum(leaf: np.ndarray) -> int:
    """The CRC-32 of a leaf's bytes, to compare what was written with what is read again."""
    flat = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return zlib.crc32(flat.data)
