"""The devices of one of several processes, which answers alone with a model that all of them train together."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding

from radvqa_jax.backbones.record import ShardingRules
from radvqa_jax.processes import Group
from radvqa_jax.training.sharding import AXES, replicated, shard_flat


def own_mesh(mesh: Mesh) -> Mesh | None:
    """The mesh of this process's devices with the axes of `mesh`, None for a single device.

    `fsdp` and `tensor` keep their sizes if they divide the number of the process's devices. Otherwise its weights are
    also on devices of other processes, and each of its own devices takes all weights to answer.
    """
    mine = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    cut = mesh.shape["fsdp"], mesh.shape["tensor"]
    if len(mine) % (cut[0] * cut[1]):
        cut = 1, 1
    if len(mine) == 1:
        return None
    return Mesh(np.array(mine).reshape(-1, *cut), AXES)


def on_own_devices(mesh: Mesh | None, flat: Mapping[str, Any], rules: ShardingRules, *, group: Group) -> dict[str, Any]:
    """Leaves on devices of several processes -> the same leaves on this process's. All processes call it together.

    If its devices hold all that they need, nothing is sent or copied.

    Args:
        mesh: of `own_mesh`.
        flat: flat tree of arrays, or of quantised leaves; those on this process's devices alone are unchanged.
        rules: of the backbone.
        group: the processes.
    """
    own: Sharding = SingleDeviceSharding(jax.local_devices()[0])
    leaves, tree = jax.tree.flatten(dict(flat))
    wanted = [own] * len(leaves) if mesh is None else jax.tree.leaves(shard_flat(mesh, flat, rules))
    apart = [not leaf.is_fully_addressable for leaf in leaves]
    sent = [far and not _is_here(leaf, want) for far, leaf, want in zip(apart, leaves, wanted, strict=True)]
    # A leaf that one process lacks is sent to all: all processes must take part in the same computation.
    said = group.gather(np.array(sent, np.uint8).tobytes(), what="weights on own devices")
    lacking = np.any([np.frombuffer(one, np.uint8) for one in said], axis=0)
    found = [
        _take(leaf, want, whole=bool(lack)) if far else leaf
        for leaf, want, far, lack in zip(leaves, wanted, apart, lacking, strict=True)
    ]
    return jax.tree.unflatten(tree, found)


def _is_here(leaf: jax.Array, wanted: Sharding) -> bool:
    """Whether each of this process's devices holds its wanted part."""
    held = leaf.sharding.addressable_devices_indices_map(leaf.shape)
    parts = wanted.addressable_devices_indices_map(leaf.shape)
    return all(_bounds(held[device], leaf) == _bounds(part, leaf) for device, part in parts.items())


def _bounds(index: Any, leaf: jax.Array) -> list[tuple[int, int, int]]:
    return [part.indices(length) for part, length in zip(index, leaf.shape, strict=True)]


def _take(leaf: jax.Array, wanted: Sharding, *, whole: bool) -> jax.Array:
    """The leaf with the wanted sharding, from parts on this process's devices or from the whole leaf sent to them."""
    if whole:
        mesh = leaf.sharding.mesh if isinstance(leaf.sharding, NamedSharding) else None
        assert isinstance(mesh, Mesh)
        leaf = jax.jit(lambda x: x, out_shardings=replicated(mesh))(leaf)
    held = {shard.device: shard.data for shard in leaf.addressable_shards}
    parts = wanted.addressable_devices_indices_map(leaf.shape)
    pieces = [held[device][part] if whole else held[device] for device, part in parts.items()]
    return jax.make_array_from_single_device_arrays(leaf.shape, wanted, pieces)
