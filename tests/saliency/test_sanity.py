"""Shuffled weights: everything learned is lost, and nothing else changes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA
from radvqa_jax.models.quantize import Quantize, dequantize, quantize
from radvqa_jax.saliency import sanity
from radvqa_jax.saliency.sanity import towers

shuffle_weights = partial(sanity.shuffle_weights, equations=PALIGEMMA.equations)
TOWERS = towers(PALIGEMMA.tree)
PARAMS = {
    "img/head/kernel": jnp.arange(12.0).reshape(3, 4),
    "llm/layers/mlp/linear": jnp.arange(40.0).reshape(2, 4, 5),
    "llm/layers/attn/q_einsum/w/lora_a": jnp.arange(30.0),
    "llm/embedder/input_embedding": jnp.arange(6.0),
}


def test_values_are_permuted_within_their_leaf() -> None:
    found = shuffle_weights(PARAMS, TOWERS["language model"], seed=0)
    assert found.keys() == PARAMS.keys()
    for name in ("llm/layers/mlp/linear", "llm/layers/attn/q_einsum/w/lora_a"):
        assert found[name].shape == PARAMS[name].shape
        assert sorted(np.ravel(found[name])) == sorted(np.ravel(PARAMS[name]))
        assert not np.array_equal(found[name], PARAMS[name])
    assert all(found[name] is PARAMS[name] for name in ("img/head/kernel", "llm/embedder/input_embedding"))


def test_the_shuffle_of_a_leaf_does_not_depend_on_the_others() -> None:
    alone = shuffle_weights({"img/head/kernel": PARAMS["img/head/kernel"]}, TOWERS["vision tower"], seed=3)
    both = shuffle_weights(PARAMS, TOWERS["both towers"], seed=3)
    assert np.array_equal(alone["img/head/kernel"], both["img/head/kernel"])
    assert not np.array_equal(
        both["img/head/kernel"], shuffle_weights(PARAMS, TOWERS["both towers"], seed=4)["img/head/kernel"]
    )


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"No leaf matches 'nothing/\.\*'"):
        shuffle_weights(PARAMS, "nothing/.*", seed=0)


@pytest.mark.parametrize(("kind", "layers", "bound"), [("nf4", 3, 0.4), ("int8", 0, 0.03)])
def test_the_weights_of_a_quantised_leaf_are_permuted_in_each_layer_and_rounded_again(
    kind: Quantize, layers: int, bound: float
) -> None:
    name = "llm/layers/mlp/linear"
    weight = jax.random.normal(jax.random.key(0), (layers, 128, 64) if layers else (128, 64))
    leaf = quantize(weight, kind, equation="BTF,FD->BTD")
    found: Any = shuffle_weights({name: leaf}, TOWERS["language model"], seed=0)[name]
    assert jax.tree.structure(found) == jax.tree.structure(leaf)
    before, after = (np.asarray(dequantize(part, jnp.float32)).reshape(max(layers, 1), -1) for part in (leaf, found))
    # Every layer keeps its distribution, to rounding, and nothing of its order.
    assert np.abs(np.sort(before) - np.sort(after)).max() < bound
    assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.1 for a, b in zip(before, after, strict=True))
