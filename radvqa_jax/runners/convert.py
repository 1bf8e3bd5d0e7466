"""The mode that brings a checkpoint from one format into the other, unchanged."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax import files
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.npz import write_npz
from radvqa_jax.checkpoints.readers import PREFIX
from radvqa_jax.config import Config
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export import huggingface_folder
from radvqa_jax.export.export import NPZ, replacing
from radvqa_jax.export.merged import Merge, checksum, merged_leaves, summed
from radvqa_jax.models.paligemma import abstract_params
from radvqa_jax.models.variants import get_variant


def convert_mode(config: Config, workdir: Path) -> None:
    """Writes model.checkpoint as workdir/<format>, reads it again and compares every leaf bit for bit."""
    variant = get_variant(config.model.variant).at(config.model.resolution)
    abstract, path = abstract_params(variant), config.model.checkpoint
    tokenizer = Tokenizer(config.model.tokenizer) if config.model.tokenizer else None
    if tokenizer and tokenizer.vocab_size > variant.llm.vocab_size:
        raise ValueError(
            f"model.tokenizer={config.model.tokenizer} has {tokenizer.vocab_size} tokens, but the model embeds "
            f"{variant.llm.vocab_size}. Give the tokenizer that belongs to the checkpoint."
        )
    dtype = jnp.dtype(config.convert.dtype or big_vision.stored_dtype(path, abstract))
    merge = Merge(path, abstract, {}, None, config.model.allow_missing, config.model.allow_extra, config.seed)
    sums: dict[str, int] = {}
    leaves = summed(merged_leaves(merge, dtype), sums)
    folder = workdir / config.convert.format
    with replacing(folder) as part:
        if config.convert.format == "big_vision":
            write_npz(part / NPZ, ((f"{PREFIX}{name}", leaf) for name, leaf in leaves))
        else:
            image_token = huggingface_folder.image_token_of(variant, tokenizer)
            rows = huggingface_folder.folder_rows(variant, image_token)
            size = int(config.convert.shard_gb * 1e9)
            huggingface_folder.write_weights(part, leaves, abstract, dtype=dtype, rows=rows, shard_bytes=size)
            huggingface_folder.write_model_config(
                part, variant, image_token=image_token, dtype=str(dtype), new_tokens=config.decode.max_new_tokens
            )
        if tokenizer and config.convert.format == "huggingface":
            huggingface_folder.write_processor(part, variant, tokenizer)
        elif tokenizer:
            with files.atomic_write(part / "tokenizer.model", "wb") as file:
                file.write(tokenizer.model())
        _check(part / NPZ if config.convert.format == "big_vision" else part, abstract, dtype, sums)
    print(f"{folder}: {len(sums)} leaves in {dtype}, read again and equal bit for bit")
    if tokenizer and config.convert.format == "huggingface" and not tokenizer.is_bpe:
        print(huggingface_folder.UNIGRAM)
    if tokenizer is None:
        print("No model.tokenizer was given, so that the folder has none; models are asked through one.")


def _check(path: Path, abstract: dict[str, Any], dtype: Any, sums: dict[str, int]) -> None:
    """Raises ValueError, listing them, if leaves are not read as they were written."""
    want = {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in abstract.items()}
    changed = [name for name, leaf in big_vision.iterate(path, want) if checksum(np.asarray(leaf)) != sums[name]]
    if changed:
        raise ValueError(f"{path} was read again with other values of {changed}. Is the disk full or failing?")
