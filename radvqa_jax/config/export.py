"""Fields for exported adapters and models, and for converted checkpoints."""

from dataclasses import dataclass
from typing import Literal

from radvqa_jax.config.bounds import Above0


@dataclass(frozen=True)
class ExportConfig:
    """mode=export: the adapter, or the base with it merged, in the format of another library."""

    # peft: an adapter folder for transformers, vLLM, …; huggingface: a folder with the merged model; big_vision: the
    # merged model as npz.
    format: Literal["peft", "huggingface", "big_vision"] = "huggingface"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # dtype of merged weights; adapters stay float32
    base_name: str = ""  # where users of the adapter find the base: a Hub name or a folder; empty = model.checkpoint
    shard_gb: Above0 = 5.0  # largest file of a Hugging Face folder, in gigabytes (1e9 bytes)
    scores: str = ""  # scores.json with the figures for the model card
    datasets: tuple[str, ...] = ()  # data sets that the card names; empty = those of this configuration's stages


@dataclass(frozen=True)
class ConvertConfig:
    """mode=convert: writes model.checkpoint in the other format, with unchanged weights."""

    format: Literal["huggingface", "big_vision"] = "huggingface"  # a Hugging Face folder, or a native npz
    dtype: Literal["", "bfloat16", "float16", "float32"] = (
        ""  # dtype of the weights; empty = the checkpoint's own, bit for bit
    )
    shard_gb: Above0 = 5.0  # as export.shard_gb
