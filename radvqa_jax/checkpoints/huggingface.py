"""The weights of a model in transformers and here: their names, and how each shape maps to the other.

One form for every reader and writer of Hugging Face files. It is pure: names and axes, no files, no arrays of its own.
Each backbone has its own table (layouts.py).
transformers stores a linear weight as [out, in] with the heads folded, and each layer separately; here layers are
stacked on axis 0, heads have their own axis, and key and value (or query, key and value) and the two gates are stacked.

transformers has used several names for the same weight. `canonical` maps all of them to one form:

    Hub files, and transformers <= 4.51    language_model.model.layers.0…    vision_tower.vision_model.encoder…
    transformers 4.52 and later            model.language_model.layers.0…    model.vision_tower.vision_model.encoder…
    transformers 5.x                       model.language_model.layers.0…    model.vision_tower.encoder…
    canonical, here                        language_model.layers.0…          vision_tower.encoder…
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange

LAYERS = "l"  # the axis of stacked layers in `ours`
STACKED = "c"  # the axis of weights that are separate tensors in transformers
LAYER = "{layer}"  # stands for the number of the layer in a name

EMBEDDING = "language_model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"  # tied to the embedding: the same weights, stored once or twice

# Names that may occur in a file but that no model here reads: SigLIP's pooling head, and buffers of old versions.
UNUSED = re.compile(r"vision_tower\.head\..*|.*\.position_ids|.*\.rotary_emb\.inv_freq")


class Place(NamedTuple):
    """The place of one leaf in transformers."""

    ours: str  # axes of the leaf; `l` counts layers, `c` the tensors below
    theirs: str  # axes of each tensor, in einops' notation
    names: tuple[str, ...]  # canonical, one for each entry of axis `c`, or just one

    @property
    def part(self) -> str:
        """Axes of the leaf that one tensor fills."""
        return " ".join(axis for axis in self.ours.split() if axis not in (LAYERS, STACKED))

    @property
    def layered(self) -> bool:
        """Whether the leaf stacks layers."""
        return LAYERS in self.ours.split()


class Layout(NamedTuple):
    """The layout of one backbone's leaves in checkpoint files."""

    branches: tuple[str, ...]  # the first parts of its leaves' names, which no other backbone has
    token_table: str  # the leaf [V D] that may have more or fewer rows in a file
    position_embedding: str  # the leaf [1 P D] that depends on the resolution, and is resampled
    projector: tuple[str, str]  # kernel and bias of the projector, which brings image tokens into the language model
    places: Callable[[Iterable[str]], dict[str, Place]]  # of some of its leaves, in transformers


def canonical(name: str) -> str:
    """The canonical form of a weight's name, whichever version of transformers wrote it.

    >>> canonical("language_model.model.layers.3.mlp.up_proj.weight")
    'language_model.layers.3.mlp.up_proj.weight'
    >>> canonical("model.vision_tower.vision_model.post_layernorm.bias")
    'vision_tower.post_layernorm.bias'
    """
    name = name.removeprefix("model.")
    for old, new in (
        ("language_model.model.", "language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.vision_model.", "vision_tower."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def hub_name(name: str) -> str:
    """The name that files on the Hub have, which every version of transformers loads.

    >>> hub_name("language_model.norm.weight"), hub_name("vision_tower.post_layernorm.bias")
    ('language_model.model.norm.weight', 'vision_tower.vision_model.post_layernorm.bias')
    """
    for old, new in (("language_model.", "language_model.model."), ("vision_tower.", "vision_tower.vision_model.")):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def module_name(name: str) -> str:
    """The name in transformers 4.52's module tree, in which adapters are written: every later version maps it.

    >>> module_name("vision_tower.encoder.layers.0.mlp.fc1")
    'model.vision_tower.vision_model.encoder.layers.0.mlp.fc1'
    """
    if name.startswith("vision_tower."):
        name = "vision_tower.vision_model." + name.removeprefix("vision_tower.")
    return f"model.{name}"


def tensor_shape(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of each tensor of a leaf that has this shape."""
    sizes = axis_sizes(place, shape)
    groups = re.findall(r"\([^)]*\)|\S+", place.theirs)
    return tuple(int(np.prod([sizes[axis] for axis in group.strip("()").split()])) for group in groups)


def unfold(place: Place, shape: tuple[int, ...], sizes: Mapping[str, int]) -> dict[str, int] | None:
    """{axis: size} of a tensor with this shape, heads split as in `sizes`; None if they cannot be."""
    groups = re.findall(r"\([^)]*\)|\S+", place.theirs)
    if len(groups) != len(shape):
        return None
    found: dict[str, int] = {}
    for group, size in zip(groups, shape, strict=True):
        axes = group.strip("()").split()
        if len(axes) > 1 and size != int(np.prod([sizes[axis] for axis in axes])):
            return None
        found |= {axis: sizes[axis] for axis in axes} if len(axes) > 1 else {axes[0]: size}
    return found


def axis_sizes(place: Place, shape: tuple[int, ...]) -> dict[str, int]:
    """{axis: size} of a leaf."""
    return dict(zip(place.ours.split(), shape, strict=True))


def from_tensor(place: Place, tensor: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """A tensor as the part of the leaf that it fills; a view where possible. `sizes` needs the folded axes."""
    folded = {axis: sizes[axis] for group in re.findall(r"\(([^)]*)\)", place.theirs) for axis in group.split()}
    return rearrange(tensor, f"{place.theirs} -> {place.part}", **folded)


def to_tensor(place: Place, part: np.ndarray) -> np.ndarray:
    """One part of a leaf as transformers' tensor; a view where possible."""
    return rearrange(part, f"{place.part} -> {place.theirs}")


def parts(place: Place, layers: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yields (index into the leaf, canonical name) of each tensor; `layers` is the length of the leaf's layer axis."""
    for layer in range(layers if place.layered else 1):
        for number, name in enumerate(place.names):
            index = ((layer,) if place.layered else ()) + ((number,) if STACKED in place.ours.split() else ())
            yield index, name.replace(LAYER, str(layer))


def tensors(leaf: Any, place: Place) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (canonical name, tensor) of every tensor that a leaf becomes."""
    for index, name in parts(place, leaf.shape[0] if place.layered else 1):
        yield name, to_tensor(place, leaf[index] if index else leaf)
