"""The whole decoding loop inside one jit: prefill once, then one token at a time until every row has ended."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding.sampling import sample
from radvqa_jax.models.kv_cache import DecodeState
from radvqa_jax.models.paligemma import PaliGemma, variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


class Decoded(NamedTuple):
    """Answers: `samples` a prompt, in the order of the prompts. After EOS come pads."""

    tokens: Int[Array, "B k T"]
    logprobs: Float[Array, "B k"]  # sum of log p of the tokens under the model at temperature 1, EOS included
    steps: Int[Array, ""]  # tokens that were computed; fewer than max_new_tokens if every row ended early


class _Loop(NamedTuple):
    step: Int[Array, ""]
    logits: Float[Array, "B V"]
    state: DecodeState
    tokens: Int[Array, "B T"]
    logprobs: Float[Array, " B"]
    done: Bool[Array, " B"]


@partial(jax.jit, static_argnames=("model", "config", "eos", "pad", "cache_dtype"))
def decode(
    model: PaliGemma,
    params: Flat,
    batch: Batch,
    key: Key[Array, "..."],
    *,
    config: DecodeConfig,
    eos: int = 1,
    pad: int = 0,
    cache_dtype: str | None = None,
) -> Decoded:
    """Returns answers to the prompts of a batch.

    Args:
        model: static.
        params: flat tree of base leaves and adapters.
        batch: prompts, right-padded: prefix and separator are input, nothing else.
        key: decides every draw; unused at temperature 0. One for the whole batch, or one for each row and sample [B k]:
            then an answer depends on its own key alone, whatever else is in the batch.
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
        jnp.zeros((), jnp.int32), jnp.repeat(logits, k, axis=0), state.repeat(k), tokens, jnp.zeros(rows), done
    )

    def body(loop: _Loop) -> _Loop:
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, loop.step)
        token = sample(loop.logits, step_keys, config)
        logprob = jnp.take_along_axis(jax.nn.log_softmax(loop.logits), token[:, None], axis=1)[:, 0]
        token = jnp.where(loop.done, pad, token)
        logprobs = loop.logprobs + jnp.where(loop.done, 0.0, logprob)
        tokens = jax.lax.dynamic_update_slice_in_dim(loop.tokens, token[:, None], loop.step, axis=1)
        done = loop.done | (token == eos)
        extended: Any = model.apply(collections, token, loop.state, method="extend")
        logits, state = extended
        return _Loop(loop.step + 1, logits, state, tokens, logprobs, done)

    end = jax.lax.while_loop(lambda loop: (loop.step < config.max_new_tokens) & ~loop.done.all(), body, start)
    shape = (batch.tokens.shape[0], k)
    return Decoded(end.tokens.reshape(*shape, -1), end.logprobs.reshape(shape), end.step)
