"""The mode that converts a checkpoint from one format to the other."""

from pathlib import Path

import jax
import jax.numpy as jnp

from radvqa_jax.backbones import abstract_params, backbone_of
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import Config
from radvqa_jax.export.export import check_inputs_stay, replacing
from radvqa_jax.export.huggingface_folder import UNIGRAM
from radvqa_jax.export.whole_model import check_written, write_model
from radvqa_jax.models.variants import get_variant


def convert_mode(config: Config, workdir: Path) -> None:
    """Writes model.checkpoint as workdir/<format>, reads it again and compares every leaf with what was written.

    Prints which leaves are not in the checkpoint as they were written.
    """
    model, format = config.model, config.convert.format
    folder = workdir / format
    check_inputs_stay(folder, {"model.checkpoint": model.checkpoint, "model.tokenizer": model.tokenizer})
    variant = get_variant(model.variant).at(model.resolution)
    abstract = abstract_params(variant)
    tokenizer = backbone_of(variant).tokenizer(model.tokenizer) if model.tokenizer else None
    if tokenizer and tokenizer.vocab_size > variant.llm.vocab_size:
        raise ValueError(
            f"model.tokenizer={model.tokenizer} has {tokenizer.vocab_size} tokens, but the model embeds "
            f"{variant.llm.vocab_size}. Give the tokenizer that belongs to the checkpoint."
        )
    dtype = jnp.dtype(config.convert.dtype or big_vision.stored_dtype(model.checkpoint, abstract))
    leaves = big_vision.iterate(
        model.checkpoint,
        abstract,
        allow_missing=model.allow_missing,
        allow_extra=model.allow_extra,
        dtype=dtype,
        tell=lambda report: print(report.text()),
    )
    with replacing(folder, conversion=True) as part:
        path, sums = write_model(
            part,
            leaves,
            abstract,
            format=format,
            dtype=str(dtype),
            variant=variant,
            tokenizer=tokenizer,
            new_tokens=config.decode.max_new_tokens,
            shard_gb=config.convert.shard_gb,
        )
        want = {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in abstract.items()}
        check_written(path, big_vision.iterate(path, want), sums)
    print(f"{folder}: {len(sums)} leaves in {dtype}, read again and bit for bit as they were written")
    if tokenizer and format == "huggingface" and not tokenizer.is_bpe:
        print(UNIGRAM)
    if tokenizer is None:
        print("No model.tokenizer was given, so that the folder has none; models are asked through one.")
