"""Dropout whose draws belong to a row of the batch, in however many parts the batch is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

_numbers: ContextVar[Array | None] = ContextVar("numbers", default=None)


@contextmanager
def numbered(numbers: Int[Array, " B"]) -> Iterator[None]:
    """Within the block, the rows of a batch have these numbers: their places in the whole batch of which they are part.

    Enter it inside the function that is traced: the numbers may be of that trace.
    """
    token = _numbers.set(numbers)
    try:
        yield
    finally:
        _numbers.reset(token)


def row_numbers(count: int) -> Int[Array, " B"]:
    """The numbers of `count` rows; where none are set they count from 0."""
    numbers = _numbers.get()
    return jnp.arange(count) if numbers is None else numbers


def draw_by_row(key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
    """Draws True with probability p for each value of x [B T …].

    A row draws from a key of its own, by its number in the whole batch: in how many parts that is computed changes
    nothing. Within a row a number depends on its place along the flat array [T …], so that what a position gets does
    not depend on how many follow it, and so not on how far a text is padded.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, row_numbers(shape[0]))
    return jax.vmap(lambda row: jax.random.bernoulli(row, p, shape[1:]))(keys)
