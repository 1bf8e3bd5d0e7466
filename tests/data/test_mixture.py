"""The order of rows from several sources."""

import math

import numpy as np
import pytest

from radvqa_jax.config import SourceConfig
from radvqa_jax.data.mixture import Mixture, factor, plan_mixture, realised


def rise(kind: str, *points: tuple[float, float], **fields: object) -> SourceConfig:
    return SourceConfig(dataset="late", anneal=kind, points=points, **fields)  # pyright: ignore[reportArgumentType]


def drawn(mixture: Mixture, sources: int) -> np.ndarray:
    """[n + 1, sources]: rows of each source among the first n rows."""
    onehot = mixture.source[:, None] == np.arange(sources)
    return np.concatenate([np.zeros((1, sources), int), onehot.cumsum(0)])


def test_factors_follow_their_points() -> None:
    at = np.array([0.0, 0.2, 0.5, 0.7, 1.0])
    points = ((0.2, 1.0), (0.7, 3.0))
    assert factor(rise("piecewise", *points), at).tolist() == [1, 1, 1, 3, 3]
    np.testing.assert_allclose(factor(rise("linear", *points), at), [1, 1, 2.2, 3, 3])
    np.testing.assert_allclose(factor(rise("cosine", *points), at), [1, 1, 2 - math.cos(0.6 * math.pi), 3, 3])
    assert factor(rise("cosine", (0.5, 2.0)), at).tolist() == [2] * 5
    assert factor(SourceConfig(weight=7), at).tolist() == [1] * 5


@pytest.mark.parametrize("seed", range(8))
def test_every_prefix_is_within_about_a_row_of_its_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, total = int(rng.integers(2, 6)), int(rng.integers(50, 800))
    weights = rng.uniform(0.01, 1, n)
    mixture = plan_mixture([SourceConfig(weight=float(w)) for w in weights], sizes=[1] * n, total=total)
    want = np.arange(total + 1)[:, None] * weights / weights.sum()
    assert np.abs(drawn(mixture, n) - want).max() < (n + 1) / 2
    assert np.abs(drawn(mixture, n)[-1] - want[-1]).max() < 1  # and the total is only rounded


@pytest.mark.parametrize("kind", ["piecewise", "linear", "cosine"])
def test_shares_that_change_are_followed(kind: str) -> None:
    late = rise(kind, (0.5, 0.0), (1.0, 1.0))
    total = 2000
    mixture = plan_mixture([SourceConfig(), late], sizes=[1, 1], total=total)
    f = factor(late, (np.arange(total) + 0.5) / total)
    want = np.concatenate([[0], np.cumsum(f / (1 + f))])
    assert np.abs(drawn(mixture, 2)[:, 1] - want).max() < 1.5
    assert not (mixture.source[: total // 2] == 1).any()
    assert kind == "piecewise" or (mixture.source[-100:] == 1).mean() > 0.45


def test_the_rows_of_a_source_come_in_their_order() -> None:
    mixture = plan_mixture(
        [SourceConfig(weight=2), SourceConfig(), rise("linear", (0, 0), (1, 1))], sizes=[1] * 3, total=99
    )
    for number in range(3):
        position = mixture.position[mixture.source == number]
        assert position.tolist() == list(range(len(position)))


@pytest.mark.parametrize("anneal", [{}, {"anneal": "cosine", "points": ((0.3, 0.0), (1.0, 1.0))}])
@pytest.mark.parametrize("count", [1, 37, 200])
def test_counts_are_exact(count: int, anneal: dict[str, object]) -> None:
    counted = SourceConfig(count=count, **anneal)  # pyright: ignore[reportArgumentType]
    others = [SourceConfig(weight=0.3), SourceConfig(weight=0.7)]
    mixture = plan_mixture([others[0], counted, others[1]], sizes=[5, 5, 5], total=1000)
    have = drawn(mixture, 3)[-1].tolist()
    assert have[1] == count and sum(have) == 1000
    assert abs(have[0] - 0.3 * (1000 - count)) <= 1


def test_counts_alone_must_fill_the_stage() -> None:
    counted = [SourceConfig(count=30), SourceConfig(count=10)]
    assert drawn(plan_mixture(counted, sizes=[9, 9], total=40), 2)[-1].tolist() == [30, 10]
    with pytest.raises(ValueError, match=r"leave rows over: counts \[30, 10\], 41 rows"):
        plan_mixture(counted, sizes=[9, 9], total=41)
    with pytest.raises(ValueError, match=r"the stage draws 39 rows in all, and the counts are \[30, 10\]"):
        plan_mixture(counted, sizes=[9, 9], total=39)


def test_a_count_that_does_not_fit_where_it_should_come_is_an_error() -> None:
    late = rise("piecewise", (0.0, 0.0), (0.9, 1.0), count=200)
    with pytest.raises(ValueError, match=r"ask for 2\.00 rows in every row .* spread it over more of training"):
        plan_mixture([SourceConfig(), late], sizes=[5, 5], total=1000)


def test_a_time_without_any_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="no source has a weight above 0"):  # also with only one source
        plan_mixture([rise("linear", (0.0, 1.0), (0.5, 0.0))], sizes=[5], total=10)
    with pytest.raises(ValueError, match="no source has a weight above 0"):
        plan_mixture([rise("piecewise", (0.0, 0.0), (0.5, 1.0))] * 2, sizes=[5, 5], total=100)
    with pytest.raises(ValueError, match="its factor is 0 all along"):
        plan_mixture([SourceConfig(), rise("linear", (0.0, 0.0), count=3)], sizes=[5, 5], total=100)


def test_weights_by_row_show_every_row_equally_often() -> None:
    mixture = plan_mixture([SourceConfig(), SourceConfig()], sizes=[60, 20], total=240, weight_by="row")
    assert drawn(mixture, 2)[-1].tolist() == [180, 60]


def test_realised_shares_are_counted_from_what_was_drawn() -> None:
    mixture = plan_mixture([SourceConfig(weight=3), rise("piecewise", (0.5, 0.0), (0.7, 1.0))], sizes=[1, 1], total=200)
    first, second = realised(mixture, rows=160, sources=2)
    assert first["drawn"] + second["drawn"] == 160
    assert second["drawn"] == int((mixture.source[:160] == 1).sum())
    assert second["share_by_tenth"] == [0, 0, 0, 0, 0, 0, 0, 0.25]
    assert realised(mixture, rows=0, sources=2)[0] == {"drawn": 0, "share": 0.0, "share_by_tenth": []}
