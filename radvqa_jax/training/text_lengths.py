"""Pads the texts of a part to their own longest length instead of to the longest allowed one.

A part is computed at a time: it is the batch, or one of its `accumulate` parts. Its length is the first of a few fixed
ones that holds its longest row. All lengths are branches of one program, which chooses among them: nothing compiles
later, the order of examples does not change, and devices and processes that share the rows of a part take the same
branch, because the longest row of all of them decides.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from radvqa_jax.schema import Batch

STEP = 16  # lengths are multiples of it, so that tiles of the devices' matrix units stay whole
MOST = 3  # lengths of one program; each costs a compilation of the model
GAIN = 0.02  # share of the language model's positions that a further length must save


def round_up(positions: int, seq_len: int) -> int:
    """Rounds text positions up to a multiple of STEP, but not above `seq_len`.

    >>> round_up(33, 128), round_up(16, 128), round_up(19, 20)
    (48, 16, 20)
    """
    return min(math.ceil(positions / STEP) * STEP, seq_len)


def choose_lengths(longest: Sequence[int], *, limit: int, seq_len: int, fixed: int) -> dict[int, float]:
    """Chooses the lengths to which the parts of a stage are padded.

    The longest is `limit` rounded up. Shorter ones are added one by one, the one that saves most first, while each
    saves at least GAIN of all positions.

    Args:
        longest: text positions of the longest row of parts that stand for the stage.
        limit: text positions of its longest row of all.
        seq_len: text positions of a batch; no length is above it.
        fixed: further positions of a row, the same in all: those of the image.

    Returns:
        {length: share of the parts padded to it}, ascending; the shares sum to 1.
    """
    top = round_up(limit, seq_len)
    lengths, parts = [top], np.asarray(longest)
    while len(lengths) < MOST:
        cost = _mean_length(parts, lengths)
        found = [(_mean_length(parts, sorted([*lengths, length])), length) for length in range(STEP, top, STEP)]
        least, length = min(found, default=(cost, top))
        if cost - least < GAIN * (fixed + cost):
            break
        lengths = sorted([*lengths, length])
    counts = np.bincount(np.searchsorted(lengths, parts), minlength=len(lengths))
    return {length: float(count) / len(parts) for length, count in zip(lengths, counts, strict=True)}


def _mean_length(parts: np.ndarray, lengths: Sequence[int]) -> float:
    return float(np.asarray(lengths)[np.searchsorted(lengths, parts)].mean())


def which_length(batch: Batch, parts: int, lengths: Sequence[int]) -> Int[Array, " parts"]:
    """Finds, for each part of a batch, the index of the first of the ascending lengths that holds it.

    Part i has the rows i, i + parts, … of the batch. A row of n tokens needs n - 1 positions: its last token is only a
    target.
    """
    needed = batch.mask_input.sum(axis=1) - 1
    return jnp.searchsorted(jnp.asarray(lengths), needed.reshape(-1, parts).max(axis=0))


def cut_text(batch: Batch, length: int) -> Batch:
    """Cuts the texts of training rows to `length` positions, and the target after the last one."""
    if batch.tokens.shape[1] <= length + 1:
        return batch
    names = ("tokens", "mask_ar", "mask_loss", "mask_input")
    return batch._replace(**{name: getattr(batch, name)[:, : length + 1] for name in names})


def check_lengths(batch: Batch, lengths: Sequence[int], *, name: str) -> None:
    """Refuses a batch with a row that the longest of the ascending lengths does not hold.

    Raises:
        ValueError: naming the stage, the row and both lengths.
    """
    if not lengths or batch.tokens.shape[1] <= lengths[-1] + 1:
        return
    needed = np.asarray(batch.mask_input).sum(axis=1) - 1
    if needed.max() > lengths[-1]:
        raise ValueError(
            f"{name}: row {int(needed.argmax())} of a batch has {int(needed.max())} text positions, and the step was "
            f"compiled for {lengths[-1]} at most. Give text_lengths that end with the longest row, or none."
        )


def describe_lengths(shares: Mapping[int, float], seq_len: int) -> str:
    """Describes the padded lengths of a stage's texts in one line."""
    told = [f"{length} ({share:.0%} of the parts)" for length, share in shares.items()]
    return f"texts are padded to {', '.join(told)} positions, not to data.seq_len={seq_len}"
