"""Hugging Face files of a flat tree, under the names of any version of transformers; written without it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from radvqa_jax.checkpoints import huggingface, layouts
from radvqa_jax.files import write_json


def flat_name(name: str) -> str:
    """As transformers 5 saves a model that it built itself."""
    return name if name.startswith("lm_head") else f"model.{name}"


def module_name(name: str) -> str:
    """As transformers 4.52 names its modules."""
    return name if name.startswith("lm_head") else huggingface.module_name(name)


STYLES: dict[str, Callable[[str], str]] = {
    "hub": huggingface.hub_name,
    "4.52": module_name,
    "5": flat_name,
    "bare": lambda name: name,
}


def tensors_of(flat: Mapping[str, Any], style: str = "hub") -> dict[str, np.ndarray]:
    """{name: contiguous tensor}."""
    found: dict[str, np.ndarray] = {}
    for leaf, place in layouts.places(flat).items():
        for name, tensor in huggingface.tensors(np.asarray(flat[leaf]), place):
            found[STYLES[style](name)] = np.ascontiguousarray(tensor)
    return found


def write_folder(
    folder: Path, tensors: Mapping[str, np.ndarray], *, shards: int = 1, config: Mapping[str, Any] | None = None
) -> Path:
    """Writes tensors with the safetensors package, as one file or as shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(tensors)
    parts = [names[start::shards] for start in range(shards)]
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)] if shards > 1 else []
    for part, file in zip(parts, files or ["model.safetensors"], strict=True):
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    if files:
        where = {name: file for part, file in zip(parts, files, strict=True) for name in part}
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    if config is not None:
        write_json(folder / "config.json", dict(config))
    return folder
