"""Deletion, insertion, shifts and similarity, on a model with known behaviour: it sees some patches and no others."""

import numpy as np
import pytest

from radvqa_jax.saliency import faithfulness

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
SEEN = np.array([[0, 1], [2, 3]])  # by image: its answer depends on these patches of a 2 x 2 grid, the first one most


def known_logprob(images: np.ndarray) -> np.ndarray:
    """log p that falls by 2 when the first of the seen patches is not the image's own, by 1 for the second."""
    out = []
    for image, original, seen in zip(images, IMAGES, SEEN, strict=True):
        kept = [np.array_equal(_patch(image, p), _patch(original, p)) for p in seen]
        out.append(-2.0 * (not kept[0]) - 1.0 * (not kept[1]))
    return np.array(out)


def _patch(image: np.ndarray, patch: int) -> np.ndarray:
    row, column = divmod(int(patch), 2)
    return image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]


def test_covering_puts_the_mean_colour_on_those_patches_alone() -> None:
    covered = np.array([[True, False, False, False], [False, False, False, True]])
    out = faithfulness.cover(IMAGES, covered)
    np.testing.assert_allclose(_patch(out[0], 0), np.broadcast_to(IMAGES[0].mean((0, 1)), (4, 4, 3)), rtol=1e-5)
    np.testing.assert_allclose(_patch(out[1], 3), np.broadcast_to(IMAGES[1].mean((0, 1)), (4, 4, 3)), rtol=1e-5)
    for image, patch in ((0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)):
        assert np.array_equal(_patch(out[image], patch), _patch(IMAGES[image], patch))


def test_curves_follow_the_order() -> None:
    curves = faithfulness.Curves(IMAGES, known_logprob, steps=4)
    deletion, insertion = curves.of(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]))
    p = np.exp(-np.arange(4.0))
    np.testing.assert_allclose(deletion, [[p[0], p[2], p[3], p[3], p[3]], [p[0], p[1], p[3], p[3], p[3]]])
    np.testing.assert_allclose(insertion, [[p[3], p[1], p[0], p[0], p[0]], [p[3], p[2], p[0], p[0], p[0]]])


def test_the_right_order_has_the_smallest_area_under_deletion_and_the_largest_under_insertion() -> None:
    curves = faithfulness.Curves(IMAGES, known_logprob, steps=4)
    right, wrong = np.array([[0, 1, 2, 3], [2, 3, 0, 1]]), np.array([[3, 2, 1, 0], [0, 1, 3, 2]])
    (right_down, right_up), (wrong_down, wrong_up) = curves.of(right), curves.of(wrong)
    assert (faithfulness.area(right_down) < faithfulness.area(wrong_down)).all()
    assert (faithfulness.area(right_up) > faithfulness.area(wrong_up)).all()
    assert faithfulness.area(np.array([[1.0, 0.5, 0.0]]))[0] == pytest.approx(0.5)


def test_orders_are_hottest_first() -> None:
    assert faithfulness.order(np.array([[[0.1, 0.4], [0.4, 0.2]]])).tolist() == [[1, 2, 3, 0]]
    drawn = faithfulness.random_orders(3, 16, seed=0)
    assert (np.sort(drawn, axis=1) == np.arange(16)).all() and len({tuple(row) for row in drawn.tolist()}) == 3


def test_shifts_move_by_one_pixel_each_way() -> None:
    up, down, left, right = faithfulness.shifts(IMAGES)
    assert np.array_equal(up[:, :-1], IMAGES[:, 1:]) and np.array_equal(up[:, -1], IMAGES[:, -1])
    assert np.array_equal(down[:, 1:], IMAGES[:, :-1]) and np.array_equal(left[:, :, :-1], IMAGES[:, :, 1:])
    assert np.array_equal(right[:, :, 1:], IMAGES[:, :, :-1])


def test_likeness_is_of_ranks() -> None:
    a = np.random.default_rng(1).random((3, 4, 4))
    b = np.stack([a[0] ** 3, -a[1], np.ones((4, 4))])
    np.testing.assert_allclose(faithfulness.similarity(a, b), [1, -1, 0], atol=1e-12)
