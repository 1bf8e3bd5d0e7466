"""How leaves and batches lie on several devices: a mesh of three axes, and ordered rules over names.

`data` repeats the weights and splits the batch; `fsdp` splits the batch and the weights, which are gathered layer by
layer as they are used; `tensor` splits heads, MLP and vocabulary. The batch and the order of the data do not depend on
any of it: numbers are those of one device, up to the order of sums.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from radvqa_jax.config import MeshConfig
from radvqa_jax.schema import Batch

AXES = ("data", "fsdp", "tensor")
ROWS = PartitionSpec(("data", "fsdp"))  # of everything whose first axis is the batch

# Name of a leaf -> the mesh axis along each of its own; the first pattern that matches the whole name decides.
# A leading L is the layer axis. An axis that a mesh axis does not divide stays whole, as Gemma's one key head does.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r".*/lora_[ab]", ()),
    (r"llm/embedder/input_embedding", ("tensor", "fsdp")),
    (r"llm/.*/q_einsum/w", (None, "tensor", "fsdp", None)),
    (r"llm/.*/(kv|qkv)_einsum/w", (None, None, "tensor", "fsdp", None)),
    (r"llm/.*/attn_vec_einsum/w", (None, "tensor", None, "fsdp")),
    (r"llm/.*/gating_einsum", (None, None, "fsdp", "tensor")),
    (r"llm/.*/linear", (None, "tensor", "fsdp")),
    (r"img/.*/(query|key|value)/kernel", (None, "fsdp", "tensor", None)),
    (r"img/.*/out/kernel", (None, "tensor", None, "fsdp")),
    (r"img/.*/Dense_0/kernel", (None, "fsdp", "tensor")),
    (r"img/.*/Dense_1/kernel", (None, "tensor", "fsdp")),
    (r".*", ()),  # norms, biases, position and patch embedding, projector: small, one copy a device
)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh of the first so many devices (of all there are, or of `devices`).

    Raises:
        ValueError: if there are too few, or with `data=0` the other axes leave a remainder.
    """
    devices = list(jax.devices() if devices is None else devices)
    rest = config.fsdp * config.tensor
    data = config.data or len(devices) // rest
    count = data * rest
    if not 0 < count <= len(devices) or (config.data == 0 and count != len(devices)):
        raise ValueError(
            f"mesh.data={config.data}, mesh.fsdp={config.fsdp}, mesh.tensor={config.tensor} do not fit "
            f"{len(devices)} devices: the product may not be above it; mesh.data=0 takes all that fsdp x tensor leave."
        )
    return Mesh(np.array(devices[:count]).reshape(data, config.fsdp, config.tensor), AXES)


def leaf_sharding(mesh: Mesh, name: str, shape: Sequence[int]) -> NamedSharding:
    """Returns where a leaf lies by its name."""
    axes = next(axes for pattern, axes in RULES if re.fullmatch(pattern, name))
    pairs = zip(axes, shape, strict=True) if axes else ()
    return NamedSharding(
        mesh, PartitionSpec(*(axis if axis and not n % mesh.shape[axis] else None for axis, n in pairs))
    )


def shard_flat(mesh: Mesh, flat: Mapping[str, Any]) -> dict[str, NamedSharding]:
    """Returns where each leaf of a flat tree of arrays or shapes lies."""
    return {name: leaf_sharding(mesh, name, leaf.shape) for name, leaf in flat.items()}


def shard_state(mesh: Mesh, state: Any) -> Any:
    """Returns where each part of a TrainState lies: moments beside their leaf, counters on every device."""

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and "/" in str(key.key)]
        if not names or not leaf.shape:
            return NamedSharding(mesh, PartitionSpec())
        return leaf_sharding(mesh, names[-1], leaf.shape)

    return jax.tree_util.tree_map_with_path(one, state)


def put(tree: Any, shardings: Any) -> Any:
    """Returns host or device arrays where they belong; each process gives the whole and keeps its part."""

    def one(x: Any, sharding: NamedSharding) -> jax.Array:
        if sharding.is_fully_addressable or (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)):
            return jax.device_put(x, sharding)
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(one, tree, shardings)


def put_batch(mesh: Mesh, batch: Batch, *, accumulate: int = 1) -> Batch:
    """Returns the global batch cut over the devices by rows.

    Raises:
        ValueError: if the rows that are computed at a time cannot be shared out evenly.
    """
    check_rows(mesh, len(batch.tokens), accumulate=accumulate)
    return Batch(*put(tuple(batch), (NamedSharding(mesh, ROWS),) * len(batch)))


def check_rows(mesh: Mesh, rows: int, *, accumulate: int) -> None:
    """Raises ValueError if a part of a batch cannot be cut evenly over the `data` and `fsdp` axes."""
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    if (rows // accumulate) % share:
        raise ValueError(
            f"batch_size={rows // accumulate} rows cannot be cut over mesh.data x mesh.fsdp = {share} devices. "
            "Give a multiple of it (accumulate may be lower by the same factor), or another mesh."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has whole."""
    return NamedSharding(mesh, PartitionSpec())
