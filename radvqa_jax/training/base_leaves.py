"""The leaves of the base that stages load: which of them train, and the dtype and form in which each is kept."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from radvqa_jax import trees
from radvqa_jax.backbones import abstract_params, configured_backbone
from radvqa_jax.config import Config
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.quantize import is_quantized, quantize
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.optimizer import label_leaves
from radvqa_jax.trees import Flat


def adapter_shapes(adapters: lora_lib.Lora | None, params: Flat) -> Flat:
    """The shapes of the leaves of the adapters, if there are any."""
    if adapters is None:
        return {}
    return jax.eval_shape(lambda: lora_lib.init(jax.random.key(0), adapters, params))


def trained_names(config: Config, stages: tuple[str, ...], abstract: Flat) -> set[str]:
    """The base leaves that some stage trains; they are loaded in float32, the others in model.param_dtype."""
    names, equations = set[str](), configured_backbone(config.model).equations
    for name in stages:
        stage = config.stages[name]
        leaves = abstract | adapter_shapes(lora_lib.resolve(stage.lora, abstract, equations), abstract)
        labels = label_leaves(leaves, stage, what=f"stages.{name}.train")
        names |= {leaf for leaf in abstract if trees.is_trained(labels[leaf])}
    return names


def loaded_shapes(config: Config, stages: tuple[str, ...]) -> Flat:
    """The shape and dtype that each leaf of the base is loaded in, for these stages."""
    abstract = abstract_params(get_variant(config.model.variant).at(config.model.resolution))
    trained, frozen = trained_names(config, stages, abstract), jnp.dtype(config.model.param_dtype)
    return {
        name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32 if name in trained else frozen)
        for name, leaf in abstract.items()
    }


def _quantized_names(config: Config, leaves: Iterable[str]) -> set[str]:
    """The linear weights of both towers, if the configuration asks for quantisation.

    The projector between the towers is not quantised: it is small, and stage 1 trains it.
    """
    if config.model.quantize == "none":
        return set()
    backbone = configured_backbone(config.model)
    return {n for n in leaves if lora_lib.equation_of(n, backbone.equations) and not backbone.is_projector(n)}


def _quantize(config: Config, name: str, leaf: Any) -> Any:
    equation = lora_lib.equation_of(name, configured_backbone(config.model).equations)
    return quantize(leaf, config.model.quantize, equation=equation or "")


def keep_leaf(config: Config, stages: tuple[str, ...], loaded: Flat) -> Callable[[str, Any], Any]:
    """The function from (name, leaf as it was loaded) to the leaf that stays in memory.

    Leaves that a stage trains stay as they are. The models in which they are frozen take them from `quantize_frozen`.
    """
    names = _quantized_names(config, loaded) - trained_names(config, stages, loaded)
    return lambda name, leaf: _quantize(config, name, leaf) if name in names else leaf


def quantize_frozen(config: Config, params: Flat, *, trains: Collection[str] = ()) -> Flat:
    """The base of a model that trains some of its leaves: every other one that can be quantised is.

    It is the same for a stage alone and in a run whose other stages train more leaves, which `params` has in float32.
    """
    names = {n for n in _quantized_names(config, params) if not is_quantized(params[n])} - set(trains)
    dtype = jnp.dtype(config.model.param_dtype)  # in which a leaf that no stage trains is loaded
    return params | {name: _quantize(config, name, params[name].astype(dtype)) for name in sorted(names)}


def base_shapes(config: Config, stages: tuple[str, ...]) -> Flat:
    """The shape and dtype that each leaf of the base has in memory, for these stages."""
    loaded = loaded_shapes(config, stages)
    keep = keep_leaf(config, stages, loaded)
    return {name: jax.eval_shape(partial(keep, name), leaf) for name, leaf in loaded.items()}
