"""Sizes of the models: the released ones by name, and any other read off the shapes of a checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from radvqa_jax.trees import nearest


@dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the vision tower. SigLIP So400m/14 by default."""

    width: int = 1152
    depth: int = 27
    mlp_dim: int = 4304
    num_heads: int = 16
    patch: int = 14  # pixels
    kernel: str = ""  # how attention is computed: a name in fused_attention.py; empty = with all probabilities


@dataclass(frozen=True)
class GemmaConfig:
    """Sizes and switches of the language model. Gemma 2B by default."""

    width: int = 2048
    depth: int = 18
    mlp_dim: int = 16384
    num_heads: int = 8
    num_kv_heads: int = 1  # as many as num_heads: one fused qkv_einsum
    head_dim: int = 256
    vocab_size: int = 257_152
    query_scale: float = 0.0  # factor on queries; 0 = head_dim ** -0.5
    attn_softcap: float = 0.0  # Gemma 2: 50; 0 = none
    final_softcap: float = 0.0  # on the logits of decoding steps; big_vision's fine-tuning configs switch it off
    post_norms: bool = False  # Gemma 2: a norm after attention and after the MLP too
    kernel: str = ""  # as the vision tower's


@dataclass(frozen=True)
class Variant:
    """The sizes of a whole model: both towers and the image size it was trained at."""

    img: SiglipConfig
    llm: GemmaConfig
    resolution: int  # pixels
    backbone: str = "paligemma"  # the name of a record in backbones/

    @property
    def num_patches(self) -> int:
        """Number of image tokens P."""
        return (self.resolution // self.img.patch) ** 2

    def at(self, resolution: int) -> "Variant":
        """The same model at another image size; 0 keeps this one."""
        if resolution % self.img.patch:
            raise ValueError(f"model.resolution={resolution} must be a multiple of the patch size {self.img.patch}.")
        return replace(self, resolution=resolution) if resolution else self


_SO400M = SiglipConfig()
_GEMMA_2B = GemmaConfig()
_GEMMA2_2B = GemmaConfig(
    width=2304, depth=26, mlp_dim=9216, num_heads=8, num_kv_heads=4, attn_softcap=50.0, post_norms=True
)
_GEMMA2_9B = GemmaConfig(
    width=3584, depth=42, mlp_dim=14336, num_heads=16, num_kv_heads=8, attn_softcap=50.0, post_norms=True
)
_GEMMA2_27B = GemmaConfig(
    width=4608,
    depth=46,
    mlp_dim=36864,
    num_heads=32,
    num_kv_heads=16,
    head_dim=128,
    query_scale=(4608 / 32) ** -0.5,  # the only released size that does not scale by head_dim
    attn_softcap=50.0,
    post_norms=True,
)
# The embedded default of scripts/make_tiny_paligemma.py.
_TINY = Variant(
    SiglipConfig(width=128, depth=4, mlp_dim=384, num_heads=4, patch=14),
    GemmaConfig(width=128, depth=4, mlp_dim=384, num_heads=4, num_kv_heads=1, head_dim=32, vocab_size=1984),
    112,
)

# For tests: every part is there, nothing is big.
_DUMMY = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=4),
    GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=4, num_kv_heads=1, head_dim=8, vocab_size=64),
    8,
)

VARIANTS: dict[str, Variant] = {
    **{f"paligemma-3b-{res}": Variant(_SO400M, _GEMMA_2B, res) for res in (224, 448, 896)},
    **{f"paligemma2-3b-{res}": Variant(_SO400M, _GEMMA2_2B, res) for res in (224, 448, 896)},
    **{f"paligemma2-10b-{res}": Variant(_SO400M, _GEMMA2_9B, res) for res in (224, 448, 896)},
    **{f"paligemma2-28b-{res}": Variant(_SO400M, _GEMMA2_27B, res) for res in (224, 448, 896)},
    "tiny": _TINY,
    "dummy": _DUMMY,
}


DEFAULT = "paligemma-3b-448"
_CUSTOM = "custom"  # the name of a model that has none begins so, and goes on with its sizes as JSON


def get_variant(name: str) -> Variant:
    """The sizes of a named model; of the default one if the name is empty.

    A model that has no name is described instead, as `variant_name` does it.
    """
    if name.startswith(f"{_CUSTOM}{{"):
        try:
            sizes = json.loads(name.removeprefix(_CUSTOM))
            img, llm = SiglipConfig(**sizes["img"]), GemmaConfig(**sizes["llm"])
            return Variant(img, llm, int(sizes["resolution"]), sizes.get("backbone", Variant.backbone))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"model.variant={name!r} does not describe a model ({error}).") from error
    name = name or DEFAULT
    if name not in VARIANTS:
        raise ValueError(f"model.variant={name!r} is unknown.{nearest(name, VARIANTS)} Known: {', '.join(VARIANTS)}.")
    return VARIANTS[name]


def variant_name(variant: Variant) -> str:
    """The name of a variant, or of one without a name its sizes as text, which `get_variant` reads again.

    >>> variant_name(VARIANTS["paligemma-3b-224"])
    'paligemma-3b-224'
    >>> variant_name(VARIANTS["dummy"].at(16)).startswith('custom{"img":{"width":16')
    True
    """
    known = next((name for name, other in VARIANTS.items() if other == variant), None)
    sizes = {name: value for name, value in asdict(variant).items() if value != Variant.backbone}
    return known or f"{_CUSTOM}{json.dumps(sizes, separators=(',', ':'))}"


def infer_variant(shapes: Mapping[str, Any], *, gemma2: bool | None = None) -> Variant:
    """The sizes that a PaliGemma checkpoint's shapes tell.

    Args:
        shapes: flat tree, name without `params/` -> anything with `.shape`.
        gemma2: whether decoding steps and attention are soft-capped; None = if there are post-norms, as in Gemma 2.

    Raises:
        ValueError: if a leaf that the sizes are read from is absent.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise ValueError(f"Not a PaliGemma checkpoint: it lacks `{name}`.{nearest(name, shapes)}")
        return tuple(shapes[name].shape)

    block = "img/Transformer/encoderblock"
    depth, width, num_heads, _ = shape(f"{block}/MultiHeadDotProductAttention_0/query/kernel")
    patch = shape("img/embedding/kernel")[0]
    grid = round(shape("img/pos_embedding")[1] ** 0.5)
    img = SiglipConfig(width, depth, shape(f"{block}/MlpBlock_0/Dense_0/kernel")[2], num_heads, patch)
    vocab_size, llm_width = shape("llm/embedder/input_embedding")
    llm_depth, heads, head_dim, _ = shape("llm/layers/attn/attn_vec_einsum/w")
    post_norms = "llm/layers/post_attention_norm/scale" in shapes
    gemma2 = post_norms if gemma2 is None else gemma2
    fused = "llm/layers/attn/qkv_einsum/w" in shapes
    is_27b = (llm_width, heads, head_dim) == (_GEMMA2_27B.width, _GEMMA2_27B.num_heads, _GEMMA2_27B.head_dim)
    llm = GemmaConfig(
        width=llm_width,
        depth=llm_depth,
        mlp_dim=shape("llm/layers/mlp/linear")[1],
        num_heads=heads,
        num_kv_heads=heads if fused else shape("llm/layers/attn/kv_einsum/w")[2],
        head_dim=head_dim,
        vocab_size=vocab_size,
        query_scale=_GEMMA2_27B.query_scale if is_27b else 0.0,
        attn_softcap=50.0 if gemma2 else 0.0,
        final_softcap=30.0 if gemma2 else 0.0,
        post_norms=post_norms,
    )
    return Variant(img, llm, grid * patch)
