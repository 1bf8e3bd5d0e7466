"""Log-probabilities of given answers, teacher-forced."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


@partial(jax.jit, static_argnames=("model",))
def answer_logprobs(model: VisionLanguageModel, params: Flat, batch: Batch) -> Float[Array, " B"]:
    """log p of each row's suffix, EOS included, given its image and prefix.

    Args:
        model: with the adapters that `params` holds; static.
        params: flat tree of base leaves and adapters.
        batch: training rows (`data.packing.pack`): T + 1 tokens, mask_loss 1 on suffix and EOS.
    """
    logits: Any = model.apply(variables(params), batch.image, batch.tokens[:, :-1], batch.mask_ar[:, :-1])
    targets = batch.tokens[:, 1:]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return jnp.sum(chosen * batch.mask_loss[:, 1:], axis=1)
