"""PaliGemma 1 and 2 in transformers: the place of each leaf of big_vision's tree."""

from collections.abc import Iterable

from radvqa_jax.checkpoints.huggingface import EMBEDDING, LAYER, Layout, Place

_BLOCK = "img/Transformer/encoderblock"
_ATTN = f"{_BLOCK}/MultiHeadDotProductAttention_0"
_VISION = f"vision_tower.encoder.layers.{LAYER}"
_TEXT = f"language_model.layers.{LAYER}"


def _one(ours: str, theirs: str, *names: str) -> Place:
    return Place(ours, theirs, names)


_PLACES: dict[str, Place] = {
    "img/embedding/kernel": _one("p q c3 d", "d c3 p q", "vision_tower.embeddings.patch_embedding.weight"),
    "img/embedding/bias": _one("d", "d", "vision_tower.embeddings.patch_embedding.bias"),
    "img/pos_embedding": _one("1 p d", "p d", "vision_tower.embeddings.position_embedding.weight"),
    f"{_BLOCK}/LayerNorm_0/scale": _one("l d", "d", f"{_VISION}.layer_norm1.weight"),
    f"{_BLOCK}/LayerNorm_0/bias": _one("l d", "d", f"{_VISION}.layer_norm1.bias"),
    f"{_BLOCK}/LayerNorm_1/scale": _one("l d", "d", f"{_VISION}.layer_norm2.weight"),
    f"{_BLOCK}/LayerNorm_1/bias": _one("l d", "d", f"{_VISION}.layer_norm2.bias"),
    **{
        f"{_ATTN}/{name}/kernel": _one("l d n h", "(n h) d", f"{_VISION}.self_attn.{name[0]}_proj.weight")
        for name in ("query", "key", "value")
    },
    **{
        f"{_ATTN}/{name}/bias": _one("l n h", "(n h)", f"{_VISION}.self_attn.{name[0]}_proj.bias")
        for name in ("query", "key", "value")
    },
    f"{_ATTN}/out/kernel": _one("l n h d", "d (n h)", f"{_VISION}.self_attn.out_proj.weight"),
    f"{_ATTN}/out/bias": _one("l d", "d", f"{_VISION}.self_attn.out_proj.bias"),
    f"{_BLOCK}/MlpBlock_0/Dense_0/kernel": _one("l d f", "f d", f"{_VISION}.mlp.fc1.weight"),
    f"{_BLOCK}/MlpBlock_0/Dense_0/bias": _one("l f", "f", f"{_VISION}.mlp.fc1.bias"),
    f"{_BLOCK}/MlpBlock_0/Dense_1/kernel": _one("l f d", "d f", f"{_VISION}.mlp.fc2.weight"),
    f"{_BLOCK}/MlpBlock_0/Dense_1/bias": _one("l d", "d", f"{_VISION}.mlp.fc2.bias"),
    "img/Transformer/encoder_norm/scale": _one("d", "d", "vision_tower.post_layernorm.weight"),
    "img/Transformer/encoder_norm/bias": _one("d", "d", "vision_tower.post_layernorm.bias"),
    "img/head/kernel": _one("d f", "f d", "multi_modal_projector.linear.weight"),
    "img/head/bias": _one("f", "f", "multi_modal_projector.linear.bias"),
    "llm/embedder/input_embedding": _one("v d", "v d", EMBEDDING),
    "llm/layers/attn/q_einsum/w": _one("l n d h", "(n h) d", f"{_TEXT}.self_attn.q_proj.weight"),
    "llm/layers/attn/kv_einsum/w": _one(
        "l c k d h", "(k h) d", *(f"{_TEXT}.self_attn.{name}_proj.weight" for name in "kv")
    ),
    "llm/layers/attn/qkv_einsum/w": _one(
        "l c n d h", "(n h) d", *(f"{_TEXT}.self_attn.{name}_proj.weight" for name in "qkv")
    ),
    "llm/layers/attn/attn_vec_einsum/w": _one("l n h d", "d (n h)", f"{_TEXT}.self_attn.o_proj.weight"),
    "llm/layers/mlp/gating_einsum": _one(
        "l c d f", "f d", *(f"{_TEXT}.mlp.{name}_proj.weight" for name in ("gate", "up"))
    ),
    "llm/layers/mlp/linear": _one("l f d", "d f", f"{_TEXT}.mlp.down_proj.weight"),
    "llm/layers/pre_attention_norm/scale": _one("l d", "d", f"{_TEXT}.input_layernorm.weight"),
    "llm/final_norm/scale": _one("d", "d", "language_model.norm.weight"),
}
# transformers calls Gemma 1's norm before the MLP by the name that Gemma 2 has for the norm after attention.
_GEMMA_1 = {"llm/layers/pre_ffw_norm/scale": _one("l d", "d", f"{_TEXT}.post_attention_layernorm.weight")}
_GEMMA_2 = {
    "llm/layers/post_attention_norm/scale": _one("l d", "d", f"{_TEXT}.post_attention_layernorm.weight"),
    "llm/layers/pre_ffw_norm/scale": _one("l d", "d", f"{_TEXT}.pre_feedforward_layernorm.weight"),
    "llm/layers/post_ffw_norm/scale": _one("l d", "d", f"{_TEXT}.post_feedforward_layernorm.weight"),
}


def places(leaves: Iterable[str]) -> dict[str, Place]:
    """The place in transformers of each leaf of a PaliGemma, 1 or 2.

    Raises:
        ValueError: if a leaf is not PaliGemma's.
    """
    leaves = list(leaves)
    gemma = _GEMMA_2 if any(name in leaves for name in _GEMMA_2 if "/post_" in name) else _GEMMA_1
    table = _PLACES | gemma
    if unknown := [name for name in leaves if name not in table]:
        raise ValueError(f"transformers' PaliGemma has no place for the leaves {unknown}.")
    return {name: table[name] for name in leaves}


LAYOUT = Layout(
    branches=("img", "llm"),
    token_table="llm/embedder/input_embedding",
    position_embedding="img/pos_embedding",
    projector=("img/head/kernel", "img/head/bias"),
    places=places,
)
