"""The one attention, against loops in numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.models.attention import TAPS, Tapped, attend, attention_probs

B, T, S, K, G, H = 2, 3, 5, 2, 2, 4
N = K * G


def arrays(dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H)
    query, key, value = (jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=False))
    mask = jax.random.bernoulli(keys[3], 0.6, (B, T, S)).at[:, :, 0].set(True)
    return query, key, value, mask


def reference(query: jax.Array, key: jax.Array, mask: jax.Array, softcap: float) -> np.ndarray:
    """Probabilities [B N T S]: query head n reads key head n // G; the cap comes before the mask."""
    q, k, m = np.asarray(query, np.float64), np.asarray(key, np.float64), np.asarray(mask)
    probs = np.zeros((B, N, T, S))
    for b, n, t in np.ndindex(B, N, T):
        logits = k[b, :, n // G] @ q[b, t, n]
        logits = softcap * np.tanh(logits / softcap) if softcap else logits
        weights = np.exp(logits - logits.max()) * m[b, t]
        probs[b, n, t] = weights / weights.sum()
    return probs


@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_probabilities_are_the_definition(softcap: float) -> None:
    query, key, _, mask = arrays()
    probs = attention_probs(query, key, mask, softcap=softcap)
    np.testing.assert_allclose(probs, reference(query, key, mask, softcap), atol=1e-6)


def test_rows_sum_to_one_and_are_zero_where_masked() -> None:
    query, key, _, mask = arrays()
    probs = np.asarray(attention_probs(query, key, mask))
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-6)
    assert (probs[~np.broadcast_to(np.asarray(mask)[:, None], probs.shape)] == 0).all()


def test_no_mask_reads_everything() -> None:
    query, key, _, _ = arrays()
    everything = jnp.ones((B, T, S), bool)
    np.testing.assert_array_equal(attention_probs(query, key, None), attention_probs(query, key, everything))


def test_a_row_that_may_read_nothing_stays_finite() -> None:
    query, key, _, mask = arrays()
    probs = attention_probs(query, key, jnp.zeros_like(mask))
    np.testing.assert_allclose(probs, 1 / S, atol=1e-6)


def test_half_precision_keeps_a_float32_softmax() -> None:
    query, key, value, mask = arrays(jnp.bfloat16)
    probs = attention_probs(query, key, mask)
    assert probs.dtype == jnp.float32
    # The logits are not rounded to bfloat16 on the way: that alone would be an error of 4e-3.
    np.testing.assert_allclose(probs, reference(query, key, mask, 0.0), atol=1e-5)
    out, _ = Attends().apply({}, query, key, value, mask, mutable=[TAPS])
    assert out.dtype == jnp.bfloat16


class Attends(Tapped):
    """Calls `attend` as a layer does."""

    @nn.compact
    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
        return attend(self, query, key, value, attn_mask=mask)


def test_values_are_averaged_by_the_probabilities_of_their_group() -> None:
    query, key, value, mask = arrays()
    out = Attends().apply({}, query, key, value, mask)
    probs, v = reference(query, key, mask, 0.0), np.asarray(value)
    expected = np.stack([np.einsum("bts,bsh->bth", probs[:, n], v[:, :, n // G]) for n in range(N)], axis=2)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_tap_changes_nothing() -> None:
    query, key, value, mask = arrays()
    closed = Attends().apply({}, query, key, value, mask)
    out, taps = Attends().apply({}, query, key, value, mask, mutable=[TAPS])
    np.testing.assert_array_equal(out, closed)
    np.testing.assert_array_equal(taps[TAPS]["attn_probs"], attention_probs(query, key, mask))
