"""Captured attention is the model's, row t is the query that predicted token t, and capturing changes nothing."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.config import LoraConfig
from radvqa_jax.data.packing import pack, pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models import lora
from radvqa_jax.models.attention import TAPS
from radvqa_jax.models.masks import make_attn_mask
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.vision_language import variables
from radvqa_jax.saliency import capture as capture_module
from radvqa_jax.saliency.capture import answer_row, capture
from radvqa_jax.saliency.relevancy import relevancy
from radvqa_jax.saliency.rollout import RolloutOptions, rollout
from radvqa_jax.schema import Batch


def full_mask(batch: Any, num_patches: int) -> np.ndarray:
    """The prefix-LM mask over image tokens and text; padding is not masked, as in training."""
    mask_ar = np.pad(batch.mask_ar[:, :-1], ((0, 0), (num_patches, 0)))
    return np.asarray(make_attn_mask(jnp.ones(mask_ar.shape, bool), jnp.asarray(mask_ar)))


def changed(batch: Any, row: int, column: int) -> Any:
    """The batch with another token in one place."""
    tokens = batch.tokens.copy()
    tokens[row, column] = (tokens[row, column] + 7) % 256 + 4
    return batch._replace(tokens=tokens)


def test_attention_is_that_of_big_vision(either: Any) -> None:
    with jax.default_matmul_precision("highest"):
        captured = capture(either.model, either.params, either.batch, rows="all")
    np.testing.assert_allclose(captured.attn_probs, either.io["attention_probs"], rtol=0, atol=2e-4)
    assert captured.num_patches == either.io["zimg"].shape[1]


def test_rows_sum_to_one_and_are_zero_where_masked(either: Any) -> None:
    captured = capture(either.model, either.params, either.batch, rows="all")
    np.testing.assert_allclose(captured.attn_probs.sum(-1), 1, rtol=0, atol=1e-6)
    mask = full_mask(either.batch, captured.num_patches)
    assert (~mask).any()
    hidden = np.broadcast_to(~mask[None, :, None], captured.attn_probs.shape)
    assert (np.asarray(captured.attn_probs)[hidden] == 0).all()


def test_a_patch_never_reads_the_answer(either: Any) -> None:
    captured = capture(either.model, either.params, either.batch, rows="all")
    p = captured.num_patches
    for row, first in enumerate(either.batch.mask_loss.argmax(axis=1)):
        patches_reading_answer = np.asarray(captured.attn_probs)[:, row, :, :p, p + first :]
        assert patches_reading_answer.size
        assert (patches_reading_answer == 0).all()


@pytest.mark.parametrize(("remat", "dtype"), [("none", jnp.float32), ("full", jnp.bfloat16)])
def test_an_open_tap_changes_no_bit_of_the_output(either: Any, remat: Any, dtype: Any) -> None:
    model = PaliGemma(either.model.variant, None, dtype, remat)
    batch = either.batch

    def run(mutable: Any) -> Any:
        def forward(params: Any, *inputs: Any) -> Any:
            return model.apply(variables(params), *inputs, mutable=mutable)

        return jax.jit(forward)(either.params, batch.image, batch.tokens[:, :-1], batch.mask_ar[:, :-1])

    closed, (logits, taps) = run(False), run([TAPS])
    assert np.array_equal(closed, logits)
    captured = capture(
        model, either.params, batch, rows="all", rollout=RolloutOptions(), vision_rollout=RolloutOptions()
    )
    inside = taps[TAPS]["llm"]["layers"]["attn"]["attn_probs"]
    assert np.array_equal(captured.attn_probs, inside)
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(closed), batch.tokens[:, 1:, None], axis=-1)[..., 0]
    for row in range(len(batch.tokens)):
        expected = np.asarray(logprobs)[row][batch.mask_loss[row, 1:] == 1]
        np.testing.assert_allclose(captured.logprobs[row, : len(expected)], expected, rtol=0, atol=1e-5)
        assert (np.asarray(captured.logprobs)[row, len(expected) :] == 0).all()


def test_probabilities_are_float32_in_a_bfloat16_model(tiny: Any) -> None:
    model = PaliGemma(tiny.model.variant, None, jnp.bfloat16, "full")
    captured = capture(model, tiny.params, tiny.batch, rows="all", vision=True)
    assert captured.attn_probs.dtype == captured.logprobs.dtype == captured.vision_probs.dtype == jnp.float32
    np.testing.assert_allclose(captured.attn_probs.sum(-1), 1, rtol=0, atol=1e-6)


def test_the_first_query_is_the_separator_and_the_last_is_the_last_answer_token(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch)
    p = captured.num_patches
    for row, mask_loss in enumerate(tiny.batch.mask_loss):
        targets = np.flatnonzero(mask_loss)
        length = int(captured.length[row])
        assert length == len(targets)
        assert captured.query[row, :length].tolist() == (p + targets - 1).tolist()
        assert captured.targets[row, :length].tolist() == tiny.batch.tokens[row, targets].tolist()
        assert tiny.batch.mask_ar[row, int(captured.query[row, 0]) - p] == 0  # the separator is prefix


def test_a_row_depends_on_what_came_before_its_token_and_not_on_the_token(tiny: Any) -> None:
    row, first = 2, int(tiny.batch.mask_loss[2].argmax())
    before = np.asarray(capture(tiny.model, tiny.params, tiny.batch).answer_probs)[:, row]
    length = int(tiny.batch.mask_loss[row].sum())
    for answer_token in range(length):  # the last one is EOS: it is in no row of the answer
        batch = changed(tiny.batch, row, first + answer_token)
        after = np.asarray(capture(tiny.model, tiny.params, batch).answer_probs)[:, row]
        differs = np.abs(after - before).max(axis=(0, 1, 3))[:length] > 0
        assert differs.tolist() == [a > answer_token for a in range(length)]


def test_fewer_rows_layers_and_heads_are_the_same_numbers(tiny: Any) -> None:
    everything = capture(tiny.model, tiny.params, tiny.batch, rows="all", answer_len=8)
    probs = np.asarray(everything.attn_probs)
    answer = capture(tiny.model, tiny.params, tiny.batch, answer_len=8)
    assert answer.answer_probs.shape == (3, 3, 4, 8, 28)
    assert answer.attn_probs is None and answer.text_probs is None
    assert answer.num_patches == everything.num_patches == 16
    for row in range(3):
        expected = probs[:, row][:, :, np.asarray(everything.query)[row]]
        assert np.array_equal(answer.answer_probs[:, row], expected)
    assert np.array_equal(everything.answer_probs, answer.answer_probs)
    some = capture(tiny.model, tiny.params, tiny.batch, rows="text", answer_len=8, layers=(2, 0), heads=(3, 1))
    assert np.array_equal(some.text_probs, probs[[2, 0]][:, :, [3, 1], 16:])
    assert np.array_equal(some.answer_probs, np.asarray(answer.answer_probs)[[2, 0]][:, :, [3, 1]])
    with pytest.raises(ValueError, match=r"saliency.layers=\(3,\) names \[3\]; the model's layers are 0 to 2"):
        capture(tiny.model, tiny.params, tiny.batch, layers=(3,))


def test_a_folded_rollout_is_that_of_the_whole_matrices(either: Any) -> None:
    options = RolloutOptions((0.5, 0.2), "min", start_layer=1, discard=0.3)
    found = capture(either.model, either.params, either.batch, rollout=options, vision_rollout=RolloutOptions((0.3,)))
    whole = capture(either.model, either.params, either.batch, rows="all", vision=True)
    for rolled, residual in zip(found.rolled, options.residuals, strict=True):
        expected = rollout(whole.attn_probs, residual=residual, head_fusion="min", start_layer=1, discard=0.3)
        np.testing.assert_allclose(rolled, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.vision_rolled[0], rollout(whole.vision_probs, residual=0.3), rtol=0, atol=1e-6)


def largest_array(jaxpr: Any) -> int:
    """The number of elements of the largest value in a jaxpr, at any depth."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [math.prod(var.aval.shape) for var in equation.outvars if hasattr(var.aval, "shape")]
        for parameter in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            sizes.append(largest_array(inner) if hasattr(inner, "eqns") else 0)
    return max(sizes)


def test_probabilities_of_all_layers_and_rows_are_never_in_memory(tiny: Any) -> None:
    """A model of ten layers and 64 + 12 positions: a layer's probabilities are there, those of all layers are not."""
    img = dataclasses.replace(tiny.model.variant.img, depth=10)
    llm = dataclasses.replace(tiny.model.variant.llm, depth=10, num_kv_heads=1)
    model = PaliGemma(dataclasses.replace(tiny.model.variant, img=img, llm=llm, resolution=112))
    params, batch = abstract_params(model.variant), Batch.spec(1, 112, 12)
    one_layer, all_layers = 4 * 76 * 76, 10 * 4 * 76 * 76
    biggest_weight = max(math.prod(leaf.shape) for leaf in params.values())
    assert biggest_weight < all_layers

    def traced(function: Any, **asked: Any) -> int:
        return largest_array(jax.make_jaxpr(partial(function, model, **asked))(params, batch).jaxpr)

    folded = {"rollout": RolloutOptions((0.5,)), "vision_rollout": RolloutOptions((0.5,)), "value_norm": True}
    assert one_layer <= traced(capture, answer_len=3, **folded) < all_layers
    assert traced(capture, rows="text", answer_len=3) < all_layers
    assert traced(relevancy, answer_len=3) < all_layers
    assert traced(capture, rows="all", answer_len=3) >= all_layers  # this is what asking for it costs
    compiled = capture_module._capture.lower(
        model, params, batch, asked=capture_module.CaptureOptions(**folded), answer_len=3
    ).compile()
    memory = compiled.memory_analysis()
    assert memory is not None and memory.output_size_in_bytes < 4 * all_layers


def test_too_small_an_answer_length_is_visible_in_the_result(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch, answer_len=4)
    assert captured.length.tolist() == tiny.batch.mask_loss.sum(axis=1).tolist()
    assert captured.length.max() > captured.targets.shape[1]


def test_padding_changes_no_answer_row(tiny: Any) -> None:
    room = ((0, 0), (0, 5))
    batch = tiny.batch
    longer = batch._replace(
        tokens=np.pad(batch.tokens, room),
        mask_ar=np.pad(batch.mask_ar, room, constant_values=1),
        mask_loss=np.pad(batch.mask_loss, room),
        mask_input=np.pad(batch.mask_input, room),
    )
    short, long = (capture(tiny.model, tiny.params, b, answer_len=8) for b in (batch, longer))
    assert (np.asarray(long.answer_probs)[..., -5:] == 0).all()
    np.testing.assert_allclose(long.answer_probs[..., :-5], short.answer_probs, rtol=0, atol=1e-6)


def test_all_answers_of_one_shape_share_a_compilation(tiny: Any) -> None:
    model = dataclasses.replace(tiny.model, remat="products")  # a model that no other test captured with `answer`
    before = capture_module._capture._cache_size()
    for row in range(3):
        one = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], tiny.batch)
        captured = capture(model, tiny.params, one, answer_len=9)
        assert captured.length.tolist() == [[3], [5], [8]][row]
    assert capture_module._capture._cache_size() == before + 1


def test_adapters_are_part_of_what_is_captured(tiny: Any) -> None:
    targets = ((r"llm/.*/(q|kv)_einsum/w", "lora"), (".*", "none"))
    found = lora.resolve(LoraConfig(rank=3, alpha=12.0, targets=targets), tiny.params, PALIGEMMA.equations)
    assert found is not None
    rng, adapters = np.random.default_rng(0), lora.init(jax.random.key(0), found, tiny.params)
    drawn = {name: jnp.asarray(rng.normal(0, 0.1, leaf.shape), jnp.float32) for name, leaf in adapters.items()}
    adapted = capture(PaliGemma(tiny.model.variant, found), {**tiny.params, **drawn}, tiny.batch)
    merged = capture(tiny.model, lora.merge(tiny.params, drawn, found), tiny.batch)
    base = capture(tiny.model, tiny.params, tiny.batch)
    np.testing.assert_allclose(adapted.answer_probs, merged.answer_probs, rtol=0, atol=2e-5)
    assert np.abs(np.asarray(adapted.answer_probs - base.answer_probs)).max() > 1e-2


def test_the_vision_tower_is_captured_if_asked_for(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch, vision=True)
    assert captured.vision_probs is not None
    assert captured.vision_probs.shape == (2, 3, 4, 16, 16)
    np.testing.assert_allclose(captured.vision_probs.sum(-1), 1, rtol=0, atol=1e-6)
    assert capture(tiny.model, tiny.params, tiny.batch).vision_probs is None


@pytest.mark.parametrize("suffix", ["", "left lung", "yes"])
def test_a_row_of_ids_is_the_row_of_training(tokenizer: Tokenizer, suffix: str) -> None:
    prefix, seq_len = "answer en where is it?", 40
    packed = pack_prompt(tokenizer, prefix, seq_len=seq_len)
    prompt = packed["tokens"][packed["mask_input"] == 1].tolist()
    answer = tokenizer.encode(suffix, eos=True)
    trained = pack(tokenizer, prefix, suffix=suffix, seq_len=seq_len)
    for given in (answer, [*answer, tokenizer.pad, tokenizer.pad]):
        row = answer_row(prompt, given, seq_len=seq_len, eos=tokenizer.eos, pad=tokenizer.pad)
        assert row.keys() == trained.keys()
        assert all(np.array_equal(row[name], trained[name]) for name in row)


def test_no_eos_is_added_to_an_answer_that_has_none() -> None:
    row = answer_row([2, 9, 4], [7, 8], seq_len=6, eos=1, pad=0)
    assert row["tokens"].tolist() == [2, 9, 4, 7, 8, 0, 0]
    assert row["mask_loss"].tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_an_answer_that_fills_the_row_fits_and_one_more_is_refused() -> None:
    assert answer_row([2, 9, 4], [7, 8, 6, 1], seq_len=6, eos=1, pad=0)["tokens"].tolist() == [2, 9, 4, 7, 8, 6, 1]
    with pytest.raises(ValueError, match=r"take 3 \+ 5 tokens; a row of data.seq_len=6 holds 7"):
        answer_row([2, 9, 4], [7, 8, 6, 5, 1], seq_len=6, eos=1, pad=0)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="The answer has no tokens"):
        answer_row([2, 9, 4], [], seq_len=6, eos=1, pad=0)
