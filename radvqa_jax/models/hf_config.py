"""transformers' `config.json` of a PaliGemma: read as sizes of this project's model, and written for one.

Pure: dictionaries in and out. What this project's model does not have is refused by name (hf_architecture.py).
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.models.hf_architecture import refuse_other_models, section
from radvqa_jax.models.variants import VARIANTS, GemmaConfig, SiglipConfig, Variant

ROW_MULTIPLE = 64  # the Hub's files pad the vocabulary to a multiple of it, after a row for `<image>`
MAX_POSITIONS = 8192

# The values of fields that config.json omits: the defaults of transformers' configuration classes.
_VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_TEXT_DEFAULTS = {
    "gemma": {
        "vocab_size": 256_000,
        "hidden_size": 3072,
        "intermediate_size": 24_576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
    },
    "gemma2": {
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
}


Size = Annotated[int, Field(ge=1, le=2**24)]
Cap = Annotated[float, Field(ge=0, le=1e6)] | None


class _VisionSizes(NamedTuple):
    """The fields of vision_config that give the model's sizes."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    image_size: Size
    patch_size: Size


class _TextSizes(NamedTuple):
    """The fields of text_config that give the model's sizes; the last three are those of Gemma 2."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    query_pre_attn_scalar: Annotated[float, Field(gt=0, le=1e6)] = 256
    attn_logit_softcapping: Cap = None
    final_logit_softcapping: Cap = None


def variant_of(config: Mapping[str, Any], *, what: str) -> Variant:
    """The model that a config.json describes: a released one if it is one, with its own vocabulary.

    Args:
        config: the parsed file.
        what: the file, named in errors.

    Raises:
        ValueError: if it is not PaliGemma's, or describes a model that this project does not have.
    """
    if config.get("model_type") != "paligemma":
        raise ValueError(
            f"{what} has model_type={config.get('model_type')!r}, and this project has 'paligemma' (1 and 2). Give a "
            "PaliGemma folder."
        )
    text, vision = (section(config, name, what) for name in ("text_config", "vision_config"))
    kind = text.get("model_type", "gemma")
    if not isinstance(kind, str) or kind not in _TEXT_DEFAULTS:
        raise ValueError(f"{what}: text_config.model_type={kind!r} must be 'gemma' or 'gemma2'.")
    text, vision = _TEXT_DEFAULTS[kind] | _given(text), _VISION_DEFAULTS | _given(vision)
    for name, values, sizes in (("text_config", text, _TextSizes), ("vision_config", vision, _VisionSizes)):
        used = {key: values[key] for key in sizes._fields if key in values}
        typed_json.check(used, sizes, where=f"{what}, {name}")
    refuse_other_models(config, text, vision, what=what)
    img = SiglipConfig(
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        mlp_dim=vision["intermediate_size"],
        num_heads=vision["num_attention_heads"],
        patch=vision["patch_size"],
    )
    gemma2 = kind == "gemma2"
    scale = float(text["query_pre_attn_scalar"]) ** -0.5 if gemma2 else 0.0
    llm = GemmaConfig(
        width=text["hidden_size"],
        depth=text["num_hidden_layers"],
        mlp_dim=text["intermediate_size"],
        num_heads=text["num_attention_heads"],
        num_kv_heads=text["num_key_value_heads"],
        head_dim=text["head_dim"],
        vocab_size=_own_rows(config, text["vocab_size"]),
        query_scale=0.0 if scale == float(text["head_dim"]) ** -0.5 else scale,
        attn_softcap=float(text["attn_logit_softcapping"] or 0) if gemma2 else 0.0,
        final_softcap=float(text["final_logit_softcapping"] or 0) if gemma2 else 0.0,
        post_norms=gemma2,
    )
    found = Variant(img, llm, vision["image_size"])
    return next((known for known in VARIANTS.values() if same_model(known, found)), found)


def same_model(one: Variant, other: Variant) -> bool:
    """Whether two variants are the same model: all sizes, but for spare rows of the vocabulary.

    How attention is computed and the final cap of decoding, which no checkpoint tells, do not count.
    """
    rows = abs(one.llm.vocab_size - other.llm.vocab_size)
    return rows <= ROW_MULTIPLE and _sizes(one) == _sizes(other)


def differences(one: Variant, other: Variant) -> list[str]:
    """A line for each size in which two variants differ: `llm.width 2048 and 2304`."""
    lines = []
    for part, a, b in (("img", one.img, other.img), ("llm", one.llm, other.llm)):
        for field in dataclasses.fields(a):
            mine, theirs = getattr(a, field.name), getattr(b, field.name)
            if mine != theirs and field.name not in ("kernel", "final_softcap"):
                lines.append(f"{part}.{field.name} {mine} and {theirs}")
    if one.resolution != other.resolution:
        lines.append(f"resolution {one.resolution} and {other.resolution} px")
    return lines


def config_of(variant: Variant, *, image_token: int, dtype: str) -> dict[str, Any]:
    """The config.json of a model, for transformers 4.52 and later.

    Args:
        variant: its sizes.
        image_token: the id of `<image>`; the vocabulary has rows for it, and padding, if it is not among its own.
        dtype: of the stored weights.

    Raises:
        ValueError: if transformers has no such model.
    """
    img, llm = variant.img, variant.llm
    _refuse_unknown_to_transformers(llm)
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": img.width,
        "intermediate_size": img.mlp_dim,
        "num_hidden_layers": img.depth,
        "num_attention_heads": img.num_heads,
        "image_size": variant.resolution,
        "patch_size": img.patch,
        "num_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "projection_dim": llm.width,
        "vision_use_head": False,  # the default adds a pooling head with random weights, which adapters then match
    }
    text: dict[str, Any] = {
        "model_type": "gemma2" if llm.post_norms else "gemma",
        "vocab_size": padded_rows(llm.vocab_size, image_token),
        "hidden_size": llm.width,
        "intermediate_size": llm.mlp_dim,
        "num_hidden_layers": llm.depth,
        "num_attention_heads": llm.num_heads,
        "num_key_value_heads": llm.num_kv_heads,
        "head_dim": llm.head_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "max_position_embeddings": MAX_POSITIONS,
        "num_image_tokens": variant.num_patches,
        "tie_word_embeddings": True,
    }
    if llm.post_norms:
        text |= {
            "query_pre_attn_scalar": round((llm.query_scale or llm.head_dim**-0.5) ** -2),
            "attn_logit_softcapping": llm.attn_softcap or None,
            # None for the released sizes: transformers 5 applies it to every logit, and big_vision trains without.
            "final_logit_softcapping": llm.final_softcap or None,
            # Every layer attends to everything, as in the reference.
            "layer_types": ["full_attention"] * llm.depth,
            "sliding_window": MAX_POSITIONS,
        }
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "torch_dtype": dtype,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "hidden_size": llm.width,
        "projection_dim": llm.width,
        "image_token_index": image_token,
        "vocab_size": llm.vocab_size,  # without the rows of `<image>` and padding, which text_config counts
        "tie_word_embeddings": True,
        "text_config": text,
        "vision_config": vision,
    }


def padded_rows(rows: int, image_token: int) -> int:
    """The rows of the stored vocabulary: as they are if `<image>` is among them, else padded as on the Hub.

    >>> padded_rows(257_152, 257_152), padded_rows(320, 319)
    (257216, 320)
    """
    return rows if image_token < rows else -(-(image_token + 1) // ROW_MULTIPLE) * ROW_MULTIPLE


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set; some files write null where a default is meant."""
    return {key: value for key, value in values.items() if value is not None or key.endswith("_logit_softcapping")}


def _sizes(variant: Variant) -> Variant:
    llm = variant.llm
    scale = (
        0.0 if abs((llm.query_scale or llm.head_dim**-0.5) - llm.head_dim**-0.5) < 1e-9 else round(llm.query_scale, 9)
    )
    llm = dataclasses.replace(llm, vocab_size=0, final_softcap=0.0, kernel="", query_scale=scale)
    return Variant(dataclasses.replace(variant.img, kernel=""), llm, variant.resolution)


def _own_rows(config: Mapping[str, Any], rows: int) -> int:
    """The number of rows of the vocabulary without `<image>` and padding, if config.json distinguishes them."""
    told = config.get("vocab_size", config.get("_vocab_size"))
    return told if isinstance(told, int) and 0 <= rows - told <= ROW_MULTIPLE else rows


def _refuse_unknown_to_transformers(llm: GemmaConfig) -> None:
    plain_scale = abs((llm.query_scale or llm.head_dim**-0.5) - llm.head_dim**-0.5) < 1e-9
    if not llm.post_norms and (llm.attn_softcap or not plain_scale):
        raise ValueError(
            f"transformers' Gemma 1 has no attention soft cap and scales by head_dim; this model has attn_softcap="
            f"{llm.attn_softcap} and query_scale={llm.query_scale} without Gemma 2's norms. Export it as "
            "export.format=big_vision."
        )
