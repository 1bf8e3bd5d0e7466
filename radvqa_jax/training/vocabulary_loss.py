"""The loss over a large vocabulary without holding the logits of all positions (257,152 tokens for PaliGemma).

Logits are computed only for positions with a weight. In every row these are moved to the front, and positions are
processed in tiles; a tile in which no row has a weighted position is skipped. Every position is in some tile, so
nothing is ever left out: the result is that of `loss.token_loss` on full logits, whatever the answers' lengths. A tile
of A positions of B rows holds B A V float32 logits, which are freed before the next one.

The loss is linear in its own cotangent, so the gradient of the states is computed with the loss itself, from the same
logits, and only scaled in the backward pass: two products with the table a tile, none of them twice. The gradient of
the table exists only where the table is trained. Products run in the dtype of the states with float32 sums.

Cut cross-entropy (Wijmans et al. 2024) tiles the vocabulary as well, which needs a kernel; the fused linear
cross-entropy of Liger-Kernel (Hsu et al. 2024) is this one in Triton.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from radvqa_jax.models.activation_sharding import row_shares, shard_by_rows, shard_for_vocabulary
from radvqa_jax.models.blocks import block_size, cut, join

TILE = 512  # positions over a device's rows; products with the table are then bound by arithmetic, not by its bytes


class _Tiles(NamedTuple):
    """Positions cut into tiles, the weighted ones first in every row."""

    states: Float[Array, "X B A D"]
    targets: Int[Array, "X B A"]
    weights: Float[Array, "X B A"]


def vocabulary_loss(
    states: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    *,
    label_smoothing: float = 0.0,
    tile: int = TILE,
) -> Float[Array, ""]:
    """The sum over positions of weight times -log p of the target, in nats, float32.

    Args:
        states: from which logits are made; their dtype is that of the products.
        table: the token table; logits are states times its transpose.
        targets: the token that each position should predict.
        weights: of each position; 0 where there is no target. Their own gradient is not defined.
        label_smoothing: s gives the target 1 - s and every other token s / (V - 1).
        tile: positions whose logits exist at a time, over all rows of one device; at least one of each row.
    """
    tiles = _tiles(states, targets, jax.lax.stop_gradient(weights), tile)
    return _tiled(tiles.states, table.astype(states.dtype), tiles.targets, tiles.weights, label_smoothing)


def vocabulary_losses(
    states: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    *,
    tile: int = TILE,
) -> Float[Array, " B"]:
    """The sum of each row, with the arguments of `vocabulary_loss`; without a gradient."""
    tiles = _tiles(states, targets, weights, tile)
    return _by_row(_tile_losses(tiles, table.astype(states.dtype), 0.0))[:, 0]


def _tiles(
    states: Float[Array, "B T D"], targets: Int[Array, "B T"], weights: Float[Array, "B T"], tile: int
) -> _Tiles:
    """All positions in tiles of at most `tile` positions over the rows of a device, or one of each row."""
    order = jnp.argsort(weights == 0, axis=1, stable=True)
    take = partial(jnp.take_along_axis, indices=order, axis=1)
    moved = jnp.take_along_axis(states, order[..., None], axis=1)
    size = block_size(states.shape[1], max(1, tile * row_shares() // states.shape[0]))
    return _Tiles(cut(moved, size), cut(take(targets), size), cut(take(weights), size))


def _total(losses: Float[Array, "X B A"]) -> Float[Array, ""]:
    return _by_row(losses).sum()


def _by_row(losses: Float[Array, "X B A"]) -> Float[Array, "B 1"]:
    """The sum of each row over all tiles, identical bit for bit however many zeros follow in a row.

    A row's positions are added as a tree of neighbours: zeros after them only add zeros to its branches. A plain sum is
    divided into blocks, or into lanes of a vector, by the number of positions; and a product that is fused with a sum
    is not rounded, which the barrier prevents.
    """
    rows = jax.lax.optimization_barrier(join(losses, losses.shape[0] * losses.shape[2]))
    while rows.shape[1] > 1:
        rows = jnp.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        rows = rows[:, ::2] + rows[:, 1::2]
    return rows


def _tile_loss(
    states: Float[Array, "B A D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B A"],
    weights: Float[Array, "B A"],
    smoothing: float,
) -> tuple[Float[Array, "B A"], Float[Array, "B A V"]]:
    """(weighted loss of the positions of one tile, its gradient to the logits)."""
    logits = jnp.einsum("BAD,VD->BAV", shard_for_vocabulary(states), table, preferred_element_type=jnp.float32)
    log_sum = jax.nn.logsumexp(logits, axis=-1)
    # A comparison instead of a gather: it fuses into the sums, and a vocabulary cut over devices stays cut.
    hit = jnp.arange(table.shape[0])[None, None] == targets[..., None]
    target_logit = jnp.where(hit, logits, 0).sum(axis=-1)
    spread = smoothing / (table.shape[0] - 1)
    own = 1 - smoothing - spread
    loss = own * (log_sum - target_logit)
    if smoothing:
        loss = loss - spread * (logits.sum(axis=-1) - table.shape[0] * log_sum)
    slope = jnp.exp(logits - log_sum[..., None]) - jnp.where(hit, own, 0) - spread
    return loss * weights, slope * weights[..., None]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _tiled(states: Array, table: Array, targets: Array, weights: Array, smoothing: float) -> Array:
    """The summed loss of all tiles; [X B A D], [V D], [X B A], [X B A]."""
    return _total(_tile_losses(_Tiles(states, targets, weights), table, smoothing))


def _tile_losses(tiles: _Tiles, table: Float[Array, "V D"], smoothing: float) -> Float[Array, "X B A"]:
    """The weighted loss of every position, one tile after the other."""

    def one(tile: _Tiles) -> Array:
        def compute() -> Array:
            return _tile_loss(tile.states, table, tile.targets, tile.weights, smoothing)[0]

        return jax.lax.cond((tile.weights != 0).any(), compute, lambda: jnp.zeros_like(tile.weights))

    return jax.lax.map(one, tiles)


def _forward(states: Any, table: Any, targets: Any, weights: Any, smoothing: float) -> tuple[Array, Any]:
    """(loss, (gradient of the states, gradient of the table)), each gradient None if it is not needed."""
    train_table, train_states = table.perturbed, states.perturbed
    zero = jnp.zeros(table.value.shape, jnp.float32) if train_table else None

    def body(table_grad: Any, tile: _Tiles) -> tuple[Any, Any]:
        def compute() -> tuple[Any, Any]:
            loss, slope = _tile_loss(tile.states, table.value, tile.targets, tile.weights, smoothing)
            slope = slope.astype(tile.states.dtype)
            grad = None
            if train_states:
                grad = jnp.einsum("BAV,VD->BAD", slope, table.value, preferred_element_type=jnp.float32)
                grad = shard_by_rows(grad.astype(tile.states.dtype))
            added = table_grad
            if train_table:
                added = added + jnp.einsum("BAV,BAD->VD", slope, tile.states, preferred_element_type=jnp.float32)
            return added, (loss, grad)

        def skip() -> tuple[Any, Any]:
            return table_grad, (jnp.zeros_like(tile.weights), jnp.zeros_like(tile.states) if train_states else None)

        return jax.lax.cond((tile.weights != 0).any(), compute, skip)

    table_grad, (losses, grad) = jax.lax.scan(body, zero, _Tiles(states.value, targets.value, weights.value))
    table_grad = table_grad.astype(table.value.dtype) if train_table else None
    return _total(losses), (grad, table_grad)


def _backward(smoothing: float, grads: Any, cotangent: Any) -> tuple[Any, ...]:
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None
    states, table = (None if grad is None else cotangent.astype(grad.dtype) * grad for grad in grads)
    return states, table, None, None


_tiled.defvjp(_forward, _backward, symbolic_zeros=True)
