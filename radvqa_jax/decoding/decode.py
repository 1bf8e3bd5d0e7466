"""The whole decoding loop inside one jit: prefill once, then one token at a time until every row has ended."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding.sampling import sample
from radvqa_jax.models.kv_cache import DecodeState
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


class Decoded(NamedTuple):
    """Answers: `samples` a prompt, in the order of the prompts. After EOS come pads."""

    tokens: Int[Array, "B k T"]
    logprobs: Float[Array, "B k"]  # sum of log p of the tokens under the model at temperature 1, EOS included
    token_logprobs: Float[Array, "B k T"]  # of each token; 0 after EOS
    steps: Int[Array, ""]  # number of computed tokens; less than max_new_tokens if every row ended early


class _Loop(NamedTuple):
    step: Int[Array, ""]
    logits: Float[Array, "B V"]
    state: DecodeState
    tokens: Int[Array, "B T"]
    logprobs: Float[Array, "B T"]
    done: Bool[Array, " B"]


def answer_ids(tokens: Int[np.ndarray, " T"], *, eos: int) -> list[int]:
    """The tokens of one decoded answer: up to EOS and with it, or all if the answer was cut.

    >>> answer_ids(np.array([7, 8, 1, 0]), eos=1), answer_ids(np.array([7, 8, 9, 9]), eos=1)
    ([7, 8, 1], [7, 8, 9, 9])
    """
    ids = [int(token) for token in tokens]
    return ids[: ids.index(eos) + 1] if eos in ids else ids


@partial(jax.jit, static_argnames=("model", "config", "eos", "pad", "cache_dtype"))
def decode(
    model: VisionLanguageModel,
    params: Flat,
    batch: Batch,
    key: Key[Array, "..."],
    *,
    config: DecodeConfig,
    eos: int = 1,
    pad: int = 0,
    cache_dtype: str | None = None,
) -> Decoded:
    """Answers to the prompts of a batch.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: prompts, right-padded: prefix and separator are input, nothing else.
        key: determines every draw; unused at temperature 0. One for the whole batch, or one for each row and sample
            [B k]: then an answer depends only on its own key, whatever else is in the batch.
        config: samples, temperature, top_k, top_p, max_new_tokens; static.
        eos: token that ends an answer.
        pad: token that fills an answer after its end.
        cache_dtype: of the key/value cache; None = compute dtype.
    """
    collections = variables(params)
    prefilled: Any = model.apply(
        collections,
        batch.image,
        batch.tokens,
        batch.mask_ar,
        batch.mask_input,
        new_tokens=config.max_new_tokens,
        cache_dtype=cache_dtype and jnp.dtype(cache_dtype),
        method="prefill",
    )
    logits, state = prefilled
    k, rows = config.samples, logits.shape[0] * config.samples
    # Rows that only fill the batch are done from the start, so they never keep the loop running.
    done = jnp.repeat(~jnp.asarray(batch.mask_example), k)
    tokens = jnp.full((rows, config.max_new_tokens), pad, jnp.int32)
    keys = key.reshape(rows) if key.ndim else jax.random.split(key, rows)
    start = _Loop(
        jnp.zeros((), jnp.int32),
        jnp.repeat(logits, k, axis=0),
        state.repeat(k),
        tokens,
        jnp.zeros(tokens.shape),
        done,
    )

    def body(loop: _Loop) -> _Loop:
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, loop.step)
        token = sample(loop.logits, step_keys, config)
        logprob = jnp.take_along_axis(jax.nn.log_softmax(loop.logits), token[:, None], axis=1)[:, 0]
        token = jnp.where(loop.done, pad, token)
        logprob = jnp.where(loop.done, 0.0, logprob)
        logprobs = jax.lax.dynamic_update_slice_in_dim(loop.logprobs, logprob[:, None], loop.step, axis=1)
        tokens = jax.lax.dynamic_update_slice_in_dim(loop.tokens, token[:, None], loop.step, axis=1)
        done = loop.done | (token == eos)
        extended: Any = model.apply(collections, token, loop.state, method="extend")
        logits, state = extended
        return _Loop(loop.step + 1, logits, state, tokens, logprobs, done)

    end = jax.lax.while_loop(lambda loop: (loop.step < config.max_new_tokens) & ~loop.done.all(), body, start)
    shape = (batch.tokens.shape[0], k)
    return Decoded(
        end.tokens.reshape(*shape, -1),
        end.logprobs.sum(axis=1).reshape(shape),
        end.logprobs.reshape(*shape, -1),
        end.step,
    )
