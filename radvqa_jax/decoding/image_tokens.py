"""Image tokens that questions, samples and runs share: a vision tower sees an image once, not once per question."""

import collections
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from radvqa_jax.models.activation_sharding import row_shares
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.trees import Flat

MOST_BYTES = 2**30  # kept on the device: 256 images of PaliGemma 3B at 448 pixels
AT_A_TIME = 8  # images: at 448 pixels enough patches for products that are limited by arithmetic

Unit = Callable[[], np.ndarray]  # makes an image [h w 3] in [-1, 1]


@partial(jax.jit, static_argnames=("model",))
def embed_images(
    model: VisionLanguageModel, params: Flat, image: Float[Array, "B h w 3"]
) -> tuple[Float[Array, "P D"], ...]:
    """Computes the image tokens of each image, an array for each.

    Args:
        model: with the adapters that `params` holds; static.
        params: flat tree of base leaves and adapters.
        image: in [-1, 1].
    """
    tokens: Any = model.apply(variables(params), image, method="embed_image")
    return tuple(tokens)


class ImageTokens:
    """Keeps the image tokens of the most recently used images, up to a number of bytes on the device.

    The kept tokens of an image belong to one vision tower: its `tower` names the weights that determine the tokens.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Takes the number of bytes that may be kept between calls; 0 keeps nothing."""
        self.most_bytes = most_bytes
        self._kept: collections.OrderedDict[tuple[str, bytes], Array] = collections.OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def has(self, tower: str, key: bytes) -> bool:
        """Whether an image's tokens are kept; threads may ask."""
        return (tower, key) in self._kept

    def room(self, model: VisionLanguageModel) -> int:
        """The number of images whose tokens can be kept, at least one."""
        each = model.variant.num_patches * model.variant.llm.width * jnp.dtype(model.dtype).itemsize
        return max(1, self.most_bytes // each)

    def clear(self) -> None:
        """Gives the memory back."""
        self._kept.clear()
        self._bytes = 0

    def get(
        self,
        model: VisionLanguageModel,
        params: Flat,
        tower: str,
        images: Mapping[bytes, Unit],
        wanted: Sequence[bytes],
    ) -> Float[Array, "B P D"]:
        """The image tokens of a batch.

        Args:
            model: with the adapters that `params` holds.
            params: flat tree of base leaves and adapters.
            tower: names the weights of the vision tower.
            images: makes each image, by its key; called only for those that are not kept.
            wanted: the key of each row's image.
        """
        names = [(tower, key) for key in dict.fromkeys(wanted)]
        missing = [name for name in names if name not in self._kept]
        found = {name: self._kept[name] for name in names if name in self._kept}
        size = chunk_size(len(wanted))
        for begin in range(0, len(missing), size):
            chunk = missing[begin : begin + size]
            units = [images[key]() for _, key in chunk]
            batch = np.stack([*units, *units[-1:] * (size - len(units))])
            found |= zip(chunk, embed_images(model, params, batch), strict=False)
        for name in names:
            self._keep(name, found[name])
        return jnp.stack([found[tower, key] for key in wanted])

    def _keep(self, name: tuple[str, bytes], tokens: Array) -> None:
        if name not in self._kept:
            self._kept[name] = tokens
            self._bytes += tokens.nbytes
        self._kept.move_to_end(name)
        while self._bytes > self.most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def chunk_size(rows: int) -> int:
    """The number of images embedded at a time for a batch of this many rows: one shape, which a mesh can cut."""
    share = row_shares()
    return -(-min(rows, AT_A_TIME) // share) * share
