"""The loss of tokens, rows and batches, against the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.training.loss import example_loss, row_weights, token_loss

LOGITS = 3 * jax.random.normal(jax.random.key(0), (2, 4, 7))
TARGETS = jnp.array([[1, 6, 0, 3], [2, 2, 5, 4]])
LOG_P = np.log(np.exp(np.asarray(LOGITS, np.float64)) / np.exp(np.asarray(LOGITS, np.float64)).sum(-1, keepdims=True))


def test_the_loss_of_a_token_is_its_surprise() -> None:
    expected = -np.take_along_axis(LOG_P, np.asarray(TARGETS)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(token_loss(LOGITS, TARGETS), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_label_smoothing_spreads_over_the_other_tokens(smoothing: float) -> None:
    soft = np.full(LOG_P.shape, smoothing / 6)
    np.put_along_axis(soft, np.asarray(TARGETS)[..., None], 1 - smoothing, axis=-1)
    np.testing.assert_allclose(soft.sum(-1), 1)
    loss = token_loss(LOGITS, TARGETS, label_smoothing=smoothing)
    np.testing.assert_allclose(loss, -(soft * LOG_P).sum(-1), rtol=1e-5)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = jnp.zeros((1, 1, 50_000), jnp.bfloat16)
    loss = token_loss(logits, jnp.zeros((1, 1), int))
    assert loss.dtype == jnp.float32
    assert float(loss[0, 0]) == pytest.approx(np.log(50_000), rel=1e-6)


def test_a_row_counts_the_mean_over_its_targets() -> None:
    loss = jnp.array([[1.0, 2.0, 3.0, 4.0]] * 3)
    mask_loss = jnp.array([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(example_loss(loss, mask_loss), [2.5, 4.0, 0.0])


MASK_LOSS = jnp.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]])
REAL = jnp.array([True, True, True, False])


def test_per_example_counts_every_real_row_the_same() -> None:
    np.testing.assert_allclose(row_weights(MASK_LOSS, REAL, "per_example"), [1 / 3, 1 / 3, 1 / 3, 0])


def test_per_token_counts_every_target_of_real_rows_the_same() -> None:
    weights = row_weights(MASK_LOSS, REAL, "per_token")
    np.testing.assert_allclose(weights, [2 / 7, 4 / 7, 1 / 7, 0])
    loss = jax.random.uniform(jax.random.key(0), (4, 4))
    total = (example_loss(loss, MASK_LOSS) * weights).sum()
    np.testing.assert_allclose(total, np.asarray(loss)[:3][np.asarray(MASK_LOSS[:3]) == 1].mean(), rtol=1e-6)


@pytest.mark.parametrize("weighting", ["per_example", "per_token"])
def test_a_batch_without_a_real_row_counts_nothing(weighting: str) -> None:
    weights = row_weights(MASK_LOSS, jnp.zeros(4, bool), weighting)
    assert weights.tolist() == [0, 0, 0, 0]
