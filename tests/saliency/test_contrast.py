"""One answer against another: the gradients of a log-ratio by hand, each sequence under its own prefix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.models.attention import FOLD, tapping
from radvqa_jax.models.vision_language import variables
from radvqa_jax.saliency.buffers import nest
from radvqa_jax.saliency.capture import answer_logprobs, answer_row, capture
from radvqa_jax.saliency.contrast import contrast, first_difference
from radvqa_jax.schema import Batch

PROMPT, EOS = [2, 17, 30, 9], 1
SEQ_LEN, ROOM = 11, 6


LLM = ("llm", "layers", "attn")


def pair(golden: Any, *answers: list[int]) -> Batch:
    """Two rows of the same image and question, with these answers."""
    rows = [answer_row(PROMPT, answer, seq_len=SEQ_LEN, eos=EOS, pad=0) for answer in answers]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Batch(image=golden.batch.image[:1].repeat(2, axis=0), mask_example=np.ones(2, bool), **stacked)


def explicit(golden: Any, batch: Batch, differs: int, *, sign: int, only_first: bool) -> np.ndarray:
    """The map [S] by a probe of zeros on all attention, in float64; states that both rows share have one probe
    each, because both rows read the same one."""
    model, p = golden.model, golden.model.variant.num_patches
    probs = np.asarray(capture(model, golden.params, batch, rows="all").attn_probs, np.float64)
    shared = np.arange(probs.shape[-1]) < p + len(PROMPT) + differs
    answers = [row[mask == 1] for row, mask in zip(batch.tokens, batch.mask_loss, strict=True)]

    def y(probe: jax.Array) -> jax.Array:
        joint = jnp.where(shared[:, None], probe[:, :1], probe)  # [L 2 N S S]

        def hook(module: Any, seen: jax.Array, value: Any, project: Any) -> jax.Array:
            if module.path[0] == "img":
                return seen
            layer = module.get_variable(FOLD, "layer")
            module.put_variable(FOLD, "layer", layer + 1)
            return seen + joint[layer]

        start = {FOLD: nest(LLM, {"layer": jnp.zeros((), jnp.int32)})}
        inputs = jnp.asarray(batch.image), jnp.asarray(batch.tokens[:, :-1]), jnp.asarray(batch.mask_ar[:, :-1])
        with tapping(hook):
            logits, _ = model.apply(variables(golden.params) | start, *inputs, mutable=[FOLD])
        logprobs = jax.nn.log_softmax(logits)
        total = 0.0
        for row, (answer, weight) in enumerate(zip(answers, (1, -1), strict=True)):
            counted = range(differs, differs + 1 if only_first else len(answer))
            total += weight * sum(logprobs[row, len(PROMPT) - 1 + a, answer[a]] for a in counted)
        return sign * total

    gradient = np.array(jax.jit(jax.grad(y))(jnp.zeros(probs.shape)), np.float64)
    gradient[:, 1, :, shared] = gradient[:, 0, :, shared]
    out = np.zeros(probs.shape[-1])
    for row, answer in enumerate(answers):
        relevance = np.eye(probs.shape[-1])
        for layer in range(len(probs)):
            relevance += np.maximum(gradient[layer, row] * probs[layer, row], 0).mean(axis=0) @ relevance
        for a in range(differs, differs + 1 if only_first else len(answer)):
            query = p + len(PROMPT) - 1 + a
            weight = 0.5 if shared[query] else 1.0
            out += np.where(shared | (row == 0), weight * relevance[query], 0)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("only_first", [False, True])
def test_the_contrast_is_that_of_two_whole_sequences_or_of_the_first_token_that_differs(
    tiny: Any, only_first: bool
) -> None:
    mine, theirs = [40, 41, 42, 43, EOS], [40, 77, EOS]  # of different length, alike in the first token
    batch = pair(tiny, mine, theirs)
    with jax.default_matmul_precision("highest"):
        found = contrast(tiny.model, tiny.params, batch, differs=1, only_first=only_first, answer_len=ROOM)
        expected = [explicit(tiny, batch, 1, sign=sign, only_first=only_first) for sign in (1, -1)]
        swapped = contrast(
            tiny.model, tiny.params, pair(tiny, theirs, mine), differs=1, only_first=only_first, answer_len=ROOM
        )
        logprobs = np.asarray(answer_logprobs(tiny.model, tiny.params, batch))
    signed, p = expected[0] - expected[1], tiny.model.variant.num_patches
    assert signed[:p].min() < -1e-4 and signed[:p].max() > 1e-4
    np.testing.assert_allclose(found.relevance, signed, rtol=1e-3, atol=2e-6)
    np.testing.assert_allclose(swapped.relevance[:p], -signed[:p], rtol=1e-3, atol=2e-6)
    counted = slice(1, 2) if only_first else slice(1, None)  # the first token is the same under the same prefix
    ratio = logprobs[0, counted].sum() - logprobs[1, counted].sum()
    assert float(found.log_ratio) == pytest.approx(ratio, abs=1e-4)


def test_an_answer_that_begins_the_other_cannot_be_contrasted_with_it() -> None:
    assert first_difference([5, 6, 1], [5, 7, 1]) == 1 and first_difference([5, 1], [5, 6, 1]) == 1
    with pytest.raises(ValueError, match="do not differ in any token that both have"):
        first_difference([5, 6], [5, 6, 1])
