"""The same PaliGemma in Hugging Face's transformers: sizes, weights, batches. For benchmark_peers.py; needs `bench`."""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration  # pyright: ignore[reportMissingImports]

from radvqa_jax.checkpoints import huggingface
from radvqa_jax.models.hf_config import config_of
from radvqa_jax.models.variants import Variant
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

IGNORED = -100  # the label of what is no target


def make_config(variant: Variant) -> PaliGemmaConfig:
    """The configuration; the last token of the vocabulary stands for image tokens."""
    return PaliGemmaConfig(**config_of(variant, image_token=variant.llm.vocab_size - 1, dtype="float32"))


def state_dict(flat: Flat) -> dict[str, torch.Tensor]:
    """big_vision's leaves under the names of transformers 5's own modules."""
    out: dict[str, np.ndarray] = {}
    for leaf, place in huggingface.places(flat).items():
        for name, tensor in huggingface.tensors(np.asarray(flat[leaf], np.float32), place):
            out[f"model.{name}"] = tensor
    out[huggingface.LM_HEAD] = out[f"model.{huggingface.EMBEDDING}"]
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}


def make_model(variant: Variant, flat: Flat) -> PaliGemmaForConditionalGeneration:
    """The model with these weights; every weight is given, and none is left over."""
    model = PaliGemmaForConditionalGeneration(make_config(variant))
    model.load_state_dict(state_dict(flat), strict=True)
    return model


def inputs_of(variant: Variant, batch: Batch) -> dict[str, Any]:
    """What the model's forward takes for a training batch: image tokens first, the last token only a target."""
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
