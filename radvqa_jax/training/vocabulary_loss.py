"""The loss over a large vocabulary without holding the logits of all positions (257,152 tokens for PaliGemma).

Only positions that count make logits. In every row they are moved to the front, and the positions are taken in tiles;
a tile in which no row has a position that counts is skipped. Every position is in some tile, so nothing is ever left
out: the result is that of `loss.token_loss` on full logits, whatever the answers' lengths. A tile of A positions of B
rows holds B A V float32 logits, and they are gone before the next one.

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

from radvqa_jax.models.blocks import block_size, cut
from radvqa_jax.models.rows import beside_vocabulary, cut_by_rows, row_shares

TILE = 512  # positions over a device's rows; products with the table are then limited by arithmetic, not by its bytes


class _Sums(NamedTuple):
    """What is summed over tiles."""

    loss: Float[Array, ""]
    table_grad: Any  # [V D] float32, or None where the table is frozen


class _Tiles(NamedTuple):
    """Positions cut into tiles, the ones that count first in every row."""

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
    """Returns the sum over positions of weight times -log p of the target, in nats, float32.

    Args:
        states: from which logits are made; their dtype is that of the products.
        table: the token table; logits are states times its transpose.
        targets: the token that each position should predict.
        weights: what each position counts; 0 where there is no target. Its own gradient is not defined.
        label_smoothing: s gives the target 1 - s and every other token s / (V - 1).
        tile: positions that make logits at a time, over all rows that one device has; at least one of each row.
    """
    weights = jax.lax.stop_gradient(weights)
    order = jnp.argsort(weights == 0, axis=1, stable=True)
    take = partial(jnp.take_along_axis, indices=order, axis=1)
    moved = jnp.take_along_axis(states, order[..., None], axis=1)
    size = block_size(states.shape[1], max(1, tile * row_shares() // states.shape[0]))
    tiles = _Tiles(cut(moved, size), cut(take(targets), size), cut(take(weights), size))
    return _tiled(tiles.states, table.astype(states.dtype), tiles.targets, tiles.weights, label_smoothing)


def _tile_loss(
    states: Float[Array, "B A D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B A"],
    weights: Float[Array, "B A"],
    smoothing: float,
) -> tuple[Float[Array, ""], Float[Array, "B A V"]]:
    """Returns (summed loss of one tile, its gradient to the logits)."""
    logits = jnp.einsum("BAD,VD->BAV", beside_vocabulary(states), table, preferred_element_type=jnp.float32)
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
    return (loss * weights).sum(), slope * weights[..., None]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _tiled(states: Array, table: Array, targets: Array, weights: Array, smoothing: float) -> Array:
    """Returns the summed loss of all tiles; [X B A D], [V D], [X B A], [X B A]."""

    def body(total: Array, tile: _Tiles) -> tuple[Array, None]:
        def compute() -> Array:
            return total + _tile_loss(tile.states, table, tile.targets, tile.weights, smoothing)[0]

        return jax.lax.cond((tile.weights != 0).any(), compute, lambda: total), None

    return jax.lax.scan(body, jnp.zeros(()), _Tiles(states, targets, weights))[0]


def _forward(states: Any, table: Any, targets: Any, weights: Any, smoothing: float) -> tuple[Array, Any]:
    """Returns (loss, (gradient of the states, gradient of the table)), each gradient None where nobody asks for it."""
    train_table, train_states = table.perturbed, states.perturbed
    zero = jnp.zeros(table.value.shape, jnp.float32) if train_table else None

    def body(sums: _Sums, tile: _Tiles) -> tuple[_Sums, Any]:
        def compute() -> tuple[_Sums, Any]:
            loss, slope = _tile_loss(tile.states, table.value, tile.targets, tile.weights, smoothing)
            slope = slope.astype(tile.states.dtype)
            grad = None
            if train_states:
                grad = jnp.einsum("BAV,VD->BAD", slope, table.value, preferred_element_type=jnp.float32)
                grad = cut_by_rows(grad.astype(tile.states.dtype))
            table_grad = sums.table_grad
            if train_table:
                table_grad = table_grad + jnp.einsum(
                    "BAV,BAD->VD", slope, tile.states, preferred_element_type=jnp.float32
                )
            return _Sums(sums.loss + loss, table_grad), grad

        def skip() -> tuple[_Sums, Any]:
            return sums, jnp.zeros_like(tile.states) if train_states else None

        return jax.lax.cond((tile.weights != 0).any(), compute, skip)

    start = _Sums(jnp.zeros(()), zero)
    sums, grad = jax.lax.scan(body, start, _Tiles(states.value, targets.value, weights.value))
    table_grad = sums.table_grad.astype(table.value.dtype) if train_table else None
    return sums.loss, (grad, table_grad)


def _backward(smoothing: float, grads: Any, cotangent: Any) -> tuple[Any, ...]:
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None
    states, table = (None if grad is None else cotangent.astype(grad.dtype) * grad for grad in grads)
    return states, table, None, None


_tiled.defvjp(_forward, _backward, symbolic_zeros=True)
