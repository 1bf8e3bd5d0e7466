"""Figures of a map against a mask, with their chance levels."""

import numpy as np
import pytest

from radvqa_jax.saliency.quality import areas_under_curves, centre_prior, coverage, edge_map, entropy, quality


def lesion(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("shape", [(40, 40), (37, 83), (5, 9)])
def test_a_flat_map_scores_chance(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.3
    found = quality(np.full((8, 8), 0.01), mask)
    assert found is not None
    assert found.mass == pytest.approx(mask.mean(), abs=1e-12)
    assert found.area == pytest.approx(mask.mean(), abs=1e-12)
    assert found.hit == pytest.approx(found.hit_chance)
    assert (found.roc_auc, found.pr_auc) == pytest.approx((0.5, found.area))


def test_a_map_on_the_lesion_scores_one_and_one_outside_scores_zero() -> None:
    mask = lesion(40, 80, slice(10, 20), slice(20, 40))  # exactly patch (1, 1) of a 4 x 4 grid
    saliency = np.zeros((4, 4))
    saliency[1, 1] = 0.2
    assert quality(saliency, mask) == pytest.approx((1.0, 0.0625, 1.0, 0.0625, 1.0, 1.0))
    found = quality(saliency[::-1], mask)
    assert found is not None and found[:4] == pytest.approx((0.0, 0.0625, 0.0, 0.0625))
    assert found.roc_auc == pytest.approx(0.5 * 14 / 15)  # ties with 14 patches, below one


def test_rows_are_not_columns() -> None:
    mask = lesion(40, 80, slice(30, 40), slice(0, 20))  # lower left
    saliency = np.zeros((4, 4))
    saliency[3, 0] = 1
    found = quality(saliency, mask)
    assert found is not None and (found.mass, found.hit) == (1.0, 1.0)
    found = quality(saliency.T.copy(), mask)
    assert found is not None and (found.mass, found.hit) == (0.0, 0.0)


def test_a_map_with_values_below_zero_is_counted_from_its_lowest() -> None:
    mask = lesion(40, 40, slice(10, 20), slice(20, 40))
    saliency = np.random.default_rng(0).random((4, 4))
    saliency -= saliency.min()
    expected = quality(saliency, mask)
    assert expected is not None and min(expected) >= 0 and max(expected) <= 1
    for below in (0.1, saliency.mean(), 2.0):  # the sum is above, at and below zero
        assert quality(saliency - below, mask) == pytest.approx(expected)


def test_a_mask_that_cuts_through_patches_counts_by_area() -> None:
    covered = coverage(lesion(10, 10, slice(0, 5), slice(0, 10)), grid=3)
    np.testing.assert_allclose(covered, [[1, 1, 1], [0.5, 0.5, 0.5], [0, 0, 0]], atol=1e-12)


def test_a_hit_is_at_the_centre_of_a_patch() -> None:
    saliency = np.zeros((4, 4))
    saliency[2, 1] = 1
    for rows, columns, hit in ((slice(25, 26), slice(30, 31), 1), (slice(20, 25), slice(20, 30), 0)):
        found = quality(saliency, lesion(40, 80, rows, columns))  # the patch is rows 20 to 29, columns 20 to 39
        assert found is not None and found.hit == hit


def test_ties_share_the_hit() -> None:
    mask = lesion(40, 40, slice(0, 10), slice(0, 10))
    saliency = np.zeros((4, 4))
    saliency[0, 0] = saliency[3, 3] = 0.5
    found = quality(saliency, mask)
    assert found is not None
    assert found[:4:2] == pytest.approx((0.5, 0.5))


def test_without_lesion_or_map_there_is_no_figure() -> None:
    assert quality(np.ones((4, 4)), np.zeros((40, 40), bool)) is None
    assert quality(np.zeros((4, 4)), np.ones((40, 40), bool)) is None
    assert quality(np.ones((4, 4)), np.ones((40, 40), bool)) is None


def test_areas_under_curves_are_those_over_pixels() -> None:
    """By counting all pairs of pixels, and all thresholds: 10 pixels a patch, some of them inside."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        values, inside = rng.integers(0, 4, 9).astype(float), rng.integers(0, 11, 9)
        pixels = np.repeat(values, 10)
        label = np.concatenate([np.arange(10) < count for count in inside])
        pairs = pixels[label][:, None] - pixels[~label][None]
        roc = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
        precision, recall, last = 0.0, 0.0, 0.0
        for threshold in sorted(set(values), reverse=True):
            chosen = pixels >= threshold
            recall = label[chosen].sum() / label.sum()
            precision += (recall - last) * label[chosen].mean()
            last = recall
        assert areas_under_curves(values, inside / 10) == pytest.approx((roc, precision))
    with pytest.raises(ValueError, match="need pixels inside and outside the mask"):
        areas_under_curves(np.ones(4), np.ones(4))


def test_blind_maps_look_where_they_say() -> None:
    prior = centre_prior(5)
    assert prior.argmax() == 12 and np.allclose(prior, prior.T) and prior[2, 2] / prior[2, 0] > 1.5
    image = np.zeros((20, 20, 3), np.float32)
    image[:, 10:] = 1  # one edge, between columns 9 and 10
    edges = edge_map(image, grid=5)
    assert (edges[:, 2] > 1).all() and np.abs(edges[:, [0, 1, 3, 4]]).max() == 0


def test_the_gradient_is_the_same_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 20, 3)).astype(np.uint8)
    whole = edge_map(image, grid=4)
    monkeypatch.setattr("radvqa_jax.saliency.quality.BAND", 7 * 20)
    assert np.allclose(edge_map(image, grid=4), whole, rtol=1e-12)


def test_entropy_is_one_for_an_even_map_and_zero_for_one_patch() -> None:
    one = np.zeros((4, 4))
    one[2, 1] = 3.0
    assert entropy(np.full((4, 4), 0.2)) == pytest.approx(1) and entropy(one) == 0
