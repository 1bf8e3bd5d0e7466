"""PaliGemma 1 and 2, with the names of big_vision's tree."""

from radvqa_jax.backbones.record import Backbone, TreeNames, image_first
from radvqa_jax.checkpoints.paligemma_layout import LAYOUT
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.hf_config import config_of, variant_of
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import ATTENDED, DOWN, FIRST, PROJECTED, QKV, SECOND
from radvqa_jax.models.variants import Variant, infer_variant


def kept_values(variant: Variant) -> dict[str, dict[str, int]]:
    """For each tower, the values that one position of a layer has under each name; `` is the layer's input."""
    img, llm = variant.img, variant.llm
    heads, shared = llm.num_heads * llm.head_dim, llm.num_kv_heads * llm.head_dim
    vision = {"": img.width, QKV: 3 * img.width, ATTENDED: img.width, PROJECTED: img.width, FIRST: img.mlp_dim}
    language = {"": llm.width, QKV: heads + 2 * shared, ATTENDED: heads, PROJECTED: llm.width}
    language |= {FIRST: llm.mlp_dim, SECOND: llm.mlp_dim, DOWN: llm.width if llm.post_norms else 0}
    return {"img": vision, "llm": language}


PALIGEMMA = Backbone(
    name="paligemma",
    title="PaliGemma",
    model=PaliGemma,
    tree=TreeNames(
        vision="img",
        projector="img/head",
        vision_layers="img/Transformer/encoderblock",
        language_layers="llm/layers",
        vision_attention="img/Transformer/encoderblock/MultiHeadDotProductAttention_0",
        language_attention="llm/layers/attn",
        patch_embedding="img/embedding/kernel",
    ),
    equations=(
        (r"img/.*/(query|key|value)/kernel", "BTD,DNH->BTNH"),
        (r"img/.*/out/kernel", "BTNH,NHD->BTD"),
        (r"img/.*/Dense_[01]/kernel", "BTD,DF->BTF"),
        (r"img/head/kernel", "BTD,DF->BTF"),
        (r"llm/.*/q_einsum/w", "BTD,NDH->BTNH"),
        (r"llm/.*/kv_einsum/w", "BTD,CKDH->CBTKH"),
        (r"llm/.*/qkv_einsum/w", "BTD,CNDH->CBTNH"),
        (r"llm/.*/attn_vec_einsum/w", "BTNH,NHD->BTD"),
        (r"llm/.*/gating_einsum", "BTD,CDF->CBTF"),
        (r"llm/.*/linear", "BTF,FD->BTD"),
    ),
    # A leading None is the layer axis. An axis that a mesh axis does not divide stays whole, as Gemma's one key head.
    sharding=(
        (r".*/lora_[ab]", ()),
        (r"llm/embedder/input_embedding", (("tensor", "fsdp"), None)),  # along its tokens: activation_sharding.py
        (r"llm/.*/q_einsum/w", (None, "tensor", "fsdp", None)),
        (r"llm/.*/(kv|qkv)_einsum/w", (None, None, "tensor", "fsdp", None)),
        (r"llm/.*/attn_vec_einsum/w", (None, "tensor", None, "fsdp")),
        (r"llm/.*/gating_einsum", (None, None, "fsdp", "tensor")),
        (r"llm/.*/linear", (None, "tensor", "fsdp")),
        (r"img/.*/(query|key|value)/kernel", (None, "fsdp", "tensor", None)),
        (r"img/.*/out/kernel", (None, "tensor", None, "fsdp")),
        (r"img/.*/Dense_0/kernel", (None, "fsdp", "tensor")),
        (r"img/.*/Dense_1/kernel", (None, "tensor", "fsdp")),
        (r".*", ()),  # norms, biases, position and patch embedding, projector: small, one copy a device
    ),
    results=(
        (r".*/(q_einsum|kv_einsum|qkv_einsum)/w|.*/(query|key|value)/kernel", (QKV,)),
        (r".*/attn_vec_einsum/w|.*/out/kernel", (PROJECTED,)),
        (r"img/.*/Dense_0/kernel", (FIRST,)),
        (r"llm/.*/gating_einsum", (FIRST, SECOND)),
        (r"llm/.*/linear|img/.*/Dense_1/kernel", (DOWN,)),
    ),
    sequence=image_first,
    tokenizer=Tokenizer,
    layout=LAYOUT,
    model_type="paligemma",
    read_config=variant_of,
    write_config=config_of,
    infer=infer_variant,
    kept_values=kept_values,
)
