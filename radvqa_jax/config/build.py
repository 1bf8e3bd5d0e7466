"""Functions that the files in configs/ build their experiments with."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from radvqa_jax.config.data import FilterConfig, SourceConfig
from radvqa_jax.config.evaluation import CellConfig
from radvqa_jax.config.experiment import Config
from radvqa_jax.config.training import StageConfig

EMBEDDED = Path(__file__).parent.parent / "assets" / "tiny"
EMBEDDED_VARIANT = "tiny"
# SHA-256 of the files that scripts/make_tiny_paligemma.py wrote. loaded_base.py compares the loaded files with them.
EMBEDDED_SHA256 = {
    "tiny_paligemma.npz": "5a89cee823befb9c61ab1241f37f820c8dd597daa5b9dc3ce357383169894bbd",
    "tokenizer.model": "c91759aba5bc1ca1b61919050fca75ed28ee901f7d26202339542078ecbe1a68",
}


def to_config_dict(value: Any) -> Any:
    """A dataclass as a ConfigDict with all its fields, and so on for the dataclasses in it; other values unchanged."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {f.name: to_config_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return ml_collections.ConfigDict(items, convert_dict=False)
    if isinstance(value, Mapping):
        return ml_collections.ConfigDict({name: to_config_dict(item) for name, item in value.items()})
    if isinstance(value, tuple):
        return tuple(to_config_dict(item) for item in value)
    return value


def default_config() -> Any:
    """A ConfigDict with every field at its default, for a file in configs/ to change."""
    return to_config_dict(Config())


def use_embedded_model(config: Any) -> None:
    """Sets the model to the tiny PaliGemma that comes with the package, in float32."""
    config.model.variant = EMBEDDED_VARIANT
    config.model.checkpoint = str(EMBEDDED / "tiny_paligemma.npz")
    config.model.tokenizer = str(EMBEDDED / "tokenizer.model")
    config.model.compute_dtype = "float32"
    config.model.param_dtype = "float32"
    config.model.unroll = 4  # all layers


def follow_checkpoint(config: Any, overrides: Collection[str]) -> None:
    """Clears the embedded model's variant and tokenizer if the command line gives a Hugging Face model.checkpoint.

    A Hugging Face folder has its own variant and tokenizer. A native npz has no tokenizer and may be a fine-tuned
    embedded model, so nothing is cleared for it.

    Args:
        config: the ConfigDict of an experiment's file with the command line's changes; modified in place.
        overrides: fields that the command line set, such as `model.checkpoint`. They are not cleared.
    """
    if "model.checkpoint" not in overrides or config.model.checkpoint.endswith(".npz"):
        return
    embedded = {"variant": EMBEDDED_VARIANT, "tokenizer": str(EMBEDDED / "tokenizer.model")}
    for field, value in embedded.items():
        if f"model.{field}" not in overrides and getattr(config.model, field) == value:
            setattr(config.model, field, "")


def stage(**fields: Any) -> Any:
    """One entry of `stages`: StageConfig with these fields, the others at their defaults."""
    entry = to_config_dict(StageConfig())
    entry.update(fields)
    return entry


def source(*, where: tuple[ml_collections.ConfigDict, ...] = (), **fields: Any) -> ml_collections.ConfigDict:
    """One entry of a stage's `sources`: SourceConfig with these fields, the others at their defaults."""
    entry = to_config_dict(SourceConfig(**fields))
    entry.where = where  # ConfigDicts from the function below, not FilterConfigs
    return entry


def where(field: str, **conditions: Any) -> ml_collections.ConfigDict:
    """One entry of `source.where`: a condition on a field of the rows."""
    return to_config_dict(FilterConfig(field=field, **conditions))


def cell(name: str, **fields: Any) -> ml_collections.ConfigDict:
    """One entry of `ablations.cells`: CellConfig with these fields, the others at their defaults."""
    entry = to_config_dict(CellConfig(name=name))
    entry.update(fields)
    return entry
