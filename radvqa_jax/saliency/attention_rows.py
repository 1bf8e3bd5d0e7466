"""Rows of attention matrices, and the image patches in them."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def take_rows(matrix: Float[Array, "*lead S Z"], query: Int[Array, "*index A"]) -> Float[Array, "*lead A Z"]:
    """Row query[..., a] of each matrix as row a; leading axes of size 1 in `query` are repeated."""
    lead = matrix.shape[:-2]
    return jnp.take_along_axis(matrix, jnp.broadcast_to(query, (*lead, query.shape[-1]))[..., None], axis=-2)


def to_grid(rows: Float[Array, "*B S"], *, num_patches: int) -> Float[Array, "*B grid grid"]:
    """The image patches of each row as a square, row by row from the upper left."""
    grid = round(num_patches**0.5)
    if grid * grid != num_patches:
        raise ValueError(f"num_patches={num_patches} is not a square, so the arrangement of the patches is unknown.")
    return rows[..., :num_patches].reshape(*rows.shape[:-1], grid, grid)
