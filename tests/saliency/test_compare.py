"""Differences of two maps, and parts that an answer cannot change."""

import numpy as np
import pytest

from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.compare import compare_bundles, difference
from radvqa_jax.saliency.passes import PassOptions


def fake_bundle(seed: int, tokens: int) -> CaseBundle:
    """A bundle of random maps: 2 layers, 2 heads, 4 patches; the last token is EOS."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.random(shape).astype(np.float32)

    return CaseBundle(
        answer="",
        token_ids=np.arange(tokens, dtype=np.int32),
        logprobs=draw(tokens),
        words=[],
        prompt_ids=np.arange(3, dtype=np.int32),
        prompt_words=[],
        ended=True,
        image={"raw": draw(2, 2, tokens, 4), "relevancy": draw(tokens, 4)},
        text={},
        prompt={},
        layers={},
        vision_rollout=np.eye(4, dtype=np.float32),
        options=PassOptions(),
    )


def test_a_difference_has_a_sign_and_patterns_sum_to_zero() -> None:
    a, b = np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[0.5, 0.0], [0.5, 0.0]])
    assert difference(a, b).tolist() == [[0.5, 3.0], [-0.5, 0.0]]
    pattern = difference(a, b, normalise=True)
    assert pattern.tolist() == [[-0.25, 0.75], [-0.5, 0.0]]
    assert difference(a * 7, b, normalise=True) == pytest.approx(pattern)
    assert np.isfinite(difference(np.zeros((2, 2)), b, normalise=True)).all()
    with pytest.raises(ValueError, match=r"got shapes \(2, 2\) and \(3, 3\)"):
        difference(a, np.zeros((3, 3)))


def test_cases_are_compared_over_their_words() -> None:
    a, b = fake_bundle(0, 3), fake_bundle(1, 2)  # answers of different length
    expected = a.image["raw"][:, :, :2].mean((0, 1, 2)) - b.image["raw"][:, :, :1].mean((0, 1, 2))
    np.testing.assert_allclose(compare_bundles(a, b, "raw").ravel(), expected, rtol=1e-5, atol=1e-7)
    first, second = a.image["relevancy"][:2].mean(0), b.image["relevancy"][0]
    expected = first / first.sum() - second / second.sum()
    np.testing.assert_allclose(compare_bundles(a, b, "relevancy").ravel(), expected, rtol=1e-4, atol=1e-6)
