"""Computes the number of questions to answer at a time, from the memory of a row and the free memory of the device."""

import jax
import jax.numpy as jnp

from radvqa_jax import runtime
from radvqa_jax.config import DecodeConfig
from radvqa_jax.models.fused_attention import BLOCK
from radvqa_jax.models.vision_language import VisionLanguageModel

MOST = 64  # questions: reading the prompts is then limited by arithmetic, and more would wait for the longest answer
SHARE = 0.5  # of free memory: the rest is for blocks of the MLP, a kept image or two, and the compiler's own needs


def row_bytes(model: VisionLanguageModel, *, prompt: int, config: DecodeConfig) -> int:
    """Estimates the bytes that one question takes while it is answered.

    That is the cache of keys and values, once for the prompt and once for each sample; while the prompt is read, six
    states of the model's width for each position and a block of attention, logits and probabilities in float32; and
    four rows of logits for each sample.

    Args:
        model: sizes and compute dtype.
        prompt: text positions.
        config: number of answers to a question, and their length.
    """
    llm, size = model.variant.llm, jnp.dtype(model.dtype).itemsize
    positions = model.variant.num_patches + prompt
    cache = 2 * llm.depth * (positions + config.max_new_tokens) * llm.num_kv_heads * llm.head_dim * size
    reading = positions * llm.width * (6 * size + 4) + 2 * llm.num_heads * min(BLOCK, positions) * positions * 4
    return cache * (1 + config.samples) + reading + 4 * config.samples * llm.vocab_size * 4


def free_bytes() -> int:
    """The bytes left on the fullest device of the mesh, or of this machine if devices do not report it."""
    mesh = jax.sharding.get_mesh() if not jax.sharding.get_abstract_mesh().empty else None
    return runtime.free_bytes(jax.local_devices()[:1] if mesh is None else list(mesh.devices.flat))


def choose_batch_size(rows: int, *, each: int, free: int, share: int = 1) -> int:
    """Chooses how many of `rows` questions are answered at a time.

    Args:
        rows: number of questions.
        each: bytes of one question.
        free: bytes that a device has left.
        share: number of devices over which rows are cut; the result is a multiple of it.

    >>> choose_batch_size(1000, each=100, free=10_000), choose_batch_size(3, each=100, free=10_000, share=2)
    (48, 4)
    """
    fits = int(SHARE * free) // each
    at_once = min(MOST, -(-rows // share), max(1, fits))
    if at_once > 16:
        at_once -= at_once % 8  # tiles of the devices' matrix units stay whole
    return at_once * share
