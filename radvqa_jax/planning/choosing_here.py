"""`model.remat=auto` on the present devices: takes an earlier choice again, or compiles a few ways and chooses."""

import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from radvqa_jax import __version__, runtime
from radvqa_jax.backbones import backbone_of
from radvqa_jax.config import Config
from radvqa_jax.files import read_json, write_json
from radvqa_jax.planning.choosing import BUDGET, choose
from radvqa_jax.planning.devices import GIB, Device, find_kind
from radvqa_jax.planning.step_program import refused, step_shapes
from radvqa_jax.planning.ways import Candidate, list_ways, rank
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.step import step_on
from radvqa_jax.training.way import Chosen, Way, describe_devices, from_record, to_record
from radvqa_jax.trees import Flat

MORE = 1.2  # an earlier choice is not taken again if there is more room than this many times its own


def choose_here(config: Config, plan: Plan, plan_at: Callable[[Way], Plan], trainable: Flat, frozen: Flat) -> Chosen:
    """The fastest way that fits the devices of the plan, with its compiled step; prints what else was tried.

    A run in one process keeps its choice with the compiled programs (`compilation_cache`), under devices, configuration
    and versions, and takes it again while it fits. The processes of a run all plan for the fullest of their devices, so
    that they make the same choice.

    Raises:
        ValueError: if the compiler refuses every way for its memory.
    """
    stage, name = config.stages[plan.name], plan.name
    rows, several = stage.batch_size * stage.accumulate, jax.process_count() > 1
    args = step_shapes(plan, trainable, frozen, plan.mesh, rows=rows, seq_len=config.data.seq_len)
    steps: dict[Way, Any] = {}

    def peak_of(way: Way) -> int | None:
        began = time.perf_counter()
        tried = plan_at(way)
        static = {"model": tried.model, "tx": tried.tx, "options": tried.options}
        with refused() as refusal:
            steps[way] = (
                step_on(plan.mesh, args[0], backbone_of(plan.model.variant).sharding).lower(*args, **static).compile()
            )
        if refusal:
            print(f"{name}: {way}: the compiler refuses it for its memory", flush=True)
            return None
        peak = runtime.peak_bytes(steps[way].memory_analysis())
        took = time.perf_counter() - began
        print(f"{name}: {way}: compiled in {took:.1f} s; needs {peak / GIB:.2f} GiB on each device", flush=True)
        return peak

    room = _room(plan.mesh, frozen, config.model.memory_reserve)
    kept = None if several else _kept_file(config, plan, args)
    known = _read(kept, plan, rows=rows, room=room)
    if known is not None and (peak_of(known) or math.inf) <= room:
        print(f"{name}: model.remat=auto takes {known}, as it did before on such devices", flush=True)
        return Chosen(known, steps[known])
    known_kind = find_kind(jax.devices()[0].device_kind)
    candidates = rank_for(config, plan, args, mesh=plan.mesh, known=known_kind)
    arguments = argument_bytes(args, plan.mesh)
    budget = math.inf if several else BUDGET  # clocks differ, and all processes must make the same choice
    choice = choose(candidates, peak_of, arguments=arguments, room=room, budget=budget)
    print(choice.describe(name, room, config.model.memory_reserve), flush=True)
    if choice.way not in steps:
        raise ValueError(
            f"{name}: the compiler refuses every way of model.remat=auto for its memory; {choice.way} needs the least. "
            "Give model.quantize=nf4, a lower model.resolution or data.seq_len, or more devices (mesh.fsdp)."
        )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, to_record(choice.way, plan.mesh) | {"room": room}, private=False)
    return Chosen(choice.way, steps[choice.way])


def rank_for(
    config: Config, plan: Plan, args: tuple[Any, ...], *, mesh: Mesh | None, known: Device | None
) -> list[Candidate]:
    """The ways of a stage on the devices of a mesh, the fastest first; `known`: the facts of one device, if listed."""
    stage = config.stages[plan.name]
    devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
    share = 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]
    host = devices[0].platform == "cpu"
    img = config.model.remat_img
    ways = list(list_ways(stage.batch_size, stage.accumulate, share=share, remat_img=img, host=host))
    sizes: dict[str, Any] = {"seq_len": config.data.seq_len, "devices": len(devices), "share": share}
    state, frozen = args[0].trainable, args[1]
    return rank(ways, plan.model, state | frozen, state.keys(), device=known, **sizes)


def argument_bytes(args: tuple[Any, ...], mesh: Mesh | None) -> int:
    """The bytes of a step's arguments on each device, if `fsdp` divides them evenly."""
    whole = sum(array_bytes(leaf.dtype, leaf.shape) for leaf in jax.tree.leaves(args))
    return whole // (1 if mesh is None else mesh.shape["fsdp"])


def array_bytes(dtype: Any, shape: tuple[int, ...]) -> int:
    """The bytes of an array as XLA counts them: two values of NF4 share a byte, whose itemsize is 1."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        bits = 64
    else:
        bits = jnp.iinfo(dtype).bits if jnp.issubdtype(dtype, jnp.integer) else 8 * dtype.itemsize
    return math.ceil(math.prod(shape) * bits / 8)


def _room(mesh: Mesh | None, frozen: Flat, reserve: float) -> int:
    """The bytes that a step may need on one device: the free ones, and those of the weights that are there already."""
    devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
    leaves = jax.tree.leaves(frozen)
    held = sum(array_bytes(leaf.dtype, leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    room = int((runtime.free_bytes(devices) + held) * (1 - reserve))
    return int(multihost_utils.process_allgather(np.int64(room)).min()) if jax.process_count() > 1 else room


def _kept_file(config: Config, plan: Plan, args: tuple[Any, ...]) -> Path | None:
    """The file that keeps a choice, named by a hash of devices, configuration and versions; None without a cache."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder:
        return None
    shapes = [(jax.tree_util.keystr(path), str(leaf)) for path, leaf in jax.tree.leaves_with_path(args)]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")} | {"radvqa_jax": __version__}
    decides = describe_devices(plan.mesh) | versions | {"shapes": shapes, "model": repr(plan.model)}
    decides |= {"options": plan.options, "mesh": asdict(config.mesh), "config": asdict(config.model)}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Path(folder) / "ways" / f"{digest[:32]}.json"


def _read(file: Path | None, plan: Plan, *, rows: int, room: int) -> Way | None:
    """The earlier choice; None if there is none, there is much more room now, or the file cannot be read."""
    try:
        record: Any = read_json(file) if file is not None else {}
    except (OSError, ValueError):
        return None  # the file only saves time: a new choice overwrites it
    way = from_record(record, plan.mesh, rows=rows)  # None if it is not a JSON object
    had = record.get("room") if way is not None else None
    return way if way is not None and type(had) is int and MORE * had >= room else None
