"""Tests whether a map depends on what the model learnt: the same maps from a model with shuffled weights.

If a map looks the same after its model forgot everything, it shows the image or the architecture, not the model.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", sections 3.1 (parameter randomisation) and 3.2 (a model
trained on permuted labels). Instead of the latter, the runner trains a model on permuted images: questions and
answers remain a language to learn, but the image has no information about the answer.
"""

import re
import zlib

import jax
import jax.numpy as jnp

from radvqa_jax.backbones.record import TreeNames
from radvqa_jax.trees import Flat


def towers(tree: TreeNames) -> dict[str, str]:
    """Name of a shuffled part -> its leaves, as a pattern."""
    language, vision = re.escape(tree.language_layers), re.escape(tree.vision)
    return {
        "language model": f"{language}/.*",
        "vision tower": f"{vision}/.*",
        "both towers": f"({language}|{vision})/.*",
    }


def shuffle_weights(params: Flat, pattern: str, *, seed: int) -> Flat:
    """The leaves; each one whose name matches the pattern has its values permuted.

    Each weight keeps its distribution, so activations keep their scale, but the layer loses what it learnt. Adapters
    and norms are leaves like any other.

    Raises:
        ValueError: if no leaf matches.
    """
    matching = {name for name in params if re.fullmatch(pattern, name)}
    if not matching:
        raise ValueError(f"No leaf matches {pattern!r}, so nothing would be shuffled.")
    key = jax.random.key(seed)

    def shuffled(name: str) -> jax.Array:
        leaf = jnp.asarray(params[name])
        # A hash of the name, not its place: the same leaf is shuffled alike with and without adapters.
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        return jax.random.permutation(own, leaf.ravel()).reshape(leaf.shape)

    return {name: shuffled(name) if name in matching else leaf for name, leaf in params.items()}
