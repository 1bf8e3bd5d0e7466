"""The difference of two maps of one image: before and after adaptation, with and without stage 1, yes and no.

A difference has a sign: positive where the first map is larger. Maps of shares (raw attention, rollout) are subtracted
directly. Relevancy and value norms have no unit, and two models may differ by a meaningless factor, so these maps are
first scaled to sum one, and the difference is one of pattern.

Two answers: the state that predicts the FIRST answer token has not seen the answer, so the raw map and the rollout of
"yes" and of "no" are equal there to the last bit; only later tokens and EOS can differ. Only the gradient
depends on the token from the start: contrast.py compares the evidence for the one answer with that for the other.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.methods import METHODS, plain

OPPOSITES = {"yes": "no", "no": "yes"}


def difference(
    a: Float[np.ndarray, "*lead grid grid"], b: Float[np.ndarray, "..."], *, normalise: bool = False
) -> Float[np.ndarray, "*lead grid grid"]:
    """a - b, patch by patch.

    Args:
        a: maps of one model or answer.
        b: of the other, on the same image.
        normalise: first scale each map so that its absolute values sum to one; a map that is zero everywhere stays
            zero.
    """
    if a.shape != b.shape:
        raise ValueError(f"Only maps of one image and size can be compared; got shapes {a.shape} and {b.shape}.")
    if not normalise:
        return a - b
    totals = [np.abs(maps).sum(axis=(-2, -1), keepdims=True) for maps in (a, b)]
    first, second = (
        np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)
        for maps, total in zip((a, b), totals, strict=True)
    )
    return first - second


def compare_bundles(a: CaseBundle, b: CaseBundle, method: str) -> Float[np.ndarray, "grid grid"]:
    """The difference of two cases' maps of the whole answer: two models, or two answers to one question.

    The mean over each answer's tokens is compared, EOS left out unless there is nothing else, so answers may differ in
    length. Maps without a unit are scaled to sum one.
    """
    return difference(whole_answer(a, method), whole_answer(b, method), normalise=not METHODS[plain(method)].share)


def whole_answer(bundle: CaseBundle, method: str) -> Float[np.ndarray, "grid grid"]:
    """The mean map over the answer's tokens; EOS counts only if there is nothing else."""
    tokens = bundle.tokens(method)
    words = tokens[: len(tokens) - bundle.ended]
    return (words if len(words) else tokens).mean(axis=0)


def no_contrast(other: str) -> str:
    """The note on an answer that cannot be compared with `other`."""
    return f"There is no contrast with “{other}”: one answer is the beginning of the other."


def other_answer(answer: str, others: Sequence[str] = ()) -> str:
    """The answer to compare with: no for yes, yes for no, else the first of `others` that says
    something else, or an empty text.

    >>> other_answer("Yes"), other_answer("left lung", ["Left lung.", "right lung"]), other_answer("left lung")
    ('no', 'right lung', '')
    """
    said = normalize(answer)
    if said in OPPOSITES:
        return OPPOSITES[said]
    return next((other for other in others if normalize(other) not in ("", said)), "")
