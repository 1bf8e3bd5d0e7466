"""The decoding loop: what it writes, when it stops, and what its log-probabilities mean."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding.decode import Decoded, decode
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from tests.virtual_devices import run_script

MODEL = PaliGemma(VARIANTS["dummy"])
PARAMS = fake_params(MODEL.variant, seed=1)
LENGTHS, WIDTH, NEW = (3, 5, 2), 5, 6
NEVER = -1  # no token: decoding continues to the end


def prompts(*rows: int, lengths: tuple[int, ...] = LENGTHS, real: tuple[bool, ...] | None = None) -> Batch:
    """The prompts with these numbers; a prompt is the same in every batch."""
    columns = []
    for row in rows:
        rng = np.random.default_rng(row)
        mask = (np.arange(WIDTH) < lengths[row]).astype(np.int32)
        image = rng.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
        columns.append((image, rng.integers(4, 64, WIDTH).astype(np.int32) * mask, 0 * mask, 0 * mask, mask))
    stacked = [np.stack(column) for column in zip(*columns, strict=True)]
    return Batch(*stacked, np.array(real or [True] * len(rows)))


def run(batch: Batch, seed: int = 0, *, eos: int = NEVER, **config: Any) -> Decoded:
    settings = DecodeConfig(**({"max_new_tokens": NEW} | config))
    return decode(MODEL, PARAMS, batch, jax.random.key(seed), config=settings, eos=eos)


ALL = prompts(0, 1, 2)


@pytest.fixture(scope="module")
def greedy() -> Decoded:
    return run(ALL)


def teacher_forced(batch: Batch, answers: np.ndarray) -> np.ndarray:
    """log p [B T V] at the positions of the answer's tokens, from a full forward pass."""
    tokens = np.zeros((len(answers), WIDTH + NEW), np.int32)
    lengths = np.asarray(batch.mask_input).sum(axis=1)
    for row, length in enumerate(lengths):
        tokens[row, : length + NEW] = [*batch.tokens[row, :length], *answers[row]]
    mask_ar = (np.arange(WIDTH + NEW)[None] >= lengths[:, None]).astype(np.int32)
    arrays = map(jnp.asarray, (batch.image, tokens, mask_ar))
    log_p = np.asarray(jax.nn.log_softmax(jax.jit(MODEL.apply)(variables(PARAMS), *arrays)))
    return np.stack([log_p[row, length - 1 : length - 1 + NEW] for row, length in enumerate(lengths)])


def test_greedy_is_the_argmax_of_the_full_forward_pass(greedy: Decoded) -> None:
    answers = np.asarray(greedy.tokens)[:, 0]
    np.testing.assert_array_equal(teacher_forced(ALL, answers).argmax(axis=-1), answers)
    assert len({tuple(row) for row in answers.tolist()}) == 3
    assert int(greedy.steps) == NEW


def test_logprobs_are_those_of_the_whole_answer(greedy: Decoded) -> None:
    answers = np.asarray(greedy.tokens)[:, 0]
    chosen = np.take_along_axis(teacher_forced(ALL, answers), answers[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(greedy.logprobs[:, 0], chosen.sum(axis=1), atol=1e-4)


def test_logprobs_of_a_draw_are_at_temperature_one() -> None:
    out = run(ALL, temperature=0.5, top_k=8)
    answers = np.asarray(out.tokens)[:, 0]
    chosen = np.take_along_axis(teacher_forced(ALL, answers), answers[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(out.logprobs[:, 0], chosen.sum(axis=1), atol=1e-4)


def test_an_answer_ends_with_its_eos_and_pads_follow(greedy: Decoded) -> None:
    row = 1
    answer = np.asarray(greedy.tokens)[row, 0]
    position = 3
    eos = int(answer[position])
    end = int(np.flatnonzero(answer == eos)[0])  # the first occurrence of this token
    out = run(prompts(row), eos=eos)
    assert np.asarray(out.tokens)[0, 0].tolist() == [*answer[: end + 1], *[0] * (NEW - end - 1)]
    assert int(out.steps) == end + 1 < NEW
    log_p = teacher_forced(prompts(row), answer[None])[0]
    expected = sum(log_p[i, answer[i]] for i in range(end + 1))
    assert float(out.logprobs[0, 0]) == pytest.approx(expected, abs=1e-4)


def test_the_loop_goes_on_while_one_row_has_not_ended(greedy: Decoded) -> None:
    answers = np.asarray(greedy.tokens)[:, 0]
    eos = next(int(token) for token in answers[0] if token not in answers[1])
    out = run(ALL, eos=eos)
    assert int(out.steps) == NEW
    np.testing.assert_array_equal(np.asarray(out.tokens)[1, 0], answers[1])
    end = answers[0].tolist().index(eos)
    assert np.asarray(out.tokens)[0, 0].tolist() == [*answers[0, : end + 1], *[0] * (NEW - end - 1)]
    log_p = teacher_forced(ALL, answers)[0]
    expected = sum(log_p[i, answers[0, i]] for i in range(end + 1))  # nothing is added after the end
    assert float(out.logprobs[0, 0]) == pytest.approx(expected, abs=1e-4)


def test_a_row_that_fills_the_batch_is_never_waited_for(greedy: Decoded) -> None:
    first = np.asarray(greedy.tokens)[0, 0]
    filled = run(prompts(0, 1, 2, real=(True, False, False)), eos=int(first[0]))
    assert int(filled.steps) == 1
    assert not np.asarray(filled.tokens)[1:].any()
    assert not np.asarray(filled.logprobs)[1:].any()
    none = run(prompts(0, 1, 2, real=(False, False, False)))
    assert int(none.steps) == 0


def test_a_row_answers_the_same_in_any_batch(greedy: Decoded) -> None:
    order = [2, 0, 1]
    shuffled = run(prompts(*order))
    np.testing.assert_array_equal(shuffled.tokens, np.asarray(greedy.tokens)[order])
    np.testing.assert_allclose(shuffled.logprobs, np.asarray(greedy.logprobs)[order], atol=1e-4)


def test_samples_equal_prompts_that_are_decoded_on_their_own() -> None:
    samples = run(ALL, seed=5, samples=3, temperature=1.5)
    copies = run(prompts(0, 0, 0, 1, 1, 1, 2, 2, 2), seed=5, temperature=1.5)
    assert samples.tokens.shape == (3, 3, NEW)
    np.testing.assert_array_equal(np.asarray(samples.tokens).reshape(9, 1, NEW), copies.tokens)
    np.testing.assert_allclose(np.asarray(samples.logprobs).reshape(9, 1), copies.logprobs, atol=1e-4)
    assert all(len({tuple(answer) for answer in row}) > 1 for row in np.asarray(samples.tokens).tolist())


def test_an_answer_that_has_its_own_key_does_not_depend_on_its_batch() -> None:
    config = DecodeConfig(max_new_tokens=NEW, samples=2, temperature=1.5)
    keys = jax.random.split(jax.random.key(8), (3, 2))

    def answers(*rows: int) -> np.ndarray:
        chosen = keys[jnp.array(rows)]
        return np.asarray(decode(MODEL, PARAMS, prompts(*rows), chosen, config=config, eos=NEVER).tokens)

    whole = answers(0, 1, 2)
    np.testing.assert_array_equal(answers(2, 0), whole[[2, 0]])
    np.testing.assert_array_equal(answers(1), whole[[1]])
    assert len({tuple(answer) for row in whole.tolist() for answer in row}) == 6


def test_samples_of_a_prompt_share_one_prefill() -> None:
    config = DecodeConfig(max_new_tokens=NEW, samples=7, temperature=1.0)
    jaxpr = str(jax.make_jaxpr(lambda batch: decode(MODEL, PARAMS, batch, jax.random.key(0), config=config))(ALL))
    length, width = MODEL.variant.num_patches + WIDTH, MODEL.variant.llm.width
    assert f"f32[3,{length},{width}]" in jaxpr
    assert f"f32[21,{length},{width}]" not in jaxpr
    assert f"f32[21,1,{width}]" in jaxpr


def test_the_key_decides_the_answer() -> None:
    first, again, other = (run(ALL, seed=seed, temperature=1.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (np.asarray(first.tokens) != np.asarray(other.tokens)).any()
    # Every step draws again: one draw for all steps would give all of them one column's noise.
    flat = run(ALL, seed=1, temperature=1e4)
    assert len(set(np.asarray(flat.tokens)[0, 0].tolist())) > 2


def test_half_precision_weights_and_cache_give_answers() -> None:
    params = {name: leaf.astype(jnp.bfloat16) for name, leaf in PARAMS.items()}
    model = replace(MODEL, dtype=jnp.bfloat16)
    config = DecodeConfig(max_new_tokens=3)
    out = decode(model, params, ALL, jax.random.key(0), config=config, eos=NEVER, cache_dtype="bfloat16")
    assert out.tokens.shape == (3, 1, 3)
    assert out.logprobs.dtype == jnp.float32
    assert (np.asarray(out.logprobs) < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(4, 1, 1), (2, 2, 1)])
def test_several_devices_answer_as_one_and_each_its_own_rows(mesh: tuple[int, int, int]) -> None:
    told = json.loads(run_script(Path(__file__).with_name("run_mesh_decode.py"), *mesh, devices=4))
    assert told["same_tokens"]
    assert told["logprobs_apart"] < 1e-5
    assert told["of_all_rows"] == told["weights_gathered"] == []
