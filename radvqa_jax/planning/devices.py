"""The devices that can be planned for: memory, peak rates, and what XLA needs to compile for an absent one."""

from dataclasses import dataclass

from radvqa_jax.trees import nearest

GIB = 2**30
TERA = 1e12


@dataclass(frozen=True)
class Gpu:
    """The description of a card for XLA's GPU compiler (GpuTargetConfigProto)."""

    compute_capability: tuple[int, int]
    cores: int  # streaming multiprocessors
    fpus_per_core: int
    clock_ghz: float
    l2_cache: int  # bytes
    shared_memory_per_core: int  # bytes
    shared_memory_per_block: int  # bytes, the most that a kernel may request
    threads_per_core: int


@dataclass(frozen=True)
class Device:
    """One kind of device, or a slice of several.

    Memory, bandwidth and peak rates are the vendor's. Peak rates are for dense bfloat16 products with float32 sums.
    """

    kind: str  # jax's name for it (`device.device_kind`)
    platform: str  # cuda or tpu
    memory: int  # bytes of one device
    peak_flops: float  # per second, of one device
    bandwidth: float  # bytes per second, of one device
    count: int = 1  # devices in the slice
    gpu: Gpu | None = None
    topology: str = ""  # XLA's name of a TPU slice


_HOPPER = Gpu((9, 0), 132, 128, 1.98, 52428800, 233472, 232448, 2048)
_A100 = Gpu((8, 0), 108, 64, 1.41, 41943040, 167936, 166912, 2048)
_ADA = Gpu((8, 9), 128, 128, 2.52, 75497472, 102400, 101376, 1536)

# NVIDIA: data sheets of H100 SXM, H200 SXM and A100 80GB SXM; GA102 and Ada white papers for the GeForce cards (rtx4060
# at the 4090's rate per core and clock). TPU: Google Cloud's pages on its system architectures.
DEVICES: dict[str, Device] = {
    "h100": Device("NVIDIA H100 80GB HBM3", "cuda", 84942979072, 989.4 * TERA, 3.352e12, gpu=_HOPPER),
    "h200": Device("NVIDIA H200", "cuda", 150754820096, 989.4 * TERA, 4.8e12, gpu=_HOPPER),
    "a100-80": Device("NVIDIA A100-SXM4-80GB", "cuda", 85094825984, 312 * TERA, 2.039e12, gpu=_A100),
    "rtx4090": Device("NVIDIA GeForce RTX 4090", "cuda", 24 * GIB, 165.2 * TERA, 1.008e12, gpu=_ADA),
    "rtx3090": Device(
        "NVIDIA GeForce RTX 3090",
        "cuda",
        24 * GIB,
        71 * TERA,
        0.936e12,
        gpu=Gpu((8, 6), 82, 128, 1.695, 6291456, 102400, 101376, 1536),
    ),
    "rtx4060": Device(
        "NVIDIA GeForce RTX 4060",
        "cuda",
        8 * GIB,
        30.2 * TERA,
        0.272e12,
        gpu=Gpu((8, 9), 24, 128, 2.46, 25165824, 102400, 101376, 1536),
    ),
    "v5e-1": Device("TPU v5 lite", "tpu", 16 * GIB, 197 * TERA, 0.819e12, topology="v5e:1x1"),
    "v5e-4": Device("TPU v5 lite", "tpu", 16 * GIB, 197 * TERA, 0.819e12, 4, topology="v5e:2x2"),
    "v5e-16": Device("TPU v5 lite", "tpu", 16 * GIB, 197 * TERA, 0.819e12, 16, topology="v5e:4x4"),
    "v6e-8": Device("TPU v6 lite", "tpu", 32 * GIB, 918 * TERA, 1.638e12, 8, topology="v6e:2x4"),
    "v5p-8": Device(
        "TPU v5", "tpu", 95 * GIB, 459 * TERA, 2.765e12, 4, topology="v5p:2x2x1"
    ),  # eight cores, four chips
}


def get_device(name: str, *, field: str = "target") -> Device:
    """The device with this name in the table.

    Raises:
        ValueError: for an unknown name; it names `field` of the configuration, and the known ones.
    """
    if name not in DEVICES:
        raise ValueError(f"{field}={name!r} is unknown.{nearest(name, DEVICES)} Known: local, {', '.join(DEVICES)}.")
    return DEVICES[name]


def find_kind(kind: str) -> Device | None:
    """The device whose `kind` is this `jax.devices()[0].device_kind`; None if it is not in the table."""
    return next((device for device in DEVICES.values() if device.kind == kind), None)


def target_config(device: Device) -> str:
    """The GpuTargetConfigProto of a card, in text form."""
    gpu = device.gpu
    assert gpu is not None, f"{device.kind} is not a GPU"
    major, minor = gpu.compute_capability
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared_memory_per_core}
  threads_per_core_limit: {gpu.threads_per_core}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(device.bandwidth)}
  l2_cache_size: {gpu.l2_cache}
  clock_rate_ghz: {gpu.clock_ghz}
  device_memory_size: {device.memory}
  shared_memory_per_block_optin: {gpu.shared_memory_per_block}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{device.kind}"
"""
