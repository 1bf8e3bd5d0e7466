"""Estimates the memory that a step needs on a device in addition to its arguments. Compiling gives the exact figure."""

from radvqa_jax.backbones import backbone_of
from radvqa_jax.models.blocks import block_size
from radvqa_jax.models.remat import KEPT, Remat
from radvqa_jax.models.variants import Variant
from radvqa_jax.planning.minimum import lengths_of
from radvqa_jax.training.vocabulary_loss import TILE

ALL = 3.5  # bytes that `none` stores per byte of `products`: norms and GELU in float32 (compiled for an H100)
STATES = 8  # states of the model's width that a position needs while one layer's backward pass is computed
FIXED = 100 * 2**20  # bytes of XLA's other buffers


def kept_bytes(variant: Variant, *, rows: int, seq_len: int, itemsize: int, remat: Remat, remat_img: Remat) -> int:
    """The bytes that the layers of both towers store for the backward pass of `rows` examples."""
    positions = {"img": variant.num_patches * variant.img.depth}
    positions["llm"] = int(lengths_of(variant, seq_len)["llm"]) * variant.llm.depth
    ways: dict[str, Remat] = {"img": remat_img, "llm": remat}
    total = 0.0
    for tower, values in backbone_of(variant).kept_values(variant).items():
        names = KEPT["products" if ways[tower] == "none" else ways[tower]]
        each = values[""] + sum(values.get(name, 0) for name in names)
        total += rows * positions[tower] * each * itemsize * (ALL if ways[tower] == "none" else 1)
    return int(total)


def working_bytes(variant: Variant, *, rows: int, seq_len: int, itemsize: int, remat: Remat, remat_img: Remat) -> int:
    """Estimates the bytes that a step needs on one device in addition to its arguments.

    These are: everything that the layers store for the backward pass; one tile of float32 logits with its gradient; and
    the states of one layer. The estimate is within 0.3 GiB of programs compiled for an H100 (docs/performance.md).

    Args:
        variant: sizes of the model.
        rows: examples that the device computes at a time.
        seq_len: text positions of a row.
        itemsize: bytes of a value in the compute dtype.
        remat: of the language model.
        remat_img: of the vision tower.
    """
    sizes = {"rows": rows, "seq_len": seq_len, "itemsize": itemsize}
    tile = rows * block_size(seq_len, max(1, TILE // rows))
    logits = tile * variant.llm.vocab_size * (4 + itemsize)
    states = rows * int(lengths_of(variant, seq_len)["llm"]) * variant.llm.width * itemsize * STATES
    return kept_bytes(variant, **sizes, remat=remat, remat_img=remat_img) + logits + states + FIXED
