"""The known backbones, and models of them. docs/add_a_backbone.md describes how to add one."""

import jax
import jax.numpy as jnp

from radvqa_jax.backbones.paligemma import PALIGEMMA
from radvqa_jax.backbones.record import Backbone, TreeNames
from radvqa_jax.config import ModelConfig
from radvqa_jax.models.fused_attention import with_attention
from radvqa_jax.models.lora import Lora
from radvqa_jax.models.variants import Variant, get_variant
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.trees import Flat, flatten, nearest

__all__ = [
    "BACKBONES",
    "PALIGEMMA",
    "Backbone",
    "TreeNames",
    "abstract_params",
    "backbone_of",
    "configured_backbone",
    "fake_params",
    "make_model",
]

BACKBONES: dict[str, Backbone] = {record.name: record for record in (PALIGEMMA,)}

WIDE = 8192  # values of a position in the language model's MLP from which blocks of tokens save much memory


def backbone_of(variant: Variant) -> Backbone:
    """The record of a model of these sizes.

    Raises:
        ValueError: if there is no such backbone.
    """
    if variant.backbone not in BACKBONES:
        near = nearest(variant.backbone, BACKBONES)
        raise ValueError(
            f"model.variant: the backbone {variant.backbone!r} is unknown.{near} Known: {', '.join(BACKBONES)}."
        )
    return BACKBONES[variant.backbone]


def configured_backbone(config: ModelConfig) -> Backbone:
    """The record of the model that a configuration describes."""
    return backbone_of(get_variant(config.variant))


def make_model(config: ModelConfig, lora: Lora | None = None) -> VisionLanguageModel:
    """The model that a configuration describes."""
    dtype = jnp.dtype(config.compute_dtype)
    variant = with_attention(get_variant(config.variant).at(config.resolution), config.attention, dtype=dtype)
    remat = config.remat
    if remat == "auto":  # a stage chooses for itself (training/way.py); answering uses blocks if the MLP is wide
        remat = "blocks" if 2 * variant.llm.mlp_dim >= WIDE else "none"
    return backbone_of(variant).model(variant, lora, dtype, remat, config.remat_img or None, config.unroll)


def abstract_params(variant: Variant) -> Flat:
    """The names, shapes and float32 dtype of every leaf of the base tree, without computing anything."""
    model = backbone_of(variant).model(variant)
    resolution = variant.resolution
    image = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return flatten(jax.eval_shape(model.init, jax.random.key(0), image, tokens, tokens)["params"])


def fake_params(variant: Variant, *, seed: int = 0) -> Flat:
    """Random leaves N(0, 0.3) for tests; norms and biases too, so that no leaf leaves its input as it is."""
    shapes = abstract_params(variant)
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {name: 0.3 * jax.random.normal(key, shapes[name].shape) for name, key in zip(shapes, keys, strict=True)}
