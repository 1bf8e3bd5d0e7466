"""The record of a backbone: everything about a model that other modules must know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from radvqa_jax.checkpoints.huggingface import Layout
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.lora import Equations
from radvqa_jax.models.variants import Variant
from radvqa_jax.models.vision_language import VisionLanguageModel

# Name of a leaf -> the mesh axes along each of its own; the first pattern that matches the whole name decides.
ShardingRules = tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...]
# (P, T) -> the place in the language model's sequence of each of the P image tokens, then of each of the T text tokens.
SequenceOrder = Callable[[int, int], Int[np.ndarray, " S"]]
# Pattern over the names of a layer's linear weights -> the names under which remat can keep their results.
Results = tuple[tuple[str, tuple[str, ...]], ...]


def image_first(num_patches: int, text_len: int) -> Int[np.ndarray, " S"]:
    """The sequence is the image tokens, then the text."""
    return np.arange(num_patches + text_len)


@dataclass(frozen=True)
class TreeNames:
    """The places of things in the tree of leaves, as names with `/`."""

    vision: str  # the branch of whatever decides the image tokens: vision tower and projector
    projector: str  # its branch
    vision_layers: str  # the scanned layers of a tower, one module for all of them
    language_layers: str
    vision_attention: str  # the module in them whose attention is tapped
    language_attention: str
    patch_embedding: str  # the leaf that makes patches of pixels


@dataclass(frozen=True)
class Backbone:
    """A family of models that differ in their sizes alone."""

    name: str  # `Variant.backbone`
    title: str  # for a reader
    model: type[VisionLanguageModel]
    tree: TreeNames
    equations: Equations  # of every linear weight; what has none can have no adapter and is not rounded
    sharding: ShardingRules
    results: Results
    # None = image tokens are not in the language model's sequence, which reads them by cross-attention. What is
    # trained and answered then needs nothing else; the attention maps of such a model are not written yet.
    sequence: SequenceOrder | None
    tokenizer: type[Tokenizer]  # which also knows the ids of a prompt
    layout: Layout  # of its leaves in checkpoint files; checkpoints/layouts.py lists it
    model_type: str  # in the config.json of a Hugging Face folder
    read_config: Callable[..., Variant]  # (parsed config.json, what=its path) -> the sizes that it describes
    write_config: Callable[..., dict[str, Any]] | None  # the reverse; None = no Hugging Face folder can be written
    infer: Callable[[Mapping[str, Any]], Variant]  # shapes of a native checkpoint -> the sizes that they tell
    # Values that a position of a layer has under each name of models/remat.py, by tower; `` is the layer's input.
    kept_values: Callable[[Variant], dict[str, dict[str, int]]]

    def tower_of(self, name: str) -> str:
        """`img` for leaves that decide the image tokens, `llm` for all others."""
        return "img" if name.startswith(f"{self.tree.vision}/") else "llm"

    def layers_of(self, tower: str) -> str:
        """The branch of a tower's layers, which ends in `/`."""
        return f"{self.tree.vision_layers if tower == 'img' else self.tree.language_layers}/"

    def is_projector(self, name: str) -> bool:
        """Whether a leaf, or an adapter of it, is the projector's."""
        return name.startswith(f"{self.tree.projector}/")
