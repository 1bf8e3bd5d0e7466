"""The computation that a config.json describes, apart from sizes: only that of the released PaliGemma is accepted.

Pure: dictionaries in. Another activation, rotary base, attention window or norm epsilon, and untied embeddings, are
refused by name rather than ignored.
"""

from collections.abc import Mapping
from typing import Any

_TANH = ("gelu_pytorch_tanh", "gelu_fast", "gelu_new")  # transformers' names of one function
_WINDOW = 4096  # PaliGemma 2's sliding window in transformers, which big_vision trains without


def section(config: Mapping[str, Any], name: str, what: str) -> dict[str, Any]:
    """An object of config.json, empty if it is absent or null."""
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{what}: {name} must be a JSON object; got {str(found)[:80]!r}.")
    return found


def refuse_other_models(
    config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], *, what: str
) -> None:
    """Raises ValueError, naming the field, if a config.json describes another computation than this project's.

    Args:
        config: the parsed file.
        text: its text_config, with defaults.
        vision: its vision_config, with defaults.
        what: the file, named in errors.
    """
    checks: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("text_config.hidden_activation", text.get("hidden_activation", _TANH[0]), _TANH),
        # In old Gemma configs `gelu` means the tanh form. In vision_config it is the exact one.
        ("text_config.hidden_act", text.get("hidden_act", _TANH[0]), (*_TANH, "gelu")),
        ("text_config.rms_norm_eps", text.get("rms_norm_eps", 1e-6), (1e-6,)),
        ("text_config.rope_theta", text.get("rope_theta", 10_000.0), (10_000.0,)),
        *_rope_checks(text, what=what),
        ("text_config.attention_bias", text.get("attention_bias", False), (False,)),
        ("tie_word_embeddings", config.get("tie_word_embeddings", True), (True, None)),
        ("text_config.tie_word_embeddings", text.get("tie_word_embeddings", True), (True, None)),
        ("vision_config.hidden_act", vision["hidden_act"], _TANH),
        ("vision_config.layer_norm_eps", vision["layer_norm_eps"], (1e-6,)),
        ("vision_config.num_channels", vision["num_channels"], (3,)),
        ("quantization_config", config.get("quantization_config"), (None,)),
    ]
    for name, value, known in checks:
        if value not in known:
            raise ValueError(
                f"{what}: {name}={value!r} is not what this project's PaliGemma computes ({known[0]!r}). Give a "
                "checkpoint of the released architecture."
            )
    layers = text.get("layer_types", "sliding_attention" if text.get("model_type") == "gemma2" else "full_attention")
    window = text.get("sliding_window", _WINDOW)
    if "sliding" in str(layers) and not (isinstance(window, int | float) and window >= _WINDOW):
        raise ValueError(
            f"{what}: text_config.sliding_window={window!r} must be at least {_WINDOW}: in this project's PaliGemma "
            "every layer attends to everything. Give a checkpoint of the released architecture."
        )


def _rope_checks(text: Mapping[str, Any], *, what: str) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """(field, value, accepted values) of what text_config says about rotary embeddings."""
    checks: list[tuple[str, Any, tuple[Any, ...]]] = []
    for place in ("rope_parameters", "rope_scaling"):
        rope = section(text, place, f"{what}, text_config")
        by_layer = [values for values in rope.values() if isinstance(values, dict)]  # {"full_attention": {…}, …}
        for part in (rope, *by_layer):
            for name, known in (("rope_theta", 10_000.0), ("rope_type", "default"), ("type", "default")):
                checks.append((f"text_config.{place}.{name}", part.get(name, known), (known, None)))
    return checks
