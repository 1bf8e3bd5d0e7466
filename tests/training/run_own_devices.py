"""Prints, as one of two processes with two devices each, its parts of leaves on the devices of both.

Arguments: host:port of process 0, this process's number.
"""

import json
import sys

import jax
import numpy as np
from orbax.checkpoint import multihost

from radvqa_jax.backbones import PALIGEMMA
from radvqa_jax.config import MeshConfig
from radvqa_jax.processes import Group
from radvqa_jax.training.own_devices import on_own_devices, own_mesh
from radvqa_jax.training.sharding import make_mesh, put, shard_flat

TABLE, NORM, GATE = "llm/embedder/input_embedding", "llm/final_norm/scale", "llm/layers/mlp/gating_einsum"


def main() -> None:
    index = int(sys.argv[2])
    jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=index)
    group = Group(index, 2, multihost.get_jax_distributed_client())
    rng = np.random.default_rng(0)
    leaves = {
        TABLE: rng.normal(size=(8, 4)).astype(np.float32),
        NORM: rng.normal(size=4).astype(np.float32),
        GATE: rng.normal(size=(1, 2, 16, 64)).astype(np.float32),
    }
    told = []
    for fsdp in (1, 2, 4):
        mesh = make_mesh(MeshConfig(data=0, fsdp=fsdp))
        flat = put(leaves, shard_flat(mesh, leaves, PALIGEMMA.sharding))
        own = own_mesh(mesh)
        assert own is not None
        found = on_own_devices(own, flat, PALIGEMMA.sharding, group=group)
        held = {shard.device: shard.data.unsafe_buffer_pointer() for shard in flat[TABLE].addressable_shards}
        told.append(
            {
                "fsdp": fsdp,
                "mesh": list(own.devices.shape),
                "here": all(leaf.is_fully_addressable for leaf in found.values()),
                "equal": all(np.array_equal(np.asarray(found[name]), leaf) for name, leaf in leaves.items()),
                "cut": not found[TABLE].sharding.is_fully_replicated,
                "copied": any(
                    shard.data.unsafe_buffer_pointer() != held[shard.device]
                    for shard in found[TABLE].addressable_shards
                ),
                "again": on_own_devices(own, found, PALIGEMMA.sharding, group=group)[TABLE] is found[TABLE],
            }
        )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
