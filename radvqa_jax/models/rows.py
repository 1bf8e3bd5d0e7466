"""Keeping activations cut by rows where several devices train or answer together."""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

ROWS = PartitionSpec(("data", "fsdp"))  # of everything whose first axis is the batch


def cut_by_rows(x: Array) -> Array:
    """Returns x [B …] cut over the devices by rows; x itself where no mesh is set (training/step.py and
    runners/evaluate.py set it).

    Without it the compiler may leave weights that are cut over `fsdp` where they are and send activations round
    instead, each device computing a share of every product for all rows. That is right where every row has but one
    token, as in decoding: there the weights are what is large.
    """
    one_token = x.ndim == 3 and x.shape[1] == 1
    if one_token or jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, ROWS)
