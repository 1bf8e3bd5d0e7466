"""Dropout whose draws belong to a row of the batch, independent of the parts in which the batch is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

_numbers: ContextVar[Array | None] = ContextVar("numbers", default=None)


@contextmanager
def numbered(numbers: Int[Array, " B"]) -> Iterator[None]:
    """Within the block, the rows of a batch have these numbers: their indices in the whole batch.

    Enter it inside the traced function: the numbers may belong to that trace.
    """
    token = _numbers.set(numbers)
    try:
        yield
    finally:
        _numbers.reset(token)


def row_numbers(count: int) -> Int[Array, " B"]:
    """The numbers of `count` rows; if they are not set, they count from 0."""
    numbers = _numbers.get()
    return jnp.arange(count) if numbers is None else numbers


def draw_by_row(key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
    """Draws True with probability p for each value of x [B T …].

    A row draws from its own key, by its number in the whole batch, so the division of the batch into parts changes
    nothing. Within a row a draw depends on its index in the flat array [T …], so that the draws of a position do not
    depend on the number of positions after it, and therefore not on the padding of a text.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, row_numbers(shape[0]))
    return jax.vmap(lambda row: jax.random.bernoulli(row, p, shape[1:]))(keys)
