"""config.json of a Hugging Face folder, as people and tools write it: read by type and range, or an error by field."""

import copy
import math
from typing import Any

import pytest

from radvqa_jax.models.hf_config import config_of, same_model, variant_of
from radvqa_jax.models.variants import get_variant

GEMMA, GEMMA2 = "paligemma-3b-224", "paligemma2-3b-224"


def config(name: str = GEMMA) -> dict[str, Any]:
    return copy.deepcopy(config_of(get_variant(name), image_token=257_152, dtype="float32"))


@pytest.mark.parametrize("name", [GEMMA, GEMMA2])
def test_what_is_written_is_read(name: str) -> None:
    assert same_model(variant_of(config(name), what="config.json"), get_variant(name))


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("text_config", "hidden_size", "128"),
        ("text_config", "hidden_size", -128),
        ("text_config", "num_hidden_layers", 2.5),
        ("text_config", "num_hidden_layers", True),
        ("text_config", "head_dim", 0),
        ("text_config", "num_attention_heads", 0),
        ("text_config", "vocab_size", 10**30),
        ("text_config", "query_pre_attn_scalar", 0),
        ("text_config", "query_pre_attn_scalar", math.nan),
        ("text_config", "attn_logit_softcapping", "50"),
        ("vision_config", "patch_size", 0),
        ("vision_config", "image_size", [224]),
    ],
)
def test_sizes_have_types_and_ranges(section: str, field: str, value: Any) -> None:
    found = config(GEMMA2)
    found[section][field] = value
    with pytest.raises(ValueError, match=rf"config\.json, {section}: field `{field}` must"):
        variant_of(found, what="config.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_config": ["gemma"]}, "text_config must be a JSON object"),
        ({"text_config": "x"}, "text_config must be a JSON object"),
        ({"vision_config": 3}, "vision_config must be a JSON object"),
        ({"text_config": {"model_type": ["gemma"]}}, "text_config.model_type="),
        ({"text_config": {"rope_scaling": "linear"}}, "text_config: rope_scaling must be a JSON object"),
        ({"model_type": ["paligemma"]}, "model_type="),
    ],
)
def test_sections_are_objects(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_of(config() | changes, what="config.json")
