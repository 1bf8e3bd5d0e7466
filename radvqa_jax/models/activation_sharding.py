"""The sharding of activations over several devices; without a mesh these functions change nothing."""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

ROWS = PartitionSpec(("data", "fsdp"))  # of everything whose first axis is the batch


def row_shares() -> int:
    """The number of devices over which rows are cut; 1 if no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape["data"] * mesh.shape["fsdp"]


def shard_by_rows(x: Array) -> Array:
    """x [B …] cut over the devices by rows; x itself where no mesh is set (training/step.py and
    runners/evaluate.py set it).

    Without it the compiler may keep weights that are cut over `fsdp` in place and send activations around instead, so
    that each device computes a part of every product for all rows. That is right if every row has only one token, as
    in decoding, where the weights are large compared with the activations.
    """
    one_token = x.ndim == 3 and x.shape[1] == 1
    if one_token or jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, ROWS)


def replicate_axis(weight: Array, axis: int) -> Array:
    """A weight with one axis whole on every device and the others unchanged; the weight itself if no mesh is set.

    For a weight used in a loop, where the compiler would otherwise gather it in every turn.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return weight
    axes = [None if i == axis else PartitionSpec.UNCONSTRAINED for i in range(weight.ndim)]
    return jax.lax.with_sharding_constraint(weight, PartitionSpec(*axes))


def shard_for_vocabulary(x: Array) -> Array:
    """Tokens or states [B …] with the sharding that the token table needs; x itself if no mesh is set.

    `fsdp` cuts the table along its tokens. A device embeds its own tokens, and makes the logits of its own tokens, for
    the rows of all devices along that axis: states are small, and the table is the largest leaf there is.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))
