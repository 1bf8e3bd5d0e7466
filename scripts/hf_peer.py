"""The same PaliGemma in Hugging Face's transformers: sizes, weights, batches. For benchmark_peers.py; needs `bench`."""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration  # pyright: ignore[reportMissingImports]

from radvqa_jax.models.variants import Variant
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

BLOCK = "img/Transformer/encoderblock"
IGNORED = -100  # the label of what is no target


def make_config(variant: Variant) -> PaliGemmaConfig:
    """Returns the configuration; the last token of the vocabulary stands for image tokens."""
    img, llm = variant.img, variant.llm
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": img.width,
        "intermediate_size": img.mlp_dim,
        "num_hidden_layers": img.depth,
        "num_attention_heads": img.num_heads,
        "image_size": variant.resolution,
        "patch_size": img.patch,
        "vision_use_head": False,
        "projection_dim": llm.width,
    }
    text = {
        "model_type": "gemma",
        "vocab_size": llm.vocab_size,
        "hidden_size": llm.width,
        "intermediate_size": llm.mlp_dim,
        "num_hidden_layers": llm.depth,
        "num_attention_heads": llm.num_heads,
        "num_key_value_heads": llm.num_kv_heads,
        "head_dim": llm.head_dim,
    }
    return PaliGemmaConfig(
        vision_config=vision, text_config=text, projection_dim=llm.width, image_token_index=llm.vocab_size - 1
    )


def state_dict(variant: Variant, flat: Flat) -> dict[str, torch.Tensor]:
    """Returns big_vision's leaves under transformers' names; torch's linear weights are [out, in]."""
    leaf = {name: np.asarray(value, np.float32) for name, value in flat.items()}
    out = {
        "model.vision_tower.embeddings.patch_embedding.weight": leaf["img/embedding/kernel"].transpose(3, 2, 0, 1),
        "model.vision_tower.embeddings.patch_embedding.bias": leaf["img/embedding/bias"],
        "model.vision_tower.embeddings.position_embedding.weight": leaf["img/pos_embedding"][0],
        "model.vision_tower.post_layernorm.weight": leaf["img/Transformer/encoder_norm/scale"],
        "model.vision_tower.post_layernorm.bias": leaf["img/Transformer/encoder_norm/bias"],
        "model.multi_modal_projector.linear.weight": leaf["img/head/kernel"].T,
        "model.multi_modal_projector.linear.bias": leaf["img/head/bias"],
        "model.language_model.embed_tokens.weight": leaf["llm/embedder/input_embedding"],
        "lm_head.weight": leaf["llm/embedder/input_embedding"],
        "model.language_model.norm.weight": leaf["llm/final_norm/scale"],
    }
    for i in range(variant.img.depth):
        out |= _vision_layer(variant, leaf, i)
    for i in range(variant.llm.depth):
        out |= _language_layer(variant, leaf, i)
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}


def _vision_layer(variant: Variant, leaf: Flat, i: int) -> dict[str, np.ndarray]:
    width, there = variant.img.width, f"model.vision_tower.encoder.layers.{i}"
    out = {}
    for ours, theirs in (("LayerNorm_0", "layer_norm1"), ("LayerNorm_1", "layer_norm2")):
        out[f"{there}.{theirs}.weight"] = leaf[f"{BLOCK}/{ours}/scale"][i]
        out[f"{there}.{theirs}.bias"] = leaf[f"{BLOCK}/{ours}/bias"][i]
    for name in ("query", "key", "value", "out"):
        theirs = f"{there}.self_attn.{'out' if name == 'out' else name[0]}_proj"
        kernel = leaf[f"{BLOCK}/MultiHeadDotProductAttention_0/{name}/kernel"][i]
        out[f"{theirs}.weight"] = kernel.reshape(width, width).T
        out[f"{theirs}.bias"] = leaf[f"{BLOCK}/MultiHeadDotProductAttention_0/{name}/bias"][i].reshape(width)
    for number in (0, 1):
        out[f"{there}.mlp.fc{number + 1}.weight"] = leaf[f"{BLOCK}/MlpBlock_0/Dense_{number}/kernel"][i].T
        out[f"{there}.mlp.fc{number + 1}.bias"] = leaf[f"{BLOCK}/MlpBlock_0/Dense_{number}/bias"][i]
    return out


def _language_layer(variant: Variant, leaf: Flat, i: int) -> dict[str, np.ndarray]:
    llm, there = variant.llm, f"model.language_model.layers.{i}"
    query = leaf["llm/layers/attn/q_einsum/w"][i]  # [N D H]
    key, value = leaf["llm/layers/attn/kv_einsum/w"][i]  # [K D H]
    gate, up = leaf["llm/layers/mlp/gating_einsum"][i]

    def rows(heads: np.ndarray) -> np.ndarray:
        return heads.transpose(0, 2, 1).reshape(-1, llm.width)

    return {
        f"{there}.self_attn.q_proj.weight": rows(query),
        f"{there}.self_attn.k_proj.weight": rows(key),
        f"{there}.self_attn.v_proj.weight": rows(value),
        f"{there}.self_attn.o_proj.weight": leaf["llm/layers/attn/attn_vec_einsum/w"][i].reshape(-1, llm.width).T,
        f"{there}.mlp.gate_proj.weight": gate.T,
        f"{there}.mlp.up_proj.weight": up.T,
        f"{there}.mlp.down_proj.weight": leaf["llm/layers/mlp/linear"][i].T,
        f"{there}.input_layernorm.weight": leaf["llm/layers/pre_attention_norm/scale"][i],
        f"{there}.post_attention_layernorm.weight": leaf["llm/layers/pre_ffw_norm/scale"][i],
    }


def make_model(variant: Variant, flat: Flat) -> PaliGemmaForConditionalGeneration:
    """Returns the model with these weights; every weight is given, and none is left over."""
    model = PaliGemmaForConditionalGeneration(make_config(variant))
    model.load_state_dict(state_dict(variant, flat), strict=True)
    return model


def inputs_of(variant: Variant, batch: Batch) -> dict[str, Any]:
    """Returns what the model's forward takes for a training batch: image tokens first, the last token only a target."""
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
    """Returns the token that each text position should predict, or IGNORED."""
    return torch.from_numpy(np.where(batch.mask_loss[:, 1:], batch.tokens[:, 1:], IGNORED).astype(np.int64))
