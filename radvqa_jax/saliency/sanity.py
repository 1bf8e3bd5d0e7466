"""Tests whether a map depends on what the model learnt: the same maps from a model with shuffled weights.

If a map looks the same after its model forgot everything, it shows the image or the architecture, not the model.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", sections 3.1 (parameter randomisation) and 3.2 (a model
trained on permuted labels). Instead of the latter, the runner trains a model on permuted images: questions and
answers remain a language to learn, but the image has no information about the answer.
"""

import re
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from radvqa_jax.backbones.record import TreeNames
from radvqa_jax.models.lora import Equations, equation_of, is_layered
from radvqa_jax.models.quantize import Quantize, dequantize, is_quantized, quantize
from radvqa_jax.trees import Flat


def towers(tree: TreeNames) -> dict[str, str]:
    """Name of a shuffled part -> its leaves, as a pattern."""
    language, vision = re.escape(tree.language_layers), re.escape(tree.vision)
    return {
        "language model": f"{language}/.*",
        "vision tower": f"{vision}/.*",
        "both towers": f"({language}|{vision})/.*",
    }


def shuffle_weights(params: Flat, pattern: str, *, seed: int, equations: Equations) -> Flat:
    """The leaves; each one whose name matches the pattern has its values permuted.

    Each weight keeps its distribution, so activations keep their scale, but the layer loses what it learnt. Adapters
    and norms are leaves like any other. The weights of a quantised leaf are permuted within each layer and rounded
    again: with the codes alone permuted, each block would keep its scale, which is learnt as well.

    Args:
        params: the flat tree.
        pattern: of whole names.
        seed: of the permutations.
        equations: of the backbone, by which quantised leaves are rounded again.

    Raises:
        ValueError: if no leaf matches.
    """
    matching = {name for name in params if re.fullmatch(pattern, name)}
    if not matching:
        raise ValueError(f"No leaf matches {pattern!r}, so nothing would be shuffled.")
    key = jax.random.key(seed)

    def shuffled(name: str) -> Any:
        # A hash of the name, not its place: the same leaf is shuffled alike with and without adapters.
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        if is_quantized(params[name]):
            return _permute_quantized(params[name], own, equation=equation_of(name, equations) or "")
        return _permute(jnp.asarray(params[name]), own)

    return {name: shuffled(name) if name in matching else leaf for name, leaf in params.items()}


def _permute(leaf: jax.Array, key: PRNGKeyArray) -> jax.Array:
    return jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape)


@partial(jax.jit, static_argnames=("equation",))
def _permute_quantized(leaf: Any, key: PRNGKeyArray, *, equation: str) -> Any:
    """The leaf with its weights permuted within each layer, of which one at a time is whole."""
    kind: Quantize = "nf4" if leaf.qtype == "nf4" else "int8"

    def one(part: tuple[Any, PRNGKeyArray]) -> Any:
        return quantize(_permute(dequantize(part[0], jnp.float32), part[1]), kind, equation=equation)

    if not is_layered(equation, len(leaf.shape)):
        return one((leaf, key))
    return jax.lax.map(one, (leaf, jax.random.split(key, leaf.shape[0])))
