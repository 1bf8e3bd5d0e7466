"""Decoding with a cache equals the full forward pass, for any length of the other rows."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.models.kv_cache import DecodeState
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS, Variant
from radvqa_jax.models.vision_language import variables

DUMMY = VARIANTS["dummy"]
KINDS = {
    "multi-query": DUMMY,
    "grouped, capped, post-norms": replace(
        DUMMY, llm=replace(DUMMY.llm, num_kv_heads=2, attn_softcap=2.0, post_norms=True)
    ),
    "fused": replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=4)),
}
IMAGE = jax.random.uniform(jax.random.key(0), (3, 8, 8, 3), minval=-1)
LENGTHS, WIDTH, NEW = (2, 5, 3), 5, 4
MASK_INPUT = jnp.arange(WIDTH)[None] < jnp.array(LENGTHS)[:, None]
PROMPT = jax.random.randint(jax.random.key(1), (3, WIDTH), 4, 64) * MASK_INPUT
ANSWER = jax.random.randint(jax.random.key(2), (3, NEW), 4, 64)
NO_AR = jnp.zeros_like(PROMPT)


@partial(jax.jit, static_argnames=("variant", "cache_dtype"))
def decoded(variant: Variant, prompt: jax.Array = PROMPT, *, cache_dtype: Any = None) -> tuple[jax.Array, DecodeState]:
    """(logits [B NEW+1 V] after the prompt and after each token of ANSWER, the state after the prefill)."""
    apply = partial(PaliGemma(variant).apply, variables(fake_params(variant)))
    logits, start = apply(IMAGE, prompt, NO_AR, MASK_INPUT, method="prefill", new_tokens=NEW, cache_dtype=cache_dtype)

    def step(state: DecodeState, token: jax.Array) -> tuple[DecodeState, jax.Array]:
        logits, state = apply(token, state, method="extend")
        return state, logits

    _, steps = jax.lax.scan(step, start, ANSWER.T)
    return jnp.concatenate([logits[:, None], steps.swapaxes(0, 1)], axis=1), start


def full(variant: Variant) -> list[np.ndarray]:
    """The same logits of each row from one forward pass over prompt and answer, without a cache."""
    tokens = np.zeros((3, WIDTH + NEW), np.int32)
    for row, length in enumerate(LENGTHS):
        tokens[row, : length + NEW] = [*PROMPT[row, :length], *ANSWER[row]]
    mask_ar = (jnp.arange(WIDTH + NEW)[None] >= jnp.array(LENGTHS)[:, None]).astype(int)
    forward = jax.jit(PaliGemma(variant).apply)
    logits = forward(variables(fake_params(variant)), IMAGE, jnp.asarray(tokens), mask_ar)
    return [np.asarray(logits)[row, length - 1 : length + NEW] for row, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("kind", KINDS)
def test_cached_decoding_is_the_full_forward_pass(kind: str) -> None:
    steps, _ = decoded(KINDS[kind])
    np.testing.assert_allclose(steps, full(KINDS[kind]), atol=2e-5)


def test_the_content_of_padding_is_never_read() -> None:
    steps, _ = decoded(DUMMY)
    other, _ = decoded(DUMMY, jnp.where(MASK_INPUT, PROMPT, 7))
    np.testing.assert_array_equal(other, steps)


def test_the_state_says_what_may_be_read_and_where_the_next_token_goes() -> None:
    _, state = decoded(DUMMY)
    patches = DUMMY.num_patches
    assert state.position.tolist() == [patches + length for length in LENGTHS]
    assert int(state.slot) == patches + WIDTH
    room = np.zeros((3, NEW), bool)
    expected = np.concatenate([np.ones((3, patches), bool), MASK_INPUT, room], axis=1)
    np.testing.assert_array_equal(state.readable, expected)
    assert state.cache.key.shape == (2, 3, patches + WIDTH + NEW, 1, 8)
    assert not np.asarray(state.cache.key)[:, :, patches + WIDTH :].any()


def test_the_cache_may_be_half_precision() -> None:
    exact, _ = decoded(DUMMY)
    half, state = decoded(DUMMY, cache_dtype=jnp.bfloat16)
    assert state.cache.key.dtype == state.cache.value.dtype == jnp.bfloat16
    assert half.dtype == np.float32
    error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert 1e-6 < error < 0.02


def test_samples_of_a_prompt_share_its_cache() -> None:
    _, state = decoded(DUMMY)
    repeated = state.repeat(2)
    order = np.repeat(np.arange(3), 2)
    np.testing.assert_array_equal(repeated.cache.key, np.asarray(state.cache.key)[:, order])
    np.testing.assert_array_equal(repeated.cache.value, np.asarray(state.cache.value)[:, order])
    np.testing.assert_array_equal(repeated.readable, np.asarray(state.readable)[order])
    np.testing.assert_array_equal(repeated.position, np.asarray(state.position)[order])
