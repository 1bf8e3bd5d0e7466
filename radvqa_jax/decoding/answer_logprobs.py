"""Log-probabilities of given answers, teacher-forced."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from radvqa_jax.decoding.image_tokens import embed_images
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

MOST = 8  # answers in a batch


@partial(jax.jit, static_argnames=("model",))
def answer_logprobs(model: VisionLanguageModel, params: Flat, batch: Batch) -> Float[Array, " B"]:
    """log p of each row's suffix, EOS included, given its image and prefix.

    Args:
        model: with the adapters that `params` holds; static.
        params: flat tree of base leaves and adapters.
        batch: training rows (`data.packing.pack`): T + 1 tokens, mask_loss 1 on suffix and EOS; image tokens will do.
    """
    logits: Any = model.apply(variables(params), batch.image, batch.tokens[:, :-1], batch.mask_ar[:, :-1])
    targets = batch.tokens[:, 1:]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return jnp.sum(chosen * batch.mask_loss[:, 1:], axis=1)


def logprobs_about(
    model: VisionLanguageModel,
    params: Flat,
    image: Float[np.ndarray, "h w 3"],
    packed: Sequence[Mapping[str, np.ndarray]],
) -> list[float]:
    """log p of each packed answer about one image, which the vision tower sees once.

    Batches have a power of two of rows, at most MOST: any number of answers compiles one shape.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        image: in [-1, 1], at the model's resolution.
        packed: rows of `data.packing.pack`, of one length.
    """
    (tokens,) = embed_images(model, params, image[None])
    size = min(MOST, 1 << (len(packed) - 1).bit_length())
    shown, real = jnp.stack([tokens] * size), np.arange(size)
    values: list[float] = []
    for begin in range(0, len(packed), size):
        part = list(packed[begin : begin + size])
        rows = part + part[-1:] * (size - len(part))
        texts = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        found = answer_logprobs(model, params, Batch(image=shown, mask_example=real < len(part), **texts))
        values += np.asarray(found, np.float64)[: len(part)].tolist()
    return values
