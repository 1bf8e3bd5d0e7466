"""The least arithmetic that a step of training takes, from the sizes alone: a real step is held to it."""

import math
import re
from collections.abc import Mapping
from typing import Any

from radvqa_jax.models.lora import equation_of
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import is_trained

LAYERS = {"img": "img/Transformer/", "llm": "llm/layers/"}


def minimum_step_flops(
    variant: Variant, leaves: Mapping[str, Any], labels: Mapping[str, str], *, rows: int, seq_len: int
) -> float:
    """Returns floating-point operations of one step over `rows`, all text positions taken as targets.

    Forward once; backward to the activations from the loss down to the first layer with something to train, its
    gradient where a weight trains; the layers on the way back computed once more, as `remat` does to save memory, but
    for a layer's last product, whose result only a norm after it (Gemma 2) would ask for; the loss's logits once.
    Elementwise work is not counted. A tower below the first trained leaf runs forward only.

    Args:
        variant: sizes.
        leaves: shapes of base leaves and adapters, with their layer axis.
        labels: of the leaves.
        rows: examples.
        seq_len: text tokens.
    """
    trained = {name for name in leaves if is_trained(labels[name])}
    tokens = {"img": rows * variant.num_patches, "llm": rows * (variant.num_patches + seq_len)}
    towers = {name.partition("/")[0] for name in trained if name.startswith(tuple(LAYERS.values()))}
    # What trains in the image tower or its projector reaches the loss through every layer of the language model.
    back = {"img": "img" in towers, "llm": bool(trained)}
    total = 0.0
    for name, leaf in leaves.items():
        tower = name.partition("/")[0]
        weight = name.rpartition("/lora_")[0] or name
        if not equation_of(weight):
            continue
        product = 2.0 * math.prod(leaf.shape) * tokens[tower]
        layered = name.startswith(LAYERS[tower])
        last = re.fullmatch(r"llm/.*/linear|img/.*/Dense_1/kernel", weight) and not (
            tower == "llm" and variant.llm.post_norms
        )
        passes = 1 + back[tower] * (2 if layered and not last else 1)
        total += product * (passes + (name in trained))
    total += 2.0 * math.prod(leaves["img/embedding/kernel"].shape) * tokens["img"]
    lengths = {"img": variant.num_patches, "llm": variant.num_patches + seq_len}
    heads = {"img": variant.img.width, "llm": variant.llm.num_heads * variant.llm.head_dim}
    depth = {"img": variant.img.depth, "llm": variant.llm.depth}
    for tower in LAYERS:  # two products forward, the same again, and four backward
        pair = 4.0 * rows * lengths[tower] ** 2 * heads[tower] * depth[tower]
        total += pair * (4 if back[tower] else 1)
    return total + 2 * 2.0 * rows * seq_len * variant.llm.vocab_size * variant.llm.width
