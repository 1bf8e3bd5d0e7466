"""Devices to compile for, whether or not they are there."""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from radvqa_jax.planning.devices import Device, find_kind, get_device, target_config

# Triton's products and autotuning want the card itself.
GPU_FLAGS = ("--xla_gpu_enable_triton_gemm=false", "--xla_gpu_autotune_level=0")


class Target(NamedTuple):
    """The target of a compilation."""

    name: str
    devices: list[Any]  # jax devices, or descriptions of them
    device: Device | None  # what is known of one; None for a kind that the table lacks
    memory: int | None  # bytes of one device
    present: bool  # whether the devices are here


def _need(module: str, extra: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"target={name} needs XLA's compiler for it, which is not installed; the device itself is not needed. "
            f'Install it with: pip install "jax[{extra}]=={jax.__version__}"'
        )


def open_target(name: str) -> Target:
    """The devices of a target; `local` is what jax finds here.

    For any other target the program runs on the CPU alone, so call this before anything else uses a device.

    Raises:
        ValueError: for an unknown target, or where its compiler is not installed (the pip command is given).
    """
    if name == "local":
        return _local()
    device = get_device(name)
    jax.config.update("jax_platforms", "cpu")
    if device.platform == "cuda":
        _need("jax_cuda13_plugin", "cuda13", name)
        os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *GPU_FLAGS)).strip()
        found = topologies.get_topology_desc("", "cuda", topology="1x1x1", target_config=target_config(device))
        return Target(name, list(found.devices)[:1], device, device.memory, present=False)
    _need("libtpu", "tpu", name)
    # No chip is used: there is none to ask for, and none to keep other processes from.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    single = {"chips_per_host_bounds": (1, 1, 1)} if device.count == 1 else {}
    found = topologies.get_topology_desc(platform="tpu", topology_name=device.topology, **single)
    return Target(name, list(found.devices), device, device.memory, present=False)


def _local() -> Target:
    devices = jax.devices()
    statistics = devices[0].memory_stats() or {}
    known = find_kind(devices[0].device_kind)
    memory = statistics.get("bytes_limit") or (known.memory if known else _host_memory(devices[0]))
    return Target("local", devices, known, memory, present=True)


def _host_memory(device: Any) -> int | None:
    """The memory of this machine for the CPU; None for a device that does not tell."""
    if device.platform != "cpu":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
