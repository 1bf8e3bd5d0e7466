"""A whole model, written leaf by leaf as mode=export and mode=convert write it, and what was written read again."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from radvqa_jax import files
from radvqa_jax.checkpoints.npz import write_npz
from radvqa_jax.checkpoints.readers import PREFIX
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export import huggingface_folder
from radvqa_jax.export.merged import checksum
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import Flat

NPZ = "model.npz"


def write_model(
    folder: Path,
    leaves: Iterator[tuple[str, np.ndarray]],
    abstract: Flat,
    *,
    format: Literal["huggingface", "big_vision"],
    dtype: str,
    variant: Variant,
    tokenizer: Tokenizer | None,
    new_tokens: int,
    shard_gb: float,
) -> tuple[Path, dict[str, int]]:
    """Writes a model into a folder.

    Args:
        folder: where to.
        leaves: (name, leaf) in the order of `abstract`, in `dtype`.
        abstract: shapes of the leaves.
        format: a folder as the Hub has it, or a native npz.
        dtype: of every leaf.
        variant: the model's sizes.
        tokenizer: of the model; without one the folder has none.
        new_tokens: of an answer, for generation_config.json.
        shard_gb: gigabytes of one file of a Hugging Face folder, at most.

    Returns:
        What a checkpoint is read from again, and the checksum of each leaf.
    """
    sums: dict[str, int] = {}

    def summed() -> Iterator[tuple[str, np.ndarray]]:
        for name, leaf in leaves:
            sums[name] = checksum(leaf)
            yield name, leaf

    if format == "big_vision":
        write_npz(folder / NPZ, ((f"{PREFIX}{name}", leaf) for name, leaf in summed()))
        if tokenizer is not None:
            with files.atomic_write(folder / huggingface_folder.TOKENIZER, "wb") as file:
                file.write(tokenizer.model())
        return folder / NPZ, sums
    image_token = huggingface_folder.image_token_of(variant, tokenizer)
    huggingface_folder.write_weights(
        folder,
        summed(),
        abstract,
        dtype=jnp.dtype(dtype),
        rows=huggingface_folder.folder_rows(variant, image_token),
        shard_bytes=int(shard_gb * 1e9),
    )
    huggingface_folder.write_model_config(folder, variant, image_token=image_token, dtype=dtype, new_tokens=new_tokens)
    if tokenizer is not None:
        huggingface_folder.write_processor(folder, variant, tokenizer)
    return folder, sums


def check_written(path: Path, leaves: Iterable[tuple[str, np.ndarray]], sums: Mapping[str, int]) -> None:
    """Raises ValueError, listing them, if leaves that were read again are not those that were written."""
    changed = [name for name, leaf in leaves if checksum(leaf) != sums[name]]
    if changed:
        raise ValueError(f"{path} was read again with other values of {changed}. Is the disk full or failing?")
