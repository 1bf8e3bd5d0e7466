"""The layouts of all backbones. Leaves identify their backbone: no two backbones share the first part of a name."""

from collections.abc import Iterable

from radvqa_jax.checkpoints import paligemma_layout
from radvqa_jax.checkpoints.huggingface import Layout, Place

LAYOUTS: list[Layout] = [paligemma_layout.LAYOUT]


def layout_of(leaves: Iterable[str]) -> Layout:
    """The layout of leaves, by the first part of a name; that of PaliGemma for unknown ones, which refuses them."""
    branches = {name.partition("/")[0] for name in leaves}
    return next((layout for layout in LAYOUTS if branches & set(layout.branches)), LAYOUTS[0])


def places(leaves: Iterable[str]) -> dict[str, Place]:
    """The place in transformers of each leaf.

    Raises:
        ValueError: if the backbone has no such leaf.
    """
    leaves = list(leaves)
    return layout_of(leaves).places(leaves)
