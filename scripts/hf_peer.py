"""The same PaliGemma in Hugging Face's transformers: sizes, weights, batches. For peer_sides.py; needs `bench`."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration  # pyright: ignore[reportMissingImports]

from radvqa_jax.checkpoints import huggingface, layouts
from radvqa_jax.models.hf_config import config_of
from radvqa_jax.models.variants import Variant
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

IGNORED = -100  # the label of positions without a target


def make_config(variant: Variant, dtype: str = "float32") -> PaliGemmaConfig:
    """The configuration; the last token of the vocabulary stands for image tokens."""
    return PaliGemmaConfig(**config_of(variant, image_token=variant.llm.vocab_size - 1, dtype=dtype))


def state_dict(flat: Flat, dtype: str = "float32") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields big_vision's leaves, on the device they are on, under the names of transformers 5's own modules."""
    for leaf, place in layouts.places(flat).items():
        for name, tensor in huggingface.tensors(jnp.asarray(flat[leaf], dtype), place):
            yield f"model.{name}", torch.from_dlpack(tensor)
            if name == huggingface.EMBEDDING:
                yield huggingface.LM_HEAD, torch.from_dlpack(tensor)


def make_model(
    variant: Variant, flat: Flat, *, dtype: str = "float32", device: str = "cpu"
) -> PaliGemmaForConditionalGeneration:
    """The model with these weights; every weight is given, and none is left over.

    Raises:
        ValueError: if the names of the weights are not those of the model.
    """
    with torch.device(device):
        model = PaliGemmaForConditionalGeneration._from_config(make_config(variant, dtype), dtype=getattr(torch, dtype))
    want = dict(model.state_dict())
    # Copied one at a time: all of them would be a second model in the device's memory.
    with torch.no_grad():
        for name, tensor in state_dict(flat, dtype):
            if name not in want:
                raise ValueError(f"transformers' model has no weight {name}.")
            want.pop(name).copy_(tensor)
    if want:
        raise ValueError(f"transformers' model has weights that are not given: {sorted(want)[:3]}.")
    return model


def inputs_of(variant: Variant, batch: Batch) -> dict[str, Any]:
    """The model's inputs for a training batch: image tokens first, the last token only a target."""
    tokens = torch.from_numpy(np.asarray(batch.tokens[:, :-1], np.int64))
    suffix = torch.from_numpy(np.asarray(batch.mask_ar[:, :-1], np.int64))
    image = torch.full((len(tokens), variant.num_patches), variant.llm.vocab_size - 1)
    return {
        "input_ids": torch.cat([image, tokens], dim=1),
        "token_type_ids": torch.cat([torch.zeros_like(image), suffix], dim=1),  # 0 = bidirectional
        "attention_mask": torch.ones(len(tokens), image.shape[1] + tokens.shape[1], dtype=torch.int64),
        "pixel_values": torch.from_numpy(np.asarray(batch.image).transpose(0, 3, 1, 2).copy()),
    }


def targets_of(batch: Batch) -> torch.Tensor:
    """The token that each text position should predict, or IGNORED."""
    return torch.from_numpy(np.where(batch.mask_loss[:, 1:], batch.tokens[:, 1:], IGNORED).astype(np.int64))
