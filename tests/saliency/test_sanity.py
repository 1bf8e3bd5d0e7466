"""Shuffled weights: everything learned is lost, and nothing else changes."""

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA
from radvqa_jax.saliency.sanity import shuffle_weights, towers

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
