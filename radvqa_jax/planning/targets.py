"""Devices to compile for, whether or not they are present."""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from radvqa_jax.planning.devices import Device, find_kind, get_device, target_config

# Triton's products and autotuning need the card itself.
GPU_FLAGS = ("--xla_gpu_enable_triton_gemm=false", "--xla_gpu_autotune_level=0")


class Target(NamedTuple):
    """The target of a compilation."""

    name: str
    devices: list[Any]  # jax devices, or descriptions of them
    device: Device | None  # the facts of one device; None for a kind that is not in the table
    memory: int | None  # bytes of one device; None = unknown
    present: bool  # whether this machine has the devices


def _need(module: str, extra: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"target={name} needs XLA's compiler for this device, which is not installed. The device itself is not "
            f'needed. Install the compiler: pip install "jax[{extra}]=={jax.__version__}"'
        )


def open_target(name: str) -> Target:
    """The devices of a target; `local` stands for the devices that jax finds.

    Any other target restricts this process to the CPU, so call this before anything else uses a device.

    Raises:
        ValueError: for an unknown target, or if its compiler is not installed; it gives the pip command.
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
    # No chip is used: do not ask the cloud's metadata server for one, and do not lock one against other processes.
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
    """The memory of this machine if the device is its CPU; None for another device, which does not report its own."""
    if device.platform != "cpu":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
