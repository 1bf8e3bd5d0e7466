"""The tiled loss, against the plain one on full logits in float64."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.training.loss import position_weights, row_weights
from radvqa_jax.training.vocabulary_loss import vocabulary_loss, vocabulary_losses

ROWS, LENGTH, WIDTH, VOCABULARY = 3, 10, 8, 257_152
KEYS = jax.random.split(jax.random.key(0), 3)
STATES = jax.random.normal(KEYS[0], (ROWS, LENGTH, WIDTH))
TABLE = jax.random.normal(KEYS[1], (VOCABULARY, WIDTH))
TARGETS = jax.random.randint(KEYS[2], (ROWS, LENGTH), 0, VOCABULARY)
# Answers of three, ten and no tokens; the last row only fills the batch.
MASK = np.array([[0, 0, 1, 1, 1, 0, 0, 0, 0, 0], [1] * 10, [0] * 10])
REAL = jnp.array([True, True, False])


def weights_of(weighting: Any) -> jax.Array:
    return position_weights(jnp.asarray(MASK), row_weights(jnp.asarray(MASK), REAL, weighting))


def plain(states: Any, table: Any, weights: Any, smoothing: float) -> tuple[float, np.ndarray, np.ndarray]:
    """(loss, gradient of the states, gradient of the table) in float64, from full logits."""
    x, w = np.asarray(states, np.float64), np.asarray(table, np.float64)
    logits = x @ w.T
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    soft = np.full(log_p.shape, smoothing / (len(w) - 1))
    np.put_along_axis(soft, np.asarray(TARGETS)[..., None], 1 - smoothing, axis=-1)
    weight = np.asarray(weights, np.float64)[..., None]
    slope = weight * (np.exp(log_p) - soft)
    return float(-(weight * soft * log_p).sum()), slope @ w, np.einsum("btv,btd->vd", slope, x)


@pytest.mark.parametrize("weighting", ["per_example", "per_token"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_full_logits(weighting: str, smoothing: float) -> None:
    weights = weights_of(weighting)

    def loss(states: Any, table: Any) -> Any:
        return 3 * vocabulary_loss(states, table, TARGETS, weights, label_smoothing=smoothing, tile=9)

    found, (grad, table_grad) = jax.jit(jax.value_and_grad(loss, (0, 1)))(STATES, TABLE)
    expected, want, table_want = plain(STATES, TABLE, weights, smoothing)
    assert float(found) == pytest.approx(3 * expected, rel=1e-5)
    np.testing.assert_allclose(grad, 3 * want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table_grad, 3 * table_want, rtol=1e-4, atol=1e-6)
    assert (np.asarray(grad)[MASK == 0] == 0).all()
    # What is computed without a gradient is the same.
    assert float(jax.jit(loss)(STATES, TABLE)) == pytest.approx(float(found), rel=1e-6)


def test_the_losses_of_the_rows_are_their_parts_of_the_sum_and_no_more_logits_exist_than_a_tile_has() -> None:
    weights = weights_of("per_token")
    compiled = jax.jit(partial(vocabulary_losses, tile=3)).lower(STATES, TABLE, TARGETS, weights).compile()
    found = np.asarray(compiled(STATES, TABLE, TARGETS, weights))
    want = [plain(STATES, TABLE, np.asarray(weights) * (np.arange(ROWS) == row)[:, None], 0)[0] for row in range(ROWS)]
    np.testing.assert_allclose(found, want, rtol=1e-5)
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * ROWS * LENGTH * VOCABULARY / 2


@pytest.mark.parametrize("tile", [1, 4, 7, 1000])
def test_the_tile_changes_nothing(tile: int) -> None:
    weights = weights_of("per_example")
    value = jax.jit(lambda x: vocabulary_loss(x, TABLE[:500], TARGETS % 500, weights, tile=tile))
    want = vocabulary_loss(STATES, TABLE[:500], TARGETS % 500, weights, tile=30)
    assert float(value(STATES)) == pytest.approx(float(want), rel=1e-6)


def test_half_precision_products_are_summed_in_float32() -> None:
    weights = weights_of("per_token")
    half, table = STATES.astype(jnp.bfloat16), TABLE.astype(jnp.bfloat16)
    value, grad = jax.jit(jax.value_and_grad(lambda x: vocabulary_loss(x, table, TARGETS, weights)))(half)
    expected, want, _ = plain(half, table, weights, 0.0)
    assert value.dtype == jnp.float32
    assert grad.dtype == jnp.bfloat16
    assert float(value) == pytest.approx(expected, rel=1e-5)  # bfloat16 sums would be off in the third digit
    assert np.linalg.norm(np.asarray(grad, np.float64) - want) < 0.01 * np.linalg.norm(want)


def test_a_frozen_table_costs_no_gradient_and_full_logits_never_exist() -> None:
    weights = weights_of("per_example")

    def text(argnums: Any) -> str:
        grad = jax.grad(lambda x, w: vocabulary_loss(x, w, TARGETS, weights, tile=6), argnums)
        return str(jax.make_jaxpr(grad)(STATES, TABLE))

    frozen = text(0)
    assert f"f32[{ROWS},2,{VOCABULARY}]" in frozen
    assert f"f32[{ROWS},{LENGTH},{VOCABULARY}]" not in frozen
    assert frozen.count("dot_general") == 2  # logits, and the gradient of the states
    assert text((0, 1)).count("dot_general") == 3


def test_tiles_without_a_target_are_not_computed() -> None:
    # A NaN where nothing counts would reach the loss if its tile were computed: 0 * NaN is NaN.
    weights = jnp.zeros((ROWS, LENGTH)).at[:, 7].set(1.0)
    states = STATES.at[:, :7].set(jnp.nan).at[:, 8:].set(jnp.nan)
    value = vocabulary_loss(states, TABLE[:500], TARGETS % 500, weights, tile=ROWS)
    assert np.isfinite(float(value))


def test_on_a_mesh_a_tile_has_as_many_of_each_devices_positions() -> None:
    mesh = jax.sharding.AbstractMesh(
        (2, 2, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3
    )
    states, table, zeros = jnp.ones((4, 16, WIDTH)), TABLE[:8], jnp.zeros((4, 16), int)
    for turns, context in ((8, nullcontext()), (2, jax.sharding.use_abstract_mesh(mesh))):
        with context:
            text = str(jax.make_jaxpr(lambda x: vocabulary_loss(x, table, zeros, zeros * 1.0, tile=8))(states))
        assert f"length={turns}" in text
