"""The least arithmetic of a training step, and what rematerialisation adds to it, from the sizes of the model alone."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from radvqa_jax.backbones import backbone_of
from radvqa_jax.models.fused_attention import BLOCK
from radvqa_jax.models.lora import STACKED, equation_of, lora_equation
from radvqa_jax.models.remat import ATTENDED, DOWN, KEPT, Remat
from radvqa_jax.models.variants import Variant
from radvqa_jax.planning.flops import NOTHING, Work
from radvqa_jax.training.vocabulary_loss import TILE


class _Product(NamedTuple):
    """One linear weight, or a factor of its adapter, and the work of a product with it."""

    name: str  # of the leaf
    weight: str  # name of the linear weight; for a factor of an adapter, of the weight that it adapts
    tower: str
    layered: bool  # whether it is in a tower's layers
    work: Work  # of one product over all its tokens, forward or backward; `bytes` counts values, not bytes


def lengths_of(variant: Variant, seq_len: float) -> dict[str, float]:
    """The positions of a row in each tower; those of `llm` include the image tokens if the sequence has them."""
    in_sequence = backbone_of(variant).sequence is not None
    return {"img": variant.num_patches, "llm": seq_len + variant.num_patches * in_sequence}


def _products(variant: Variant, leaves: Mapping[str, Any], rows: int, seq_len: float) -> Iterator[_Product]:
    backbone, lengths = backbone_of(variant), lengths_of(variant, seq_len)
    tokens = {tower: rows * length for tower, length in lengths.items()}
    for name, leaf in leaves.items():
        tower = backbone.tower_of(name)
        weight = name.rpartition("/lora_")[0] or name
        equation = equation_of(weight, backbone.equations)
        if equation:
            layered = name.startswith(backbone.layers_of(tower))
            yield _Product(name, weight, tower, layered, _one(name, leaf.shape, equation, layered, tokens[tower]))


def _one(name: str, shape: tuple[int, ...], equation: str, layered: bool, tokens: float) -> Work:
    """The work of one product of all tokens with a leaf; operands and result are each read or written once."""
    letters = equation.split("->")[0].split(",")
    axes = letters[1]
    if name.endswith(("/lora_a", "/lora_b")):
        axes = lora_equation(equation)[0 if name.endswith("/lora_a") else 1]
    sizes = dict(zip(axes, shape[1:] if layered else shape, strict=True))
    summed = {"R"} if name.endswith("/lora_b") else set(letters[0]) & set(sizes)
    layers, stacked = (shape[0] if layered else 1), sizes.pop(STACKED, 1)
    into = math.prod(size for axis, size in sizes.items() if axis in summed)
    out = math.prod(size for axis, size in sizes.items() if axis not in summed)
    values = tokens * (into + out) + into * out
    return Work(2.0 * into * out * tokens, values).times(layers * stacked)


def _reached(variant: Variant, trained: Collection[str]) -> dict[str, bool]:
    """Whether the backward pass goes through the layers of each tower. It goes through all layers of the language
    model if anything trains, even the projector alone."""
    layers = backbone_of(variant).layers_of("img")
    return {"img": any(name.startswith(layers) for name in trained), "llm": bool(trained)}


def _attention(variant: Variant, rows: int, seq_len: float) -> dict[str, Work]:
    """The work of one of attention's two products, in all layers of each tower. Its logits are float32, and each
    counts as two values of the compute dtype."""
    found, lengths = {}, lengths_of(variant, seq_len)
    for tower, heads, width, depth in (
        ("img", variant.img.num_heads, variant.img.width, variant.img.depth),
        ("llm", variant.llm.num_heads, variant.llm.num_heads * variant.llm.head_dim, variant.llm.depth),
    ):
        length = lengths[tower]
        values = 2.0 * length * width + 1.5 * heads * length**2
        found[tower] = Work(2.0 * length**2 * width, values).times(rows * depth)
    return found


def _least(variant: Variant, leaves: Mapping[str, Any], trained: Collection[str], rows: int, seq_len: float) -> Work:
    back = _reached(variant, trained)
    total = NOTHING
    for product in _products(variant, leaves, rows, seq_len):
        total += product.work.times(1 + back[product.tower] + (product.name in trained))
    patch, patches = leaves[backbone_of(variant).tree.patch_embedding].shape, rows * variant.num_patches
    weights = math.prod(patch)
    total += Work(2.0 * weights * patches, weights + patches * (weights // patch[-1] + patch[-1]))
    for tower, one in _attention(variant, rows, seq_len).items():
        total += one.times(6 if back[tower] else 2)
    positions, width, vocabulary = rows * seq_len, variant.llm.width, variant.llm.vocab_size
    tiles = math.ceil(positions / TILE)  # each tile reads the whole vocabulary table; logits are float32
    logits = Work(
        2.0 * positions * width * vocabulary, positions * (width + 2 * vocabulary) + tiles * width * vocabulary
    )
    return total + logits.times(2)


def _again(
    variant: Variant,
    leaves: Mapping[str, Any],
    trained: Collection[str],
    rows: int,
    seq_len: float,
    remat: Remat,
    remat_img: Remat,
) -> Work:
    back, total = _reached(variant, trained), NOTHING
    ways: dict[str, Remat] = {"img": remat_img, "llm": remat}
    for product in _products(variant, leaves, rows, seq_len):
        way = ways[product.tower]
        if not (product.layered and back[product.tower]) or way == "none":
            continue
        results = next(
            results for pattern, results in backbone_of(variant).results if re.fullmatch(pattern, product.weight)
        )
        if product.name.endswith("/lora_a"):
            total += product.work  # x A is never kept, because it is cheap to recompute
            continue
        # The backward pass reads the result of the MLP's last product only if a norm follows it (Gemma 2).
        read = results != (DOWN,) or (product.tower == "llm" and variant.llm.post_norms)
        missing = [result for result in results if result not in KEPT[way]]
        total += product.work.times(len(missing) / len(results) * read)
    kernels = {"img": variant.img.kernel, "llm": variant.llm.kernel}
    lengths = lengths_of(variant, seq_len)
    for tower, one in _attention(variant, rows, seq_len).items():
        fused = kernels[tower] not in ("", "blocks") or (kernels[tower] == "blocks" and lengths[tower] > BLOCK)
        again = 0 if ways[tower] == "none" else 1 if ATTENDED in KEPT[ways[tower]] else 2
        # A recomputed layer runs the whole fused kernel again, and the kernel's backward pass recomputes the logits.
        total += one.times(back[tower] * (1 + 2 * (again == 2) if fused else again))
    return total


def minimum_step_flops(
    variant: Variant, leaves: Mapping[str, Any], trained: Collection[str], *, rows: int, seq_len: float
) -> float:
    """Floating-point operations of one step over `rows`; all text positions count as targets.

    These are: the forward pass; the gradients of activations, in every tower that the backward pass reaches; the
    gradients of trained weights; and the loss's logits with their gradient. Nothing is recomputed. Elementwise work is
    not counted.

    Args:
        variant: sizes of the model.
        leaves: shapes of base leaves and adapters, with their layer axis.
        trained: names of the leaves that train.
        rows: examples.
        seq_len: text positions of a row that are computed; their mean, if parts of the batch differ.
    """
    return _least(variant, leaves, trained, rows, seq_len).flops


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
    """Floating-point operations that a step recomputes in its backward pass.

    A layer recomputes the products whose results the backward pass reads and `remat` does not keep, the product with
    the first factor of each adapter, and attention. Fused attention stores no probabilities, so it always recomputes
    the logits.

    Args:
        variant: sizes of the model, and its attention kernels.
        leaves: shapes of base leaves and adapters, with their layer axis.
        trained: names of the leaves that train.
        rows: examples.
        seq_len: text positions of a row that are computed; their mean, if parts of the batch differ.
        remat: of the language model.
        remat_img: of the vision tower.
    """
    return _again(variant, leaves, trained, rows, seq_len, remat, remat_img).flops


def step_work(
    variant: Variant,
    leaves: Mapping[str, Any],
    trained: Collection[str],
    *,
    rows: int,
    seq_len: float,
    remat: Remat,
    remat_img: Remat,
    itemsize: int,
) -> Work:
    """The work of one part of a step, rematerialisation included. The other arguments are those of the function above.

    Bytes are an estimate for choosing: operands and results of products, each read or written once in the compute dtype
    of `itemsize` bytes.
    """
    least = _least(variant, leaves, trained, rows, seq_len)
    work = least + _again(variant, leaves, trained, rows, seq_len, remat, remat_img)
    return Work(work.flops, work.bytes * itemsize)
