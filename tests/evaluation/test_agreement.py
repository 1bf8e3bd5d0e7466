"""Cohen's kappa against figures worked out by hand, and its interval."""

import numpy as np
import pytest

from radvqa_jax.evaluation.agreement import cohen_kappa


def pairs(table: list[list[int]]) -> tuple[list[int], list[int]]:
    cells = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in cells], [j for _, j in cells]


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),  # observed 0.7, expected 0.5
        ([[45, 15], [25, 15]], 0.13043478),  # 0.6 and 0.54
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.49152542),  # Cohen 1960, table 1 in counts of 200: 0.7 and 0.41
        ([[0, 5], [5, 0]], -1.0),
    ],
)
def test_kappa_equals_figures_by_hand(table: list[list[int]], kappa: float) -> None:
    a, b = pairs(table)
    found = cohen_kappa(a, b, [str(i) for i in range(len(a))], resamples=200)
    assert found is not None and found.kappa == pytest.approx(kappa)
    assert found.interval is not None and found.interval[0] <= kappa <= found.interval[1]
    assert found.n == len(a) and found.agree == pytest.approx(np.trace(table) / np.sum(table))


def test_kappa_is_undefined_if_all_answers_are_the_same() -> None:
    found = cohen_kappa([1, 1, 1], [1, 1, 1], ["a", "b", "c"])
    assert found is not None and found.kappa is None and found.interval is None and found.agree == 1
    assert cohen_kappa([], [], []) is None
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        cohen_kappa([1], [1, 2], ["a"])


@pytest.mark.parametrize(("images", "flipped"), [(4, 0.0), (10, 0.03), (20, 0.1), (40, 0.03), (60, 0.2)])
def test_the_interval_contains_kappa_as_often_as_it_says(images: int, flipped: float) -> None:
    """Two raters, the second of which takes the first one's verdict but for a share of answers."""
    rng, covered, trials = np.random.default_rng(images), 0, 0
    for seed in range(200):
        a = rng.random(images) < 0.5
        b = np.where(rng.random(images) < flipped, ~a, a)
        found = cohen_kappa(a.tolist(), b.tolist(), [str(i) for i in range(images)], resamples=300, seed=seed)
        if found is not None and found.interval is not None:
            trials += 1
            low, high = found.interval
            covered += -1 <= low <= 1 - 2 * flipped <= high <= 1
            assert high - low > 1 / images  # never certain
    assert trials > 150 and covered / trials >= 0.92


def test_questions_on_one_image_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.5
    a = np.repeat(right, 10).tolist()
    b = np.repeat(np.where(rng.random(100) < 0.8, right, ~right), 10).tolist()  # agree or not by image
    widths = []
    for images in (np.repeat(np.arange(100), 10), np.arange(1000)):
        found = cohen_kappa(a, b, images.astype(str).tolist(), seed=1)
        assert found is not None and found.interval is not None
        widths.append(found.interval[1] - found.interval[0])
    assert widths[0] > 2.5 * widths[1]  # ten dependent answers are worth one: sqrt(10)
