"""The attention of a language model in one order of positions, image tokens and then text, whatever the model's own is.

All other files in `saliency` count positions in this way: the first P of S are image tokens, row by row.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Int

from radvqa_jax.backbones import backbone_of
from radvqa_jax.models.attention import Hook, Tapped
from radvqa_jax.models.variants import Variant
from radvqa_jax.models.vision_language import VisionLanguageModel


def attention_of(variant: Variant, tower: str) -> tuple[str, ...]:
    """The path of the attention of `img` or `llm` in the tree of variables."""
    tree = backbone_of(variant).tree
    return tuple((tree.vision_attention if tower == "img" else tree.language_attention).split("/"))


def is_vision(variant: Variant, module: nn.Module) -> bool:
    """Whether an attention is the vision tower's."""
    return module.path == attention_of(variant, "img")


def order_of(variant: Variant, text_len: int) -> Int[np.ndarray, " S"]:
    """The index of each image token, then of each text position, in the model's own sequence.

    Raises:
        ValueError: if image tokens are not in the sequence.
    """
    backbone = backbone_of(variant)
    if backbone.sequence is None:
        raise ValueError(
            f"{backbone.title} reads its image by cross-attention, which attention maps do not support yet. Train and "
            "answer with it, or use a model whose image tokens are in the sequence."
        )
    return backbone.sequence(variant.num_patches, text_len)


def in_order(model: VisionLanguageModel, text_len: int, hook: Hook) -> Hook:
    """A hook that sees the language model's attention in the order of this package, as one for `tapping`.

    The vision tower's attention is unchanged; the hook's result is put back into the model's own order.
    """
    order = order_of(model.variant, text_len)
    if np.array_equal(order, np.arange(len(order))):
        return hook
    back = np.argsort(order)

    def reordered(module: Tapped, probs: jax.Array, value: jax.Array, project: Any, *queries: jax.Array) -> jax.Array:
        if is_vision(model.variant, module):
            return hook(module, probs, value, project, *queries)
        moved = (x[:, order] for x in queries)
        used = hook(module, probs[..., order, :][..., order], value[:, order], project, *moved)
        return used[..., back, :][..., back]

    return reordered


def image_rows(model: VisionLanguageModel, text_len: int) -> Callable[[jax.Array], jax.Array]:
    """A function: states [B S D] in the model's own order -> those of the image tokens [B P D]."""
    count, order = model.variant.num_patches, order_of(model.variant, text_len)
    if np.array_equal(order[:count], np.arange(count)):
        return lambda states: states[:, :count]
    return lambda states: states[:, order[:count]]
