"""Adapters in either format: those of this project's stages, or PEFT folders."""

from collections.abc import Mapping
from typing import Any

from radvqa_jax.checkpoints.adapter import Check, inspect_adapter, load_adapter, no_check
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.checkpoints.npz import PathLike
from radvqa_jax.checkpoints.peft import is_peft, load_peft
from radvqa_jax.trees import Flat


def inspect_any_adapter(path: PathLike, weights: Mapping[str, Any]) -> tuple[Flat, AdapterMeta]:
    """({leaf name: shape}, meta) of an adapter in either format; see `load_any_adapter`."""
    return load_peft(path, weights) if is_peft(path) else inspect_adapter(path)


def load_any_adapter(
    path: PathLike, weights: Mapping[str, Any], *, check: Check = no_check
) -> tuple[Flat, AdapterMeta]:
    """({leaf name: float32 array}, meta) of an `adapter.npz`, the folder that holds it, or a PEFT folder.

    Args:
        path: of the adapter.
        weights: flat tree of the base model; shapes suffice. A PEFT adapter is laid out for it.
        check: called with the leaves' shapes and the meta; raises if they are not accepted.

    Raises:
        FileNotFoundError, ValueError: if it has none of the three formats, is damaged, or cannot be translated.
    """
    if not is_peft(path):
        return load_adapter(path, check=check)
    leaves, meta = load_peft(path, weights)
    check(leaves, meta)
    return leaves, meta
