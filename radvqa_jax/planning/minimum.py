"""The least arithmetic that a step of training takes, and what is computed again beside it, from the sizes alone."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from radvqa_jax.models.fused_attention import BLOCK
from radvqa_jax.models.lora import equation_of
from radvqa_jax.models.remat import ATTENDED, DOWN, FIRST, KEPT, PROJECTED, QKV, SECOND, Remat
from radvqa_jax.models.variants import Variant

LAYERS = {"img": "img/Transformer/", "llm": "llm/layers/"}
# Weights of a layer -> the names under which their results can be kept; a leaf of two weights has two.
RESULTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r".*/(q_einsum|kv_einsum|qkv_einsum)/w|.*/(query|key|value)/kernel", (QKV,)),
    (r".*/attn_vec_einsum/w|.*/out/kernel", (PROJECTED,)),
    (r"img/.*/Dense_0/kernel", (FIRST,)),
    (r"llm/.*/gating_einsum", (FIRST, SECOND)),
    (r"llm/.*/linear|img/.*/Dense_1/kernel", (DOWN,)),
)


class _Product(NamedTuple):
    """One linear weight, or a factor of its adapter, and what it is for."""

    name: str  # of the leaf
    weight: str  # of the linear weight
    tower: str
    layered: bool  # whether it is in a tower's layers
    flops: float  # of one product over all its tokens


def _products(variant: Variant, leaves: Mapping[str, Any], rows: int, seq_len: float) -> Iterator[_Product]:
    tokens = {"img": rows * variant.num_patches, "llm": rows * (variant.num_patches + seq_len)}
    for name, leaf in leaves.items():
        tower = name.partition("/")[0]
        weight = name.rpartition("/lora_")[0] or name
        if equation_of(weight):
            flops = 2.0 * math.prod(leaf.shape) * tokens[tower]
            yield _Product(name, weight, tower, name.startswith(LAYERS[tower]), flops)


def _reached(trained: Collection[str]) -> dict[str, bool]:
    """Returns through which tower's layers the backward pass goes: what trains in the vision tower or its projector
    reaches the loss through every layer of the language model."""
    return {"img": any(name.startswith(LAYERS["img"]) for name in trained), "llm": bool(trained)}


def _attention(variant: Variant, rows: int, seq_len: float) -> dict[str, float]:
    """Returns floating-point operations of one of attention's two products, in all layers of a tower."""
    lengths = {"img": variant.num_patches, "llm": variant.num_patches + seq_len}
    heads = {"img": variant.img.width, "llm": variant.llm.num_heads * variant.llm.head_dim}
    depth = {"img": variant.img.depth, "llm": variant.llm.depth}
    return {tower: 2.0 * rows * lengths[tower] ** 2 * heads[tower] * depth[tower] for tower in LAYERS}


def minimum_step_flops(
    variant: Variant, leaves: Mapping[str, Any], trained: Collection[str], *, rows: int, seq_len: float
) -> float:
    """Returns floating-point operations of one step over `rows`, all text positions taken as targets.

    Forward once; backward once to the activations from the loss down to the first layer with something to train, and to
    a weight's gradient where it trains; the loss's logits once. Nothing is computed again. Elementwise work is not
    counted. A tower below the first trained leaf runs forward only.

    Args:
        variant: sizes.
        leaves: shapes of base leaves and adapters, with their layer axis.
        trained: names of the leaves that train.
        rows: examples.
        seq_len: text positions of a row, as they are computed; the mean, where parts differ.
    """
    back = _reached(trained)
    total = 0.0
    for product in _products(variant, leaves, rows, seq_len):
        total += product.flops * (1 + back[product.tower] + (product.name in trained))
    total += 2.0 * math.prod(leaves["img/embedding/kernel"].shape) * rows * variant.num_patches
    for tower, one in _attention(variant, rows, seq_len).items():
        total += one * (6 if back[tower] else 2)
    return total + 2 * 2.0 * rows * seq_len * variant.llm.vocab_size * variant.llm.width


def recomputed_step_flops(
    variant: Variant,
    leaves: Mapping[str, Any],
    trained: Collection[str],
    *,
    rows: int,
    seq_len: float,
    remat: Remat,
    remat_img: Remat,
) -> float:
    """Returns floating-point operations that a step computes a second time, because it stored less.

    Of a layer that is products whose result the backward pass reads and the policy does not keep, the first factor of
    each adapter, and attention: its logits wherever probabilities are not stored, as in every fused kernel.

    Args:
        variant: sizes, and how attention is computed.
        leaves: shapes of base leaves and adapters, with their layer axis.
        trained: names of the leaves that train.
        rows: examples.
        seq_len: text positions of a row, as they are computed; the mean, where parts differ.
        remat: of the language model.
        remat_img: of the vision tower.
    """
    back, total = _reached(trained), 0.0
    ways: dict[str, Remat] = {"img": remat_img, "llm": remat}
    for product in _products(variant, leaves, rows, seq_len):
        way = ways[product.tower]
        if not (product.layered and back[product.tower]) or way == "none":
            continue
        results = next(results for pattern, results in RESULTS if re.fullmatch(pattern, product.weight))
        if product.name.endswith("/lora_a"):
            total += product.flops  # small: x A is never kept
            continue
        # Only a norm after it (Gemma 2) reads what the MLP's last product makes.
        read = results != (DOWN,) or (product.tower == "llm" and variant.llm.post_norms)
        missing = [result for result in results if result not in KEPT[way]]
        total += product.flops * len(missing) / len(results) * read
    kernels = {"img": variant.img.kernel, "llm": variant.llm.kernel}
    lengths = {"img": variant.num_patches, "llm": variant.num_patches + seq_len}
    for tower, one in _attention(variant, rows, seq_len).items():
        fused = kernels[tower] not in ("", "blocks") or (kernels[tower] == "blocks" and lengths[tower] > BLOCK)
        again = 0 if ways[tower] == "none" else 1 if ATTENDED in KEPT[ways[tower]] else 2
        # A layer that is computed again runs a fused kernel whole, and its backward pass makes the logits once more.
        total += back[tower] * one * (1 + 2 * (again == 2) if fused else again)
    return total
