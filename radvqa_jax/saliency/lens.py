"""Logit lens of image tokens: the words that the model's output layer would write at an image token, layer by layer.

The state of an image token after each layer goes through the final norm and the token table, as the last layer's state
of a text token does. An image token predicts nothing in training, so the result is a reading, not an answer.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; of image tokens: Neo et al. 2024, "Towards Interpreting
Visual Information Processing in Vision-Language Models".
"""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from radvqa_jax.backbones import backbone_of
from radvqa_jax.models.attention import FOLD
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.saliency.buffers import Buffers, branch, nest
from radvqa_jax.saliency.capture import find_answer
from radvqa_jax.saliency.sequence import image_rows
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

MOST = 64  # image tokens whose logits exist at a time: with 257k words they take 66 MB


class Lens(NamedTuple):
    """The reading of image tokens after each layer."""

    target_probs: Float[Array, "B L A P"]  # probability of each answer token at each image token
    top_ids: Int[Array, "B L P"]  # the likeliest token
    top_probs: Float[Array, "B L P"]  # and its probability


def _image_states(model: VisionLanguageModel, params: Flat, batch: Batch) -> Float[Array, "L B P D"]:
    """The states of the image tokens after each layer, in the compute dtype."""
    config, num_patches = model.variant.llm, model.variant.num_patches
    buffers = Buffers(config.depth)
    buffers.add("states", batch.tokens.shape[0], num_patches, config.width, dtype=model.dtype)

    layers = tuple(backbone_of(model.variant).tree.language_layers.split("/"))
    image = image_rows(model, batch.tokens.shape[1] - 1)

    def intercept(next_method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        out = next_method(*args, **kwargs)
        if context.module.path == layers and context.method_name == "__call__":
            buffers.keep(context.module, "states", image(out[0]))
            buffers.next_layer(context.module)
        return out

    tokens, mask_ar = jnp.asarray(batch.tokens)[:, :-1], jnp.asarray(batch.mask_ar)[:, :-1]
    start = {FOLD: nest(layers, buffers.start)}
    with nn.intercept_methods(intercept):
        out: Any = model.apply(
            variables(params) | start, batch.image, tokens, mask_ar, mutable=[FOLD], method="pre_logits"
        )
    return branch(out[1][FOLD], layers)["states"]


@partial(jax.jit, static_argnames=("model", "answer_len"))
def logit_lens(model: VisionLanguageModel, params: Flat, batch: Batch, *, answer_len: int | None = None) -> Lens:
    """Reads image tokens through the output layer.

    The states of all layers are held, 2 L B P D bytes in bfloat16; logits exist for MOST image tokens at a time.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: training rows; `mask_loss` says where the answer is.
        answer_len: A, room for answer tokens, EOS included; None = T.
    """
    model = model.clone(remat="none")  # a recomputed layer would be intercepted twice
    targets = find_answer(batch, answer_len).targets
    states = _image_states(model, params, batch)
    depth, rows, patches, width = states.shape
    size = math.gcd(patches, MOST)

    def read(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits: Any = model.apply(variables(params), x, method="read_state")
        probs = jax.nn.softmax(logits, axis=-1)
        return jnp.take_along_axis(probs, targets[:, None], axis=-1), probs.argmax(axis=-1), probs.max(axis=-1)

    chunks = jnp.moveaxis(states.reshape(depth, rows, patches // size, size, width), 2, 1)
    found, ids, tops = jax.lax.map(read, chunks.reshape(-1, rows, size, width))

    def back(x: jax.Array) -> jax.Array:
        """[B L P …] of [L * chunks B size …]."""
        split = x.reshape(depth, patches // size, rows, size, *x.shape[3:])
        return jnp.moveaxis(split, 2, 0).reshape(rows, depth, patches, *x.shape[3:])

    return Lens(jnp.moveaxis(back(found), -1, -2), back(ids), back(tops))
