"""The model, its numerics, and the devices that it runs on."""

from dataclasses import dataclass
from typing import Literal

from radvqa_jax.config.bounds import Below1, Count, Pixels, Positive


@dataclass(frozen=True)
class ModelConfig:
    """The model, its files and its numerics."""

    # A name in models/variants.py; empty = the checkpoint's, or paligemma-3b-448 without a checkpoint.
    variant: str = ""
    checkpoint: str = ""  # native big_vision .npz, Hugging Face folder, or .safetensors file
    tokenizer: str = ""  # SentencePiece .model; empty = the one in the Hugging Face folder
    resolution: Pixels = 0  # image height and width in pixels; 0 = the variant's
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"  # dtype of activations and products
    # Dtype of frozen weights in memory; trained weights are float32.
    param_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    # Format of the frozen linear weights of both towers: nf4 has four bits (QLoRA), int8 eight (models/quantize.py).
    quantize: Literal["none", "nf4", "int8"] = "none"
    # What the backward pass recomputes instead of storing (models/remat.py). none: nothing; products: everything but
    # products with weights; gate: also the second of the MLP's two gates; attention: also the first; full, blocks: the
    # whole layer. All but none and full run the language model's MLP on blocks of tokens. auto: the fastest way that
    # fits the device, with the batch in as many parts as that takes (docs/planning.md).
    remat: Literal["auto", "none", "products", "gate", "attention", "full", "blocks"] = "auto"
    # The same for the vision tower; empty = the value of remat.
    remat_img: Literal["", "none", "products", "gate", "attention", "full", "blocks"] = ""
    # Share of a device's memory that `auto` leaves free: for the driver, libraries and fragmentation.
    memory_reserve: Below1 = 0.08
    # Layers per iteration of the compiled loop over layers. All layers at once run faster for a small model on a CPU
    # (docs/performance.md) and take longer to compile.
    unroll: Positive = 1
    # xla stores all attention probabilities; blocks, cudnn (GPU) and splash (TPU) do not (models/fused_attention.py).
    # auto chooses by device.
    attention: Literal["auto", "xla", "blocks", "cudnn", "splash"] = "auto"
    # Regular expressions over leaf names that the checkpoint may lack. These leaves are drawn from a normal
    # distribution with standard deviation 0.02, the same values for every seed.
    allow_missing: tuple[str, ...] = ()
    allow_extra: tuple[str, ...] = ()  # regular expressions over leaf names that the checkpoint may have in addition


@dataclass(frozen=True)
class MeshConfig:
    """The number of devices along each axis of the mesh, for training and answering (training/sharding.py)."""

    data: Count = (
        1  # replicas of the weights, each with a share of the batch; 0 = all devices that the other axes leave over
    )
    fsdp: Positive = 1  # devices that share weights and batch
    tensor: Positive = 1  # devices that share heads, MLP and vocabulary


@dataclass(frozen=True)
class ProcessConfig:
    """The processes of one run, each with its own devices (radvqa_jax/processes.py)."""

    coordinator: str = ""  # host:port of process 0; `auto` = from SLURM, Open MPI or a TPU pod; empty = one process
    count: Positive = 1  # number of processes
    index: Count = 0  # number of this process, from 0; the only field that differs between the processes
