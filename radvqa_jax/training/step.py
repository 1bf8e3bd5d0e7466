"""One optimizer step: a pure function of state, frozen leaves and batch."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from radvqa_jax.backbones import backbone_of
from radvqa_jax.backbones.record import ShardingRules
from radvqa_jax.models.dropout import numbered
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.schema import Batch, TrainState
from radvqa_jax.training.loss import Weighting, position_weights, row_weights
from radvqa_jax.training.sharding import replicated, shard_state
from radvqa_jax.training.text_lengths import cut_text, which_length
from radvqa_jax.training.vocabulary_loss import vocabulary_loss
from radvqa_jax.trees import Flat


class StepOptions(NamedTuple):
    """The static choices of a step."""

    accumulate: int = 1  # number of parts in which the batch is computed
    loss_weighting: Weighting = "per_example"
    label_smoothing: float = 0.0
    text_lengths: tuple[
        int, ...
    ] = ()  # ascending; a part is padded to the first that holds it; None = not padded further


def part_loss(
    trainable: Flat,
    frozen: Flat,
    batch: Batch,
    weights: Float[Array, " B"],
    numbers: Int[Array, " B"],
    key: PRNGKeyArray,
    *,
    model: VisionLanguageModel,
    label_smoothing: float,
) -> Float[Array, ""]:
    """The contribution of the rows of `batch` to the loss, given the weight of each row.

    Inputs are `tokens[:, :-1]`, targets `tokens[:, 1:]`, weighted by `mask_loss[:, 1:]`. `numbers` are the rows'
    indices in the whole batch, which determine their dropout.
    """
    leaves = trainable | frozen
    with numbered(numbers):
        states: Any = model.apply(
            variables(leaves),
            batch.image,
            batch.tokens[:, :-1],
            batch.mask_ar[:, :-1],
            rngs={"dropout": key},
            method="pre_logits",
        )
    return vocabulary_loss(
        states,
        leaves[backbone_of(model.variant).layout.token_table],
        batch.tokens[:, 1:],
        position_weights(batch.mask_loss[:, 1:], weights),
        label_smoothing=label_smoothing,
    )


def loss_and_grads(
    trainable: Flat, frozen: Flat, batch: Batch, key: PRNGKeyArray, *, model: VisionLanguageModel, options: StepOptions
) -> tuple[Float[Array, ""], Flat]:
    """(loss, gradient of the trainable leaves) of a whole batch, computed in `accumulate` parts."""
    weights = row_weights(batch.mask_loss[:, 1:], batch.mask_example, options.loss_weighting)
    value_and_grad = jax.value_and_grad(partial(part_loss, model=model, label_smoothing=options.label_smoothing))
    lengths = options.text_lengths or (batch.tokens.shape[1] - 1,)

    def at(length: int, rows: Batch, row_weight: Array, numbers: Array) -> tuple[Array, Flat]:
        return value_and_grad(trainable, frozen, cut_text(rows, length), row_weight, numbers, key)

    def grad(which: Int[Array, ""], *part: Any) -> tuple[Array, Flat]:
        """(loss, gradient) of one part, padded to the given one of the lengths."""
        branches = [partial(at, length) for length in lengths]
        return branches[0](*part) if len(branches) == 1 else jax.lax.switch(which, branches, *part)

    numbers = jnp.arange(len(batch.tokens))
    if options.accumulate == 1:
        return grad(which_length(batch, 1, lengths)[0], batch, weights, numbers)
    if len(batch.tokens) % options.accumulate:
        raise ValueError(
            f"A batch of {len(batch.tokens)} rows cannot be cut into accumulate={options.accumulate} parts."
        )
    # Part i has the rows i, i + accumulate, …: each part then has the same number of rows on every device.
    # Consecutive rows would be on one device, so that all devices would gather and compute every part.
    columns = jax.tree.map(lambda x: x.reshape(-1, options.accumulate, *x.shape[1:]), (batch, weights, numbers))
    which = which_length(batch, options.accumulate, lengths)

    def add(total: tuple[Array, Flat], index: Int[Array, ""]) -> tuple[tuple[Array, Flat], None]:
        part = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 1, keepdims=False), columns)
        part = grad(which[index], *part)
        return jax.tree.map(jnp.add, total, part), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable))
    return jax.lax.scan(add, zero, jnp.arange(options.accumulate))[0]


def _train_step(
    state: TrainState,
    frozen: Flat,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    model: VisionLanguageModel,
    tx: optax.GradientTransformation,
    options: StepOptions,
) -> tuple[TrainState, dict[str, Array]]:
    """(new state, metrics). Only the trainable leaves are differentiated, and only their norm is taken.

    The metric `text_positions` is the mean number of text positions that are computed for a row.

    Args:
        state: step, trainable leaves, optimizer state; donated.
        frozen: every other leaf, in its own dtype; read only.
        batch: accumulate * batch_size rows.
        key: of the run; the step's dropout key is folded in from it.
        model: static.
        tx: from `make_optimizer`; static.
        options: static.
    """
    step_key = jax.random.fold_in(key, state.step)
    loss, grads = loss_and_grads(state.trainable, frozen, batch, step_key, model=model, options=options)
    updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
    trainable: Any = optax.apply_updates(state.trainable, updates)
    lengths = options.text_lengths or (batch.tokens.shape[1] - 1,)
    positions = jnp.asarray(lengths)[which_length(batch, options.accumulate, lengths)].mean()
    norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    metrics = {"loss": loss, "text_positions": positions, **norms}
    return TrainState(state.step + 1, trainable, opt_state), metrics


_STATIC = ("model", "tx", "options")
train_step = jax.jit(_train_step, static_argnames=_STATIC, donate_argnames=("state",))


def step_on(mesh: Mesh | None, state: TrainState, rules: ShardingRules) -> Any:
    """The jitted step; on a mesh the new state has the sharding of the old one, so that it compiles once.

    Args:
        mesh: None = the one default device.
        state: arrays or shapes.
        rules: of the backbone; they shard the state.
    """
    if mesh is None:
        return train_step

    def step(*args: Any, **static: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # with it, the model cuts activations by rows
            return _train_step(*args, **static)

    where = shard_state(mesh, state, rules), replicated(mesh)
    return jax.jit(step, static_argnames=_STATIC, donate_argnums=0, out_shardings=where)


def init_state(trainable: Flat, tx: optax.GradientTransformation) -> TrainState:
    """The state before step 1; trainable leaves become float32 copies, since the step donates its state."""
    trainable = {name: jnp.array(leaf, jnp.float32, copy=True) for name, leaf in trainable.items()}
    return TrainState(jnp.zeros((), jnp.int32), trainable, tx.init(trainable))
