"""Intervals: they have their coverage, images count and not questions, pairing narrows them, edge cases hold."""

import time

import jaxtyping
import numpy as np
import pytest
from scipy.stats import binomtest

from radvqa_jax.evaluation.intervals import mean_interval, paired_difference, resampled_sums, statistic_interval


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def simulate(rng: np.random.Generator, *, images: int, questions: int) -> tuple[np.ndarray, list[str]]:
    """Correctness with a strong effect of the image, mean 0.6, and image ids."""
    skill = rng.beta(1.2, 0.8, size=images)
    values = (rng.random((images, questions)) < skill[:, None]).astype(np.float64)
    return values.ravel(), [f"image{i}" for i in range(images) for _ in range(questions)]


def test_coverage_of_correlated_questions() -> None:
    rng = np.random.default_rng(0)
    trials, over_images, over_questions = 400, 0, 0
    for trial in range(trials):
        values, image_ids = simulate(rng, images=60, questions=6)
        low, high = mean_interval(values, image_ids, resamples=400, seed=trial).interval or (1, 0)
        over_images += low <= 0.6 <= high
        separate = [str(i) for i in range(len(values))]
        low, high = mean_interval(values, separate, resamples=400, seed=trial).interval or (1, 0)
        over_questions += low <= 0.6 <= high
    assert 0.91 <= over_images / trials <= 0.98
    assert over_questions / trials < 0.8  # what an interval over questions would claim


def test_repeated_questions_of_an_image_do_not_narrow_the_interval() -> None:
    values, image_ids = simulate(np.random.default_rng(1), images=50, questions=2)
    once = mean_interval(values, image_ids)
    repeated = mean_interval(np.tile(values, 9), image_ids * 9)
    assert repeated.n == 9 * once.n and repeated.n_images == once.n_images == 50
    assert repeated.interval == pytest.approx(once.interval, abs=1e-12)


def test_it_equals_a_plain_bootstrap_that_draws_images_one_by_one() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 6, size=40)
    image = np.repeat(np.arange(40), sizes)
    values = (rng.random(sizes.sum()) < 0.4).astype(np.float64)
    sums, counts = np.bincount(image, weights=values), sizes
    draws = rng.integers(40, size=(40_000, 40))
    plain = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), [0.025, 0.975])
    ours = mean_interval(values, [str(i) for i in image], resamples=40_000).interval
    assert ours == pytest.approx(plain, abs=0.01)


def test_resampled_sums_keep_what_belongs_together() -> None:
    rng = np.random.default_rng(8)
    values, image_ids = simulate(rng, images=30, questions=3)
    totals = resampled_sums(np.stack([values, 2 * values, np.ones(90)], axis=1), image_ids, resamples=500, seed=3)
    assert totals.shape == (500, 3) and (totals[:, 1] == 2 * totals[:, 0]).all() and (totals[:, 2] == 90).all()
    quantiles = np.quantile(totals[:, 0] / totals[:, 2], [0.025, 0.975])
    assert mean_interval(values, image_ids, resamples=500, seed=3).interval == pytest.approx(quantiles, abs=0.03)


def test_pairing_takes_the_image_out() -> None:
    rng = np.random.default_rng(3)
    a, image_ids = simulate(rng, images=80, questions=4)
    b = np.where(rng.random(len(a)) < 0.1, 0.0, a)  # the same answers, except for a few that became wrong
    paired = paired_difference(a, b, image_ids)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired.interval is not None and paired.interval[0] > 0
    assert width(paired.interval) < 0.6 * width(mean_interval(a, image_ids).interval)
    back = paired_difference(b, a, image_ids)
    assert back.value == pytest.approx(-paired.value)


def test_no_interval_from_one_image() -> None:
    estimate = mean_interval(np.array([1.0, 0.0, 1.0]), ["a", "a", "a"])
    assert estimate == (pytest.approx(2 / 3), None, 3, 1)


def test_all_right_is_not_certainty() -> None:
    ids = [str(i) for i in range(10)]
    right = mean_interval(np.ones(10), ids).interval
    assert right == pytest.approx((0.025**0.1, 1.0))  # Clopper-Pearson for 10 of 10: 0.692
    assert mean_interval(np.zeros(10), ids).interval == pytest.approx((0.0, 1 - 0.025**0.1))
    same = paired_difference(np.ones(10), np.ones(10), ids).interval
    assert same == pytest.approx((0.025**0.1 - 1, 1 - 0.025**0.1))


@pytest.mark.parametrize(("right", "images"), [(59, 60), (57, 60), (1, 60), (199, 200), (19, 20), (997, 1000)])
def test_near_degenerate_counts_are_not_narrower_than_the_exact_interval(right: int, images: int) -> None:
    values = np.array([1.0] * right + [0.0] * (images - right))
    ids = [str(i) for i in range(images)]
    exact = binomtest(right, images).proportion_ci(0.95, method="exact")
    found = mean_interval(values, ids).interval
    assert found is not None and found[0] <= exact.low + 1e-9 and found[1] >= exact.high - 1e-9
    assert width(found) < 1.25 * (exact.high - exact.low)
    draws = np.random.default_rng(0).binomial(images, right / images, 4000) / images
    assert width(found) > np.ptp(np.quantile(draws, [0.025, 0.975]))  # the bootstrap that it takes the place of


def test_one_wrong_answer_never_makes_the_interval_narrower_than_none() -> None:
    ids = [str(i // 6) for i in range(60)]
    none = mean_interval(np.ones(60), ids).interval
    one = mean_interval(np.array([0.0] + [1.0] * 59), ids).interval
    assert none is not None and one is not None and one[0] < none[0]


@pytest.mark.parametrize("images", [5, 10, 20])
@pytest.mark.parametrize("mean", [0.5, 0.8, 0.95])
def test_coverage_with_few_images(images: int, mean: float) -> None:
    rng = np.random.default_rng(images)
    trials, covered, resampled = 400, 0, 0
    for _trial in range(trials):
        skill = rng.beta(4 * mean, 4 * (1 - mean), size=images)  # the image matters
        values = (rng.random((images, 4)) < skill[:, None]).astype(np.float64)
        low, high = mean_interval(values.ravel(), np.repeat(np.arange(images), 4)).interval or (1, 0)
        covered += low <= mean <= high
        draws = values[rng.integers(images, size=(200, images))].mean(axis=(1, 2))
        low, high = np.quantile(draws, [0.025, 0.975])
        resampled += low <= mean <= high
    assert covered / trials >= 0.93
    assert covered >= resampled


@pytest.mark.parametrize("images", [5, 10, 20])
def test_coverage_of_differences_and_of_other_values_with_few_images(images: int) -> None:
    rng = np.random.default_rng(images)
    trials, rare, common, scores = 400, 0, 0, 0
    ids = np.repeat(np.arange(images), 4)
    for _ in range(trials):
        a = (rng.random(4 * images) < 0.7).astype(np.float64)
        for share, gain in ((0.05, 0.015), (0.5, 0.15)):
            b = np.where(rng.random(4 * images) < share, 0.4, -1)  # repeated with this probability
            b = np.where(b > 0, (rng.random(4 * images) < 0.4).astype(np.float64), a)
            low, high = paired_difference(a, b, ids).interval or (1, 0)
            rare, common = rare + (share < 0.1 and low <= gain <= high), common + (share > 0.1 and low <= gain <= high)
        low, high = mean_interval(rng.beta(2, 3, 4 * images), ids).interval or (1, 0)
        scores += low <= 0.4 <= high
    assert min(rare, common, scores) / trials >= 0.92


def test_values_too_small_for_a_variance_have_an_interval() -> None:
    for values in ([0.0] * 9 + [1e-232], [1e-232, 1e-155, 0.0, 1e-300, 1e-200, 5e-324] * 2, [1.0] * 9 + [1 - 1e-16]):
        found = mean_interval(np.array(values), [str(i) for i in range(len(values))]).interval
        assert found is not None and 0 <= found[0] <= np.mean(values) <= found[1] <= 1


@pytest.mark.parametrize("images", [13, 60])
def test_values_that_differ_by_nothing_count_as_equal(images: int) -> None:
    ids, tiny = [str(i) for i in range(images)], np.geomspace(1e-250, 1e-150, images)
    none = mean_interval(np.zeros(images), ids).interval
    assert mean_interval(tiny, ids).interval == pytest.approx(none, abs=1e-100)


@pytest.mark.parametrize("n", [200, 1000])
def test_an_interval_of_unequal_bounds_stays_within_them(n: int) -> None:
    """All right but two, of which one loses 0.01 n."""
    values, ids = np.ones(n), [str(i) for i in range(n)]
    values[:2] = 0, 1 - 0.01 * n
    estimate = mean_interval(values, ids, bounds=(-0.01 * n, 1.0))
    assert estimate.interval is not None
    assert estimate.value - 0.1 < estimate.interval[0] < estimate.value < estimate.interval[1] <= 1


def test_weights_count_as_repeated_questions_of_other_images() -> None:
    rng = np.random.default_rng(4)
    values, weights = (rng.random(80) < 0.6).astype(np.float64), rng.integers(1, 4, 80)
    ids = [str(i) for i in range(80)]
    weighted = mean_interval(values, ids, weights=weights.astype(np.float64), seed=1)
    repeated = mean_interval(np.repeat(values, weights), np.repeat(ids, weights), seed=1)
    assert weighted.value == pytest.approx(repeated.value) and weighted.n == 80
    assert weighted.interval == pytest.approx(repeated.interval)
    # All alike: one heavy image is little more than one.
    light = mean_interval(np.ones(10), ids[:10], weights=np.array([100.0] + [1.0] * 9)).interval
    even = mean_interval(np.ones(10), ids[:10], weights=np.full(10, 7.0)).interval
    assert even == pytest.approx((0.025**0.1, 1.0))
    assert light is not None and light[0] < 0.1 and light[1] == 1


def test_a_statistic_has_no_interval_where_resampling_is_too_narrow() -> None:
    def found(a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
        ids = [str(i) for i in range(len(a))]
        return statistic_interval(
            np.stack([a, b], axis=1), ids, lambda sums: sums[0] / sums[1] if sums[1] else np.nan, resamples=300
        )

    right, half = np.ones(60), np.arange(60) % 2.0
    interval = found(half, right)
    assert interval is not None and interval[0] < 0.5 < interval[1]
    assert found(half[:29], right[:29]) is None  # few images
    assert found(np.r_[np.zeros(9), np.ones(51)], right) is None  # few that differ
    assert found(right, right) is None and found(half * 1e-200, right) is None  # certain
    assert found(np.r_[half[:29], np.zeros(60)], np.r_[right[:29], np.zeros(60)]) is None  # the others say nothing


def test_an_interval_follows_from_its_seed_and_is_fast() -> None:
    values, image_ids = simulate(np.random.default_rng(4), images=1000, questions=5)
    start = time.perf_counter()
    first = mean_interval(values, image_ids, resamples=2000, seed=5)
    assert time.perf_counter() - start < 2
    assert first == mean_interval(values, image_ids, resamples=2000, seed=5)
    assert first != mean_interval(values, image_ids, resamples=2000, seed=6)


def test_real_valued_scores_in_chunks() -> None:
    values = np.random.default_rng(7).random(6000)
    estimate = mean_interval(values, [str(i) for i in range(6000)], resamples=1000)
    assert width(estimate.interval) == pytest.approx(2 * 1.96 * values.std() / 6000**0.5, rel=0.1)


def test_invalid_values_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 values and 1 image ids"):
        mean_interval(np.ones(2), ["a"])
    with pytest.raises(ValueError, match="got 0 values"):
        mean_interval(np.ones(0), [])
    with pytest.raises(ValueError, match=r"within \(0.0, 1.0\); got 2.0"):
        mean_interval(np.full(2, 2.0), ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([0.0, np.nan]), ["a", "b"])


def test_pairs_of_unequal_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(ValueError, match="got 1 and 3"):
        paired_difference(np.ones(1), np.ones(3), ["a", "b", "c"])
