"""PEFT's `adapter_config.json`: supported settings, refused settings with the reason, and written targets."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.checkpoints.adapter_meta import Pattern
from radvqa_jax.config.bounds import Alpha, Below1

_LAYER = re.compile(r"\.layers\.(\d+)\.")

Rank = Annotated[int, Field(ge=1, le=2**16)]

MERGE = "Merge the adapter into its base with PEFT (merge_and_unload) and give the merged folder as model.checkpoint."

# Understood, or without influence on what the adapter computes.
_KNOWN = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "peft_version", "inference_mode",
    "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_dropout", "bias", "modules_to_save",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights", "runtime_config",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying", "inject_adapter_in_model",
    # What they belong to is refused or absent: `megatron_config`, `use_qalora`.
    "megatron_core", "qalora_group_size",
}  # fmt: skip

# Settings that would change the result and have no equivalent here -> the reason.
_REFUSED = {
    "use_dora": "DoRA rescales every column of the merged weight, which an adapter here does not",
    "modules_to_save": "whole modules were trained in addition to the factors, and would be lost",
    "fan_in_fan_out": "the base stores its weights transposed, which PaliGemma does not",
    "lora_bias": "the factors have a bias, which adapters here do not have",
    "layer_replication": "layers of the base are used more than once",
    "trainable_token_indices": "rows of the embedding were trained, and they would be lost",
    "target_parameters": "factors of bare parameters are not those of linear modules",
    "use_qalora": "QALoRA pools the input of A",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only",
    "arrow_config": "Arrow chooses among several adapters",
    "megatron_config": "the factors are those of Megatron's layers",
    "use_bdlora": "block-diagonal factors are not plain ones",
    "velora_config": "VeLoRA changes how the factors are trained and stored",
    "monteclora_config": "the factors are random variables",
}

# Initialisations that move part of the base into the factors: on the untouched base the adapter means something else.
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class PeftScale(NamedTuple):
    """The settings that scale the effect of the factors on the base, by PEFT's names."""

    r: Rank
    lora_alpha: Alpha = 8
    lora_dropout: Below1 = 0.0
    use_rslora: bool = False
    rank_pattern: Annotated[dict[Pattern, Rank], Field(max_length=1000)] = {}  # noqa: RUF012 never mutated
    alpha_pattern: Annotated[dict[Pattern, Alpha], Field(max_length=1000)] = {}  # noqa: RUF012 never mutated


class PeftTargets(NamedTuple):
    """The settings that choose the modules which PEFT gives factors, by PEFT's names; None = not set."""

    target_modules: str | Annotated[list[str], Field(max_length=10_000)] | None = None
    exclude_modules: str | Annotated[list[str], Field(max_length=10_000)] | None = None
    layers_to_transform: int | Annotated[list[int], Field(max_length=10_000)] | None = None

    def leaves_out(self, names: Collection[str]) -> str:
        """The setting by which PEFT gives a module no factors, and ignores those that are stored; empty if none does.

        Patterns are not compared, only lists: the names that a pattern was written for differ between versions.

        Args:
            names: of the module, in every version.
        """
        if isinstance(self.target_modules, list) and self.target_modules and not _ends_one(self.target_modules, names):
            return "target_modules"
        if isinstance(self.exclude_modules, list) and _ends_one(self.exclude_modules, names):
            return "exclude_modules"
        layers = [self.layers_to_transform] if isinstance(self.layers_to_transform, int) else self.layers_to_transform
        layer = next((int(found[1]) for name in names if (found := _LAYER.search(name))), None)
        return "layers_to_transform" if layers and layer not in layers else ""


def _ends_one(ends: Collection[str], names: Collection[str]) -> bool:
    """Whether one of the names is, or ends in, one of these names."""
    return any(name == end or name.endswith(f".{end}") for name in names for end in ends)


def check_config(config: Any, *, where: Path, projector: bool = False) -> tuple[PeftScale, PeftTargets]:
    """The used parts of the file; a null counts as absent.

    Args:
        config: the parsed file.
        where: the file, named in errors.
        projector: accept a projector that was trained whole.

    Raises:
        ValueError: naming every setting without an equivalent in this project, with the reason; or the field, if a
            value has another type or is out of its range.
    """
    if not isinstance(config, Mapping) or (config.get("peft_type") == "LORA" and "r" not in config):
        raise ValueError(f"{where} is no adapter_config.json of a LoRA: it must be an object with `peft_type` and `r`.")
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{where} has peft_type={config.get('peft_type')!r}; only LORA adapters are read. {MERGE}")
    reasons = []
    for key, value in config.items():
        if projector and key == "modules_to_save" and value == ["multi_modal_projector"]:
            continue
        if not value or value == "none":
            continue
        if key in _REFUSED:
            reasons.append(f"{key}={value!r}: {_REFUSED[key]}")
        elif key == "bias":
            reasons.append(f"bias={value!r}: biases of the base were trained, and they would be lost")
        elif key == "init_lora_weights" and str(value).lower().startswith(_MOVES_BASE):
            reasons.append(f"init_lora_weights={value!r}: this initialisation changes the base that the factors add to")
        elif key not in _KNOWN:
            reasons.append(f"{key}={value!r}: this setting is not known here")
    if reasons:
        raise ValueError(f"{where} cannot be translated:\n  " + "\n  ".join(reasons) + f"\n{MERGE}")
    given = {key: value for key, value in config.items() if value is not None}
    scale = {key: given[key] for key in PeftScale._fields if key in given}
    targets = {key: given[key] for key in PeftTargets._fields if key in given}
    return typed_json.check(scale, PeftScale, where=str(where)), typed_json.check(
        targets, PeftTargets, where=str(where)
    )


def target_modules(modules: list[str]) -> str | list[str]:
    """`target_modules`: one regular expression that names exactly these modules, in every version's names.

    A list of endings would be shorter, but `q_proj` alone means both towers. Even without modules (a projector alone)
    PEFT needs an entry: an empty list.
    """
    kinds = sorted({re.sub(r"\.\d+\.", ".N.", module.removeprefix("model.")) for module in modules})
    if not kinds:
        return []
    patterns = [
        re.escape(kind)
        .replace(r"\.N\.", r"\.\d+\.")
        .replace(r"vision_tower\.vision_model", r"vision_tower(?:\.vision_model)?")
        for kind in kinds
    ]
    return rf"(?:.*\.)?(?:{'|'.join(patterns)})"
