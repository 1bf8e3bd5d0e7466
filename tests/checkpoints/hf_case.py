"""Weights of small models for the tests of Hugging Face folders."""

import functools
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from radvqa_jax.backbones import abstract_params
from radvqa_jax.models.variants import Variant, get_variant
from radvqa_jax.trees import Flat

DUMMY = get_variant("dummy")
GEMMA2 = replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=2, attn_softcap=50.0, post_norms=True))


@functools.cache
def shapes_of(variant: Variant) -> Flat:
    return abstract_params(variant)


def draw(variant: Variant, dtype: Any = np.float32) -> Flat:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=leaf.shape).astype(dtype) for name, leaf in shapes_of(variant).items()}


def wanted(variant: Variant, dtype: Any = np.float32) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in shapes_of(variant).items()}


def assert_equal(loaded: Flat, want: Flat) -> None:
    assert set(loaded) == set(want)
    for name, leaf in loaded.items():
        np.testing.assert_array_equal(np.asarray(leaf), want[name], err_msg=name)
