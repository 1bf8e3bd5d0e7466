"""The least arithmetic that a step of training takes, and what is computed again in addition, from the sizes alone."""

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
    """One linear weight, or a factor of its adapter, and what it is for."""

    name: str  # of the leaf
    weight: str  # of the linear weight
    tower: str
    layered: bool  # whether it is in a tower's layers
    work: Work  # of one product over all its tokens, forward or backward; bytes are counted as values


def lengths_of(variant: Variant, seq_len: float) -> dict[str, float]:
    """The positions of a row in each tower."""
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
    """The work of one product of all tokens with a leaf: its operands and its result are each touched once."""
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
    """The towers through whose layers the backward pass goes: what trains in the vision tower or its projector
    reaches the loss through every layer of the language model."""
    layers = backbone_of(variant).layers_of("img")
    return {"img": any(name.startswith(layers) for name in trained), "llm": bool(trained)}


def _attention(variant: Variant, rows: int, seq_len: float) -> dict[str, Work]:
    """The work of one of attention's two products, in all layers of a tower. Its logits are float32, which
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
    tiles = math.ceil(positions / TILE)  # each reads the table; logits are float32
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
            total += product.work  # small: x A is never kept
            continue
        # Only a norm after it (Gemma 2) reads what the MLP's last product makes.
        read = results != (DOWN,) or (product.tower == "llm" and variant.llm.post_norms)
        missing = [result for result in results if result not in KEPT[way]]
        total += product.work.times(len(missing) / len(results) * read)
    kernels = {"img": variant.img.kernel, "llm": variant.llm.kernel}
    lengths = lengths_of(variant, seq_len)
    for tower, one in _attention(variant, rows, seq_len).items():
        fused = kernels[tower] not in ("", "blocks") or (kernels[tower] == "blocks" and lengths[tower] > BLOCK)
        again = 0 if ways[tower] == "none" else 1 if ATTENDED in KEPT[ways[tower]] else 2
        # A layer that is computed again runs a fused kernel whole, and its backward pass makes the logits once more.
        total += one.times(back[tower] * (1 + 2 * (again == 2) if fused else again))
    return total


def minimum_step_flops(
    variant: Variant, leaves: Mapping[str, Any], trained: Collection[str], *, rows: int, seq_len: float
) -> float:
    """Floating-point operations of one step over `rows`, all text positions taken as targets.

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
    """Floating-point operations that a step computes a second time, because it stored less.

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
    """The work of one part of a step, with what it computes again: the arguments are those above.

    Bytes are operands and results of products, each touched once in the compute dtype of `itemsize` bytes; they are an
    estimate, to choose by.
    """
    least = _least(variant, leaves, trained, rows, seq_len)
    work = least + _again(variant, leaves, trained, rows, seq_len, remat, remat_img)
    return Work(work.flops, work.bytes * itemsize)
