"""Runs splash attention under a mesh, in Pallas's interpret mode; run by test_sharding.py in a process of its own.

python run_splash.py DATA FSDP TENSOR

Prints, as JSON, how far values and gradients are from those of plain attention, and whether they stay cut by rows.
"""

import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from radvqa_jax.config import MeshConfig
from radvqa_jax.models.activation_sharding import ROWS
from radvqa_jax.models.attention import attended, attention_probs
from radvqa_jax.models.fused_attention import splash
from radvqa_jax.training.sharding import make_mesh


def plain(query: Any, key: Any, value: Any, mask: Any) -> Any:
    return attended(attention_probs(query, key, mask), value)


def value_and_grads(attention: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
    """The attended values, and the gradients of a sum that weighs each differently."""
    out, pull = jax.vjp(lambda *qkv: attention(*qkv, mask), query, key, value)
    return out, *pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))


def main() -> None:
    mesh = make_mesh(MeshConfig(*map(int, sys.argv[1:])))
    keys = jax.random.split(jax.random.key(0), 4)
    heads = (4, 2, 2)  # of queries, keys and values: grouped
    qkv = [jax.random.normal(k, (4, 140, n, 16)) for k, n in zip(keys, heads, strict=False)]
    lengths = jnp.array([140, 100, 60, 20])  # every row has a mask of its own, so that a swapped row is seen
    mask = jnp.broadcast_to(jnp.arange(140) < lengths[:, None, None], (4, 140, 140))
    rows = NamedSharding(mesh, ROWS)

    @jax.jit
    def cut(*arrays: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # as in training/step.py
            return value_and_grads(partial(splash, interpret=True), *arrays)

    have, want = cut(*jax.device_put((*qkv, mask), rows)), value_and_grads(plain, *qkv, mask)
    told = {
        "error": [float(jnp.abs(jax.device_get(x) - y).max()) for x, y in zip(have, want, strict=True)],
        "by_rows": [x.sharding.is_equivalent_to(rows, x.ndim) for x in have],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
