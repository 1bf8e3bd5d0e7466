"""The model, how it computes, and the devices it computes on."""

from dataclasses import dataclass
from typing import Literal

from radvqa_jax.config.bounds import Count, Positive


@dataclass(frozen=True)
class ModelConfig:
    """The model, its files and how it computes."""

    # A name in models/variants.py; empty = what the checkpoint is, and paligemma-3b-448 where there is none.
    variant: str = ""
    checkpoint: str = ""  # native big_vision .npz, Hugging Face folder, or .safetensors file
    tokenizer: str = ""  # SentencePiece .model; empty = the one in the Hugging Face folder
    resolution: Count = 0  # image height and width in pixels; 0 = the variant's
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of activations and products
    param_dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of frozen weights in memory; what trains is float32
    # Frozen linear weights of both towers rounded to four bits (QLoRA's base) or eight (models/quantize.py).
    quantize: Literal["none", "nf4", "int8"] = "none"
    # What the backward pass computes again instead of storing: nothing; all but products with weights; all of a layer;
    # all of a layer, with the language model's MLP a block of tokens at a time (models/remat.py).
    remat: Literal["none", "dots", "full", "blocks"] = "blocks"
    remat_img: Literal["", "none", "dots", "full", "blocks"] = ""  # of the vision tower; empty = as remat
    # Layers of a tower in one turn of the compiled loop over layers. All of them: faster for a small model on a CPU
    # (docs/performance.md), with more to compile.
    unroll: Positive = 1
    # xla holds all probabilities; blocks, cudnn (GPU) and splash (TPU) do not (models/fused_attention.py); auto asks
    # the device.
    attention: Literal["auto", "xla", "blocks", "cudnn", "splash"] = "auto"
    # Regular expressions over leaf names that the checkpoint may lack; they are drawn N(0, 0.02).
    allow_missing: tuple[str, ...] = ()
    allow_extra: tuple[
        str, ...
    ] = ()  # regular expressions over leaf names that the checkpoint may have beyond the model's


@dataclass(frozen=True)
class MeshConfig:
    """How many devices lie along each axis of training and answering (training/sharding.py); the default is one."""

    data: Count = (
        1  # copies of the weights, each with a share of the batch; 0 = what the other two leave of all devices
    )
    fsdp: Positive = 1  # shares of weights and batch
    tensor: Positive = 1  # shares of heads, MLP and vocabulary


@dataclass(frozen=True)
class ProcessConfig:
    """The processes that train one model together, each with devices of its own (radvqa_jax/runtime.py)."""

    coordinator: str = ""  # host:port of process 0; `auto` = as SLURM, Open MPI or a TPU pod tells; empty = one process
    count: Positive = 1  # number of processes
    index: Count = 0  # of this process, from 0; it alone differs between the processes
