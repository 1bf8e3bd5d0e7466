"""The arrays that the layers of a tower write while they are scanned: in `fold`, carried from layer to layer."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.models.attention import FOLD
from radvqa_jax.saliency.raw import chosen
from radvqa_jax.saliency.rollout import RolloutOptions, fold_rollouts


def nest(path: Sequence[str], leaves: dict[str, Any]) -> dict[str, Any]:
    """Variables of one module as a tree: ("a", "b") and {"x": 1} give {"a": {"b": {"x": 1}}}."""
    return leaves if not path else {path[0]: nest(path[1:], leaves)}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two trees of variables as one; they share branches, but no leaf."""
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys()}
    return one | other | both


def branch(tree: Any, path: Sequence[str]) -> Any:
    """The branch of a tree at a path of keys."""
    for name in path:
        tree = tree[name]
    return tree


class Buffers:
    """One tower's part of the collection `fold`: the arrays that its layers write into, and the way they do."""

    def __init__(self, depth: int, layers: Sequence[int] = ()) -> None:
        self.layers = chosen(layers, depth, field="saliency.layers")
        self.start: dict[str, Any] = {"layer": jnp.zeros((), jnp.int32)}
        # Layer -> its place in the buffers; -1 = it is not kept.
        self._place = np.array([self.layers.index(i) if i in self.layers else -1 for i in range(depth)])

    def add(self, name: str, *shape: int, dtype: Any = jnp.float32) -> None:
        self.start[name] = jnp.zeros((len(self.layers), *shape), dtype)

    def keep(self, module: nn.Module, name: str, new: jax.Array) -> None:
        """Writes one layer's array in its place; a layer that is not kept writes back the array that was there."""
        buffer, place = module.get_variable(FOLD, name), self._layer_of(module)[1]
        at = jnp.maximum(place, 0)
        old = jax.lax.dynamic_index_in_dim(buffer, at, keepdims=False)
        new = jnp.where(place >= 0, new.astype(old.dtype), old)
        module.put_variable(FOLD, name, jax.lax.dynamic_update_index_in_dim(buffer, new, at, 0))

    def fold(self, module: nn.Module, probs: jax.Array, options: RolloutOptions) -> None:
        layer, _ = self._layer_of(module)
        rolled = fold_rollouts(module.get_variable(FOLD, "rolled"), probs, layer, options=options)
        module.put_variable(FOLD, "rolled", rolled)

    def next_layer(self, module: nn.Module) -> None:
        module.put_variable(FOLD, "layer", module.get_variable(FOLD, "layer") + 1)

    def _layer_of(self, module: nn.Module) -> tuple[jax.Array, jax.Array]:
        layer = module.get_variable(FOLD, "layer")
        return layer, jnp.asarray(self._place)[layer]
