"""The tokens that may be drawn, compared with numpy, and their frequencies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding.sampling import keep_top_k, keep_top_p, sample

LOGITS = 2 * jax.random.normal(jax.random.key(0), (20, 17))
KEYS = jax.random.split(jax.random.key(0), 20)


def kept(logits: jax.Array) -> np.ndarray:
    return np.asarray(logits) > -1e29


def top_p_reference(logits: np.ndarray, p: float) -> np.ndarray:
    """A mask of the tokens in the smallest set, most likely first, whose probability reaches p."""
    inside = np.zeros(logits.shape, bool)
    for row, values in enumerate(logits.astype(np.float64)):
        probs = np.exp(values - values.max())
        probs /= probs.sum()
        mass = 0.0
        for token in np.argsort(-probs):
            inside[row, token] = True
            mass += probs[token]
            if mass >= p:
                break
    return inside


@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_top_k_keeps_the_k_largest(k: int) -> None:
    out = keep_top_k(LOGITS, k)
    ranks = np.argsort(np.argsort(-np.asarray(LOGITS), axis=1), axis=1)
    np.testing.assert_array_equal(kept(out), ranks < k)
    np.testing.assert_array_equal(np.asarray(out)[kept(out)], np.asarray(LOGITS)[kept(out)])


@pytest.mark.parametrize("k", [0, 17, 1000])
def test_top_k_keeps_all_where_there_are_not_more(k: int) -> None:
    np.testing.assert_array_equal(keep_top_k(LOGITS, k), LOGITS)


def test_top_k_keeps_ties_with_the_last_one() -> None:
    assert kept(keep_top_k(jnp.array([[1.0, 2.0, 1.0, 0.0]]), 2)).tolist() == [[True, True, True, False]]


def test_top_k_tells_neighbouring_numbers_apart_however_wide_the_range() -> None:
    near = [np.float32(x) for x in (-3.0, np.nextafter(np.float32(-3), np.float32(0)), 3.0)]
    values = np.array([-1e30, *near, np.nextafter(near[-1], np.float32(4)), 1e30], np.float32)
    for k in range(1, len(values)):
        np.testing.assert_array_equal(keep_top_k(jnp.array(values[None]), k)[0, -k:], values[-k:])
        assert kept(keep_top_k(jnp.array(values[None]), k)).sum() == k


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float) -> None:
    out = keep_top_p(LOGITS, p)
    np.testing.assert_array_equal(kept(out), top_p_reference(np.asarray(LOGITS), p))
    np.testing.assert_array_equal(np.asarray(out)[kept(out)], np.asarray(LOGITS)[kept(out)])


def test_top_p_of_one_keeps_all_and_never_keeps_none() -> None:
    np.testing.assert_array_equal(keep_top_p(LOGITS, 1.0), LOGITS)
    sure = jnp.array([[0.0, 100.0, 0.0]])
    assert kept(keep_top_p(sure, 1e-9)).tolist() == [[False, True, False]]
    # A set that reaches p exactly is complete.
    assert kept(keep_top_p(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), 0.5)).tolist() == [[True, False, False]]
    assert kept(keep_top_p(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), 0.51)).tolist() == [[True, True, False]]


def draw(n: int = 20_000, **config: Any) -> np.ndarray:
    """The share of each of four tokens among n draws."""
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), (n, 4))
    tokens = sample(logits, jax.random.split(jax.random.key(1), n), DecodeConfig(**config))
    return np.bincount(tokens, minlength=4) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    expected = np.array([0.4, 0.3, 0.2, 0.1]) ** (1 / temperature)
    np.testing.assert_allclose(draw(temperature=temperature), expected / expected.sum(), atol=0.015)


def test_filters_leave_the_proportions_of_what_they_keep() -> None:
    np.testing.assert_allclose(draw(temperature=1.0, top_k=2), [4 / 7, 3 / 7, 0, 0], atol=0.015)
    np.testing.assert_allclose(draw(temperature=1.0, top_p=0.8), [4 / 9, 3 / 9, 2 / 9, 0], atol=0.015)


def test_temperature_comes_before_top_p_and_top_k_before_top_p() -> None:
    # At temperature 3 the first two tokens hold 0.57 of the mass, at temperature 1 they hold 0.7.
    assert (draw(temperature=3.0, top_p=0.65) > 0).tolist() == [True, True, True, False]
    assert (draw(temperature=1.0, top_p=0.65) > 0).tolist() == [True, True, False, False]
    # Of the three tokens that top-k keeps the first holds 4/9, of all four only 0.4.
    assert (draw(temperature=1.0, top_k=3, top_p=0.42) > 0).tolist() == [True, False, False, False]
    assert (draw(temperature=1.0, top_p=0.42) > 0).tolist() == [True, True, False, False]


def test_temperature_zero_and_top_k_one_are_greedy() -> None:
    best = np.asarray(LOGITS).argmax(axis=1)
    np.testing.assert_array_equal(sample(LOGITS, KEYS, DecodeConfig()), best)
    np.testing.assert_array_equal(sample(LOGITS, KEYS, DecodeConfig(temperature=9.0, top_k=1)), best)


def test_the_key_decides_every_draw() -> None:
    config = DecodeConfig(temperature=2.0)
    first, again, other = (sample(LOGITS, jax.random.split(jax.random.key(seed), 20), config) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()


def test_a_row_draws_with_its_own_key_whatever_the_other_rows() -> None:
    config = DecodeConfig(temperature=2.0)
    whole = np.asarray(sample(LOGITS, KEYS, config))
    order = np.random.default_rng(0).permutation(20)[:7]
    np.testing.assert_array_equal(sample(LOGITS[order], KEYS[order], config), whole[order])
