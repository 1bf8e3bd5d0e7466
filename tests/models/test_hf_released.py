"""config.json of every released PaliGemma is known by name, and a description of another model is refused by name."""

import copy
from typing import Any

import pytest

from radvqa_jax.models.hf_config import config_of, differences, variant_of
from radvqa_jax.models.variants import VARIANTS, get_variant

# Sizes as in the Hub's files; the missing ones are transformers' defaults (head_dim, 224 px).
TEXT: dict[str, dict[str, Any]] = {
    "paligemma-3b": {
        "model_type": "gemma",
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
    },
    "paligemma2-3b": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "query_pre_attn_scalar": 256,
    },
    "paligemma2-10b": {
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_attention_heads": 16,
        "num_hidden_layers": 42,
        "num_key_value_heads": 8,
        "query_pre_attn_scalar": 256,
    },
    "paligemma2-28b": {
        "hidden_size": 4608,
        "intermediate_size": 36864,
        "num_attention_heads": 32,
        "num_hidden_layers": 46,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "query_pre_attn_scalar": 144,
    },
}
GEMMA2 = {
    "model_type": "gemma2",
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 4096,
}
RELEASED = [f"{model}-{resolution}" for model in TEXT for resolution in (224, 448, 896)]


def hub_config(name: str) -> dict[str, Any]:
    """A config.json as the Hub has it."""
    model, resolution = name.rsplit("-", 1)
    text = {"vocab_size": 257_216, "num_image_tokens": (int(resolution) // 14) ** 2} | TEXT[model]
    text |= GEMMA2 if "model_type" not in text else {}
    vision: dict[str, Any] = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "projection_dim": text["hidden_size"],
        "projector_hidden_act": "gelu_fast",
        "vision_use_head": False,
    }
    vision |= {} if resolution == "224" else {"image_size": int(resolution)}
    return {
        "_vocab_size": 257_152,
        "model_type": "paligemma",
        "image_token_index": 257_152,
        "hidden_size": 2048,
        "projection_dim": text["hidden_size"],
        "text_config": text,
        "vision_config": vision,
    }


def test_every_released_size_is_here() -> None:
    assert set(RELEASED) == set(VARIANTS) - {"tiny", "dummy"}


@pytest.mark.parametrize("name", RELEASED)
def test_a_config_of_the_hub_is_the_released_variant(name: str) -> None:
    assert variant_of(hub_config(name), what="config.json") is VARIANTS[name]


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_written_is_the_same_variant_again(name: str) -> None:
    """In particular the head size and the number of image tokens, which are equal only at 224 px."""
    written = config_of(get_variant(name), image_token=257_152, dtype="bfloat16")
    assert variant_of(written, what="config.json") is VARIANTS[name]
    text = written["text_config"]
    assert text["vocab_size"] == 257_216 and text["head_dim"] == (128 if "28b" in name else 256)
    assert text["num_image_tokens"] == (int(name.rsplit("-", 1)[1]) // 14) ** 2


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_config", "num_hidden_layers", 19),
        ("text_config", "head_dim", 1024),  # from a converter that takes the image tokens at 448 px for it
        ("vision_config", "num_attention_heads", 8),
        ("vision_config", "image_size", 336),
    ],
)
def test_another_size_is_another_model_and_named(part: str, field: str, value: int) -> None:
    config = copy.deepcopy(hub_config("paligemma-3b-448"))
    config[part][field] = value
    found = variant_of(config, what="config.json")
    assert found not in VARIANTS.values()
    (line,) = differences(VARIANTS["paligemma-3b-448"], found)
    assert str(value) in line


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("", "model_type", "llava", "has model_type='llava'"),
        ("text_config", "model_type", "llama", "llama"),
        ("text_config", "hidden_activation", "silu", r"text_config\.hidden_activation='silu'"),
        ("text_config", "hidden_act", "silu", r"text_config\.hidden_act='silu'"),
        ("text_config", "hidden_activation", "gelu", r"text_config\.hidden_activation='gelu'"),
        ("text_config", "rope_theta", 1e6, r"text_config\.rope_theta=1000000"),
        ("text_config", "rope_parameters", {"rope_theta": 5e5}, r"text_config\.rope_parameters\.rope_theta=500000"),
        ("text_config", "rope_parameters", {"full_attention": {"rope_type": "linear"}}, r"rope_type='linear'"),
        ("text_config", "rope_scaling", {"type": "linear", "factor": 2.0}, r"text_config\.rope_scaling\.type='linear'"),
        ("text_config", "sliding_window", 512, r"text_config\.sliding_window=512 must be at least 4096"),
        ("text_config", "rms_norm_eps", 1e-5, r"text_config\.rms_norm_eps=1e-05"),
        ("text_config", "attention_bias", True, r"text_config\.attention_bias=True"),
        ("", "tie_word_embeddings", False, "tie_word_embeddings=False"),
        ("vision_config", "hidden_act", "quick_gelu", r"vision_config\.hidden_act='quick_gelu'"),
        ("vision_config", "hidden_act", "gelu", r"vision_config\.hidden_act='gelu'"),
        ("", "quantization_config", {"quant_method": "bitsandbytes"}, "quantization_config="),
    ],
)
def test_a_model_that_is_computed_differently_is_refused_by_name(
    part: str, field: str, value: object, message: str
) -> None:
    config = copy.deepcopy(hub_config("paligemma2-3b-448"))
    config["text_config"]["rope_theta"] = 10_000.0
    (config[part] if part else config)[field] = value
    with pytest.raises(ValueError, match=rf"config\.json.*{message}"):
        variant_of(config, what="config.json")


@pytest.mark.parametrize(
    ("name", "part", "changes"),
    [
        ("paligemma-3b-448", "text_config", {"hidden_act": "gelu", "hidden_activation": None}),  # an old Gemma's
        ("paligemma-3b-448", "text_config", {"sliding_window": 128}),  # Gemma 1 has none
        ("paligemma2-3b-448", "text_config", {"layer_types": ["full_attention"] * 26, "sliding_window": 128}),
        ("paligemma2-3b-448", "text_config", {"rope_parameters": {"rope_theta": 10_000, "rope_type": "default"}}),
        ("paligemma2-3b-448", "vision_config", {"hidden_act": "gelu_new"}),
    ],
)
def test_another_name_of_the_same_model_is_read(name: str, part: str, changes: dict[str, Any]) -> None:
    config = hub_config(name)
    config[part] |= changes
    assert variant_of(config, what="config.json") is VARIANTS[name]
