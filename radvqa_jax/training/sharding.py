"""The sharding of leaves and batches: a mesh of three axes, and ordered rules over names.

`data` repeats the weights and splits the batch; `fsdp` splits the batch and the weights, which are gathered layer by
layer when they are used, except the token table, which stays split (models/activation_sharding.py); `tensor` splits
heads, MLP and vocabulary. The batch and the order of the data do not depend on the mesh: numbers are those of one
device, up to the order of sums.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from radvqa_jax.backbones.record import ShardingRules
from radvqa_jax.config import MeshConfig
from radvqa_jax.models.activation_sharding import ROWS
from radvqa_jax.schema import Batch

AXES = ("data", "fsdp", "tensor")


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of the first devices, as many as the axes need (of all, or of `devices`).

    Raises:
        ValueError: if there are too few, with `data=0` the other axes leave a remainder, or the mesh leaves devices of
            other processes out.
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
    if jax.process_count() > 1 and count < len(devices):
        raise ValueError(
            f"mesh.data={config.data}, mesh.fsdp={config.fsdp}, mesh.tensor={config.tensor} take {count} of the "
            f"{len(devices)} devices of {jax.process_count()} processes. Set mesh.data=0, which takes all."
        )
    # The model constrains some axes and leaves the others to the compiler, which explicit axes do not allow.
    placed = np.array(devices[:count]).reshape(data, config.fsdp, config.tensor)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def leaf_sharding(mesh: Mesh, name: str, shape: Sequence[int], rules: ShardingRules) -> NamedSharding:
    """The sharding of a leaf by its name; the rules are those of the backbone."""
    axes = next(axes for pattern, axes in rules if re.fullmatch(pattern, name))

    def along(axis: str | tuple[str, ...] | None, length: int) -> str | tuple[str, ...] | None:
        if isinstance(axis, tuple):  # all axes, or the last, or the one before it
            return next((one for one in (axis, *reversed(axis)) if fits(one, length)), None)
        return axis if axis and fits(axis, length) else None

    def fits(axis: str | tuple[str, ...], length: int) -> bool:
        names = (axis,) if isinstance(axis, str) else axis
        return not length % math.prod(mesh.shape[name] for name in names)

    pairs = zip(axes, shape, strict=True) if axes else ()
    return NamedSharding(mesh, PartitionSpec(*(along(axis, length) for axis, length in pairs)))


def shard_flat(mesh: Mesh, flat: Mapping[str, Any], rules: ShardingRules) -> dict[str, Any]:
    """The sharding of each leaf of a flat tree of arrays or shapes; of a quantised leaf, that of each part."""

    def where(name: str, leaf: Any) -> Any:
        return jax.tree.map(lambda part: leaf_sharding(mesh, name, part.shape, rules), leaf)

    return {name: where(name, leaf) for name, leaf in flat.items()}


def with_shardings(mesh: Mesh, shapes: Mapping[str, Any], rules: ShardingRules) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a flat tree with the sharding of each leaf."""
    where = shard_flat(mesh, shapes, rules)
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where[name]) for name, leaf in shapes.items()}


def shard_state(mesh: Mesh, state: Any, rules: ShardingRules) -> Any:
    """The sharding of each part of a TrainState: moments like their leaf, counters on every device."""

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and "/" in str(key.key)]
        if not names or not leaf.shape:
            return NamedSharding(mesh, PartitionSpec())
        return leaf_sharding(mesh, names[-1], leaf.shape, rules)

    return jax.tree_util.tree_map_with_path(one, state)


def put(tree: Any, shardings: Any) -> Any:
    """Puts host or device arrays on their devices; each process gives the whole and keeps its part."""

    def one(x: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(x, jax.Array):
            if x.sharding == sharding:
                return x
            if not x.is_fully_addressable:  # otherwise it is on several processes already
                return jax.jit(lambda leaf: leaf, out_shardings=sharding)(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                data = one(jax.random.key_data(x), sharding)
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(one, tree, shardings)


def whole(mesh: Mesh, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves on the default device of every process, each one whole."""
    gathered = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(dict(flat))
    return {name: jnp.asarray(np.asarray(leaf)) for name, leaf in gathered.items()}


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """(index, count) of the part of every batch that this process makes: the rows that its devices hold.

    Processes that share the same rows, as they do along the `tensor` axis, make the same part.

    Raises:
        ValueError: if the devices of this process hold rows that are not one slice, the mesh leaves a process out, or
            the processes have different numbers of rows.
    """
    blocks = np.arange(mesh.shape["data"] * mesh.shape["fsdp"])
    place = mesh.devices.reshape(len(blocks), mesh.shape["tensor"])
    mine = [block for block in blocks if any(d.process_index == jax.process_index() for d in place[block])]
    if not mine or mine != list(range(mine[0], mine[-1] + 1)) or len(blocks) % len(mine) or mine[0] % len(mine):
        raise ValueError(
            f"mesh.data={mesh.shape['data']} x mesh.fsdp={mesh.shape['fsdp']} x mesh.tensor={mesh.shape['tensor']} "
            f"gives process {jax.process_index()} of {jax.process_count()} the rows {mine} of {len(blocks)} parts of a "
            "batch. Give a mesh that takes all devices (mesh.data=0) and as many parts on every process."
        )
    return int(mine[0]) // len(mine), len(blocks) // len(mine)


def put_batch(mesh: Mesh, batch: Batch, *, accumulate: int = 1) -> Batch:
    """The global batch cut over the devices by rows; each process gives its part (`batch_part`).

    Raises:
        ValueError: if the rows that are computed at a time cannot be divided evenly.
    """
    _, parts = batch_part(mesh)
    check_rows(mesh, len(batch.tokens) * parts, accumulate=accumulate)
    rows = NamedSharding(mesh, ROWS)

    def one(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_process_local_data(rows, leaf, (len(leaf) * parts, *leaf.shape[1:]))

    return Batch(*map(one, batch))


def spread(mesh: Mesh, batch_size: int, accumulate: int) -> tuple[int, int] | None:
    """(batch_size, accumulate) of the same batch in fewer parts, each of which the mesh can cut evenly.

    As few parts as possible are merged; None if not even the whole batch can be cut.
    """
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    merged = (n for n in range(1, accumulate + 1) if accumulate % n == 0 and n * batch_size % share == 0)
    n = next(merged, None)
    return None if n is None else (n * batch_size, accumulate // n)


def check_rows(mesh: Mesh, rows: int, *, accumulate: int = 1, field: str = "batch_size") -> None:
    """Raises ValueError, naming the field, if a part of a batch cannot be cut evenly over `data` and `fsdp`."""
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    batch_size = rows // accumulate
    if batch_size % share:
        other = spread(mesh, batch_size, accumulate)
        way = f"batch_size={other[0]} and accumulate={other[1]}, the same rows a step" if other else "a multiple of it"
        raise ValueError(
            f"{field}={batch_size} rows cannot be cut over mesh.data x mesh.fsdp = {share} devices. "
            f"Give {way}, or another mesh."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
