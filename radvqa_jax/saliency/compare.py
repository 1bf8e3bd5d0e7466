"""Two maps of one image, one taken from the other: before and after adaptation, with and without stage 1, yes and no.

A difference has a sign: positive where the first map is larger. Maps of shares (raw attention, rollout) can be taken
from each other as they are. Relevancy and value norms have no unit, and two models may differ by a factor that means
nothing, so those are brought to sum one first, and the difference is one of pattern.

Two answers: the state that predicts the FIRST answer token has not seen the answer, so the raw map and the rollout of
"yes" and of "no" are equal there to the last bit; only later tokens and EOS can differ. What depends on the token from
the start is the gradient: `relevancy(..., contrast=ids)` asks why the one rather than the other.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from radvqa_jax.saliency.bundle import SHARES, VISION_SUFFIX, CaseBundle


def difference(
    a: Float[np.ndarray, "*lead grid grid"], b: Float[np.ndarray, "..."], *, normalise: bool = False
) -> Float[np.ndarray, "*lead grid grid"]:
    """Returns a - b, patch by patch.

    Args:
        a: maps of one model or answer.
        b: of the other, on the same image.
        normalise: bring each map to sum one first; a map that is zero everywhere stays zero.
    """
    if a.shape != b.shape:
        raise ValueError(f"Only maps of one image and size can be compared; got shapes {a.shape} and {b.shape}.")
    if not normalise:
        return a - b
    totals = [maps.sum(axis=(-2, -1), keepdims=True) for maps in (a, b)]
    first, second = (
        np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)
        for maps, total in zip((a, b), totals, strict=True)
    )
    return first - second


def compare_bundles(a: CaseBundle, b: CaseBundle, method: str) -> Float[np.ndarray, "grid grid"]:
    """Returns the difference of two cases' maps of the whole answer: two models, or two answers to one question.

    The mean over each answer's tokens is compared, EOS left out unless there is nothing else, so answers may differ in
    length. Maps without a unit are brought to sum one.
    """
    shares = method.removesuffix(VISION_SUFFIX) in SHARES
    return difference(whole_answer(a, method), whole_answer(b, method), normalise=not shares)


def whole_answer(bundle: CaseBundle, method: str) -> Float[np.ndarray, "grid grid"]:
    """Returns the mean map over the answer's tokens; EOS counts only if there is nothing else."""
    tokens = bundle.tokens(method)
    words = tokens[: len(tokens) - bundle.ended]
    return (words if len(words) else tokens).mean(axis=0)


def contrast_ids(
    answer: Sequence[int] | Int[np.ndarray, " A"], other: Sequence[int] | Int[np.ndarray, " Z"], *, size: int
) -> Int[np.ndarray, "1 {size}"]:
    """Returns the tokens of another answer beside those of `answer`, for `relevancy(..., contrast=...)`.

    Where the other answer has ended its last token goes on; past the answer the entries mean nothing.

    >>> contrast_ids([5, 6, 1], [9, 1], size=4).tolist()
    [[9, 1, 1, 1]]
    """
    if not len(other) or len(answer) > size:
        raise ValueError(f"Contrast needs another answer, and size={size} of at least the {len(answer)} answer tokens.")
    return np.array([[int(other[min(i, len(other) - 1)]) for i in range(size)]], np.int32)
