"""The interface of every vision-language model: the methods that training, decoding and saliency call."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.models.kv_cache import DecodeState
from radvqa_jax.models.lora import LORA, Lora
from radvqa_jax.models.quantize import QUANTIZED, is_quantized
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import Flat, unflatten


class VisionLanguageModel(nn.Module):
    """An image and text to logits of text. Variables: `params`, and `lora` if there are adapters.

    Whether image tokens are in the sequence of the language model, and where, is the model's own affair: states and
    logits are those of the text positions. `backbones/` has a record for each class that says the rest.
    """

    variant: Variant
    lora: Lora | None = None
    dtype: Any = jnp.float32  # of activations
    remat: Remat = "none"
    remat_img: Remat | None = None  # of the vision tower; None = as `remat`
    unroll: int = 1  # layers in one turn of the loop over layers, in both towers

    def embed_image(self, image: Float[Array, "B h w 3"]) -> Float[Array, "B P D"]:
        """The input of the language model from each image; the other methods accept it instead of the image."""
        raise NotImplementedError

    def pre_logits(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
    ) -> Float[Array, "B T D"]:
        """The states of the text positions from which logits are made, teacher-forced.

        Text is padded on the right; no real token may read the padding.
        """
        raise NotImplementedError

    def logits(self, pre_logits: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """float32 logits of states."""
        raise NotImplementedError

    def read_state(self, state: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """float32 logits of states between layers, as the last layer's are read: the logit lens."""
        raise NotImplementedError

    def __call__(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
    ) -> Float[Array, "B T V"]:
        """float32 logits of the text positions, teacher-forced: row t predicts token t + 1."""
        return self.logits(self.pre_logits(image, tokens, mask_ar))

    def prefill(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
        mask_input: Int[Array, "B T"] | Bool[Array, "B T"],
        *,
        new_tokens: int,
        cache_dtype: Any = None,
    ) -> tuple[Float[Array, "B V"], DecodeState]:
        """(logits of the token after each prompt, state with room for `new_tokens` more).

        Prompts are right-padded. A row's first answer is the token that `__call__` predicts after the prompt.
        """
        raise NotImplementedError

    def extend(self, token: Int[Array, " B"], state: DecodeState) -> tuple[Float[Array, "B V"], DecodeState]:
        """(logits after one more token of each row, new state)."""
        raise NotImplementedError


def variables(flat: Flat) -> dict[str, Any]:
    """A flat tree of base leaves, quantised or not, and adapters as the collections that `apply` wants.

    >>> variables({"a/w": 1, "a/w/lora_a": 2, "a/w/lora_b": 3})
    {'params': {'a': {'w': 1}}, 'lora': {'a': {'w': {'lora_a': 2, 'lora_b': 3}}}}
    """
    parts: dict[str, Flat] = {"params": {}, LORA: {}, QUANTIZED: {}}
    for name, leaf in flat.items():
        adapts = name.endswith(("/lora_a", "/lora_b"))
        parts[LORA if adapts else QUANTIZED if is_quantized(leaf) else "params"][name] = leaf
    return {part: unflatten(leaves) for part, leaves in parts.items() if leaves or part == "params"}
