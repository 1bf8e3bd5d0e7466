"""Rollout is the product that the paper defines, in its order; maps are rows of the states that predicted a token."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.saliency.attention_rows import to_grid
from radvqa_jax.saliency.raw import raw_attention
from radvqa_jax.saliency.rollout import (
    discard_smallest,
    fold_layer,
    layer_matrix,
    rollout,
    rollout_maps,
    through_vision_tower,
)

NUMPY_FUSION = {"mean": np.mean, "max": np.max, "min": np.min}


def numpy_discard(row: np.ndarray, share: float) -> np.ndarray:
    """The row without its floor(share * readable) smallest readable entries."""
    readable = [index for index in np.argsort(row, kind="stable") if row[index] > 0]
    row = row.copy()
    row[readable[: int(share * len(readable) + 1e-9)]] = 0
    return row


def numpy_rollout(
    probs: np.ndarray, residual: float, head_fusion: str, start_layer: int, discard: float = 0.0
) -> np.ndarray:
    """The product Â_L … Â_start of full matrices in float64, one example at a time."""
    out = []
    for example in probs.astype(np.float64).swapaxes(0, 1):
        product = np.eye(probs.shape[-1])
        for heads in example[start_layer:]:
            fused = np.stack([numpy_discard(row, discard) for row in NUMPY_FUSION[head_fusion](heads, axis=0)])
            fused = fused / fused.sum(axis=-1, keepdims=True)
            product = (residual * np.eye(len(fused)) + (1 - residual) * fused) @ product
        out.append(product)
    return np.stack(out)


def random_probs(*shape: int, causal: bool = False) -> jax.Array:
    logits = jax.random.normal(jax.random.key(0), shape) * 2
    if causal:
        logits = jnp.where(
            jnp.tril(jnp.ones(shape[-2:], bool)).reshape((1,) * (len(shape) - 2) + shape[-2:]), logits, -1e30
        )
    return jax.nn.softmax(logits, axis=-1)


@pytest.mark.parametrize(
    "settings",
    [
        {"residual": 0.5, "head_fusion": "mean", "start_layer": 0},
        {"residual": 0.5, "head_fusion": "max", "start_layer": 0},
        {"residual": 0.5, "head_fusion": "min", "start_layer": 0},
        {"residual": 0.2, "head_fusion": "min", "start_layer": 1},
        {"residual": 0.0, "head_fusion": "mean", "start_layer": 2},
        {"residual": 0.5, "head_fusion": "mean", "start_layer": 0, "discard": 0.5},
        {"residual": 0.3, "head_fusion": "max", "start_layer": 1, "discard": 0.9},
    ],
)
def test_it_is_the_product_of_the_golden_matrices(either: Any, settings: dict[str, Any]) -> None:
    probs = either.io["attention_probs"]
    ours = rollout(jnp.asarray(probs), **settings)
    np.testing.assert_allclose(ours, numpy_rollout(probs, **settings), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.sum(-1), 1, rtol=0, atol=1e-5)


def test_discarding_acts_on_every_row_and_only_on_the_smallest() -> None:
    rows = jnp.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.4, 0.6], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]])
    half = discard_smallest(rows, 0.5).tolist()
    np.testing.assert_allclose(half[0], [0, 0, 0.3, 0.4])
    np.testing.assert_allclose(half[1], [0, 0, 0, 0.6])  # one of the two that it may read
    np.testing.assert_allclose(half[2], [0.25] * 4)  # none is smaller than another
    np.testing.assert_allclose(half[3], [0, 0, 0, 1])  # a row is never emptied
    probs = random_probs(3, 1, 2, 6, 6)
    with_discard = np.asarray(rollout(probs, discard=0.5))[0]
    assert (np.abs(with_discard - np.asarray(rollout(probs))[0]).max(axis=-1) > 1e-3).all()  # not one row alone


def test_the_vision_tower_moves_a_map_and_keeps_its_total() -> None:
    maps = jax.random.uniform(jax.random.key(0), (2, 5, 3, 3))
    rolled = rollout(random_probs(2, 1, 2, 9, 9))[0]
    found = through_vision_tower(maps, rolled)
    expected = np.einsum("baij,ijs->bas", maps, np.asarray(rolled).reshape(3, 3, 9)).reshape(2, 5, 3, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found.sum((-2, -1)), maps.sum((-2, -1)), rtol=1e-5)
    np.testing.assert_allclose(through_vision_tower(maps, jnp.eye(9)), maps, rtol=1e-6)


def test_later_layers_multiply_from_the_left() -> None:
    """Layer 1 moves token 0 into token 1, layer 2 token 1 into token 2: so token 2 has token 0 only in this order."""
    first, second = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    first[1], second[2] = [1, 0, 0], [0, 1, 0]
    forward = rollout(jnp.asarray(np.stack([first, second])[:, None, None]), residual=0.0)[0]
    assert forward.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    swapped = rollout(jnp.asarray(np.stack([second, first])[:, None, None]), residual=0.0)[0]
    assert swapped.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_identity_attention_rolls_out_to_the_identity() -> None:
    eye = jnp.broadcast_to(jnp.eye(6), (4, 2, 3, 6, 6))
    for head_fusion in NUMPY_FUSION:
        rolled = rollout(eye, head_fusion=head_fusion)
        assert np.array_equal(rolled, np.broadcast_to(np.eye(6), (2, 6, 6)))


def test_the_prefix_lm_mask_is_kept(either: Any) -> None:
    probs = jnp.asarray(either.io["attention_probs"])
    hidden = np.asarray((probs == 0).all(axis=(0, 2)))
    rolled = np.asarray(rollout(probs))
    assert hidden.any()
    assert (rolled[hidden] == 0).all()
    for row, first in enumerate(either.io["mask_loss"].argmax(axis=1)):
        patches_made_of_answer = rolled[row, :16, 16 + first :]
        assert (patches_made_of_answer == 0).all()


def test_rows_of_min_sum_to_one_and_disjoint_heads_read_themselves() -> None:
    heads = np.zeros((1, 2, 3, 3), np.float32)
    heads[0, :, 0] = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]  # they share token 1
    heads[0, :, 1] = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]  # they share nothing
    heads[0, :, 2] = [[0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]
    mixing = layer_matrix(jnp.asarray(heads), residual=0.5, head_fusion="min")
    np.testing.assert_allclose(mixing[0], [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1 / 6, 1 / 6, 2 / 3]], atol=1e-6)


def test_folding_layer_by_layer_is_the_same_as_rollout() -> None:
    probs = random_probs(4, 2, 3, 7, 7)
    rolled = jnp.broadcast_to(jnp.eye(7), (2, 7, 7))
    for layer in probs:
        rolled = fold_layer(rolled, layer, residual=0.3, head_fusion="max")
    np.testing.assert_allclose(rollout(probs, residual=0.3, head_fusion="max"), rolled, rtol=0, atol=1e-6)


def test_padding_on_the_right_changes_no_row_before_it() -> None:
    probs = random_probs(3, 1, 2, 9, 9, causal=True)
    whole, short = rollout(probs), rollout(probs[..., :6, :6])
    np.testing.assert_allclose(whole[:, :6, :6], short, rtol=0, atol=1e-6)
    assert (np.asarray(whole)[:, :6, 6:] == 0).all()


def test_a_map_is_the_row_of_the_state_that_predicted_the_token() -> None:
    """One layer over 4 patches and 4 text tokens; only the separator (row 5) looks at patch 2."""
    row = np.eye(8, dtype=np.float32)
    row[5] = 0
    row[5, 2] = 1
    probs, query = jnp.asarray(row[None, None, None]), jnp.array([[5, 6]])  # answer: tokens 6 and 7
    rolled = rollout_maps(rollout(probs, residual=0.25), query, num_patches=4)
    assert rolled[0].tolist() == [[[0, 0], [0.75, 0]], [[0, 0], [0, 0]]]
    raw = raw_attention(probs[:, :, :, jnp.array([5, 6])], num_patches=4)
    assert raw[0].tolist() == [[[0, 0], [1, 0]], [[0, 0], [0, 0]]]


def test_patches_are_in_row_major_order() -> None:
    assert to_grid(jnp.arange(6.0)[None], num_patches=4)[0].tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="num_patches=5 is not a square"):
        to_grid(jnp.arange(6.0)[None], num_patches=5)


def test_wrong_settings_are_refused() -> None:
    probs = random_probs(2, 1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"saliency.start_layer=2 must be one of the model's layers, 0 to 1"):
        rollout(probs, start_layer=2)
    with pytest.raises(ValueError, match=r"saliency.residual=1.5 must be in \[0, 1\]"):
        rollout(probs, residual=1.5)
    with pytest.raises(ValueError, match=r"saliency.head_fusion='median' must be one of mean, max, min"):
        rollout(probs, head_fusion="median")
    with pytest.raises(ValueError, match=r"saliency.discard=1 must be in \[0, 1\)"):
        rollout(probs, discard=1)
