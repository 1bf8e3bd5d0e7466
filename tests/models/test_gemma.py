"""Gemma's parts, compared with their formulas; the golden numbers test the whole."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.models import layers
from radvqa_jax.models.gemma import Embedder, FeedForward, RMSNorm, rope
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch

DUMMY = VARIANTS["dummy"]


def normal(seed: int, *shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def test_rope_rotates_the_halves_against_each_other() -> None:
    x, positions = normal(0, 1, 3, 2, 8), jnp.array([[0, 5, 700]])
    out = np.asarray(rope(x, positions), np.float64)
    turned = np.asarray(x[..., :4] + 1j * x[..., 4:])
    angle = np.asarray(positions)[0][:, None] / 10_000 ** (np.arange(4) / 4)
    turned = turned * np.exp(1j * angle)[None, :, None]
    np.testing.assert_allclose(out[..., :4], turned.real, atol=1e-4)
    np.testing.assert_allclose(out[..., 4:], turned.imag, atol=1e-4)


def test_rope_makes_products_depend_on_the_distance_only() -> None:
    query, key = normal(1, 1, 1, 1, 8), normal(2, 1, 1, 1, 8)

    def product(at: int, other: int) -> float:
        return float((rope(query, jnp.array([[at]])) * rope(key, jnp.array([[other]]))).sum())

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert abs(product(7, 3) - product(7, 5)) > 1e-2


def test_rms_norm_is_its_formula_in_float32() -> None:
    x, scale = 3 * normal(0, 2, 3, 16), normal(1, 16)
    expected = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * (1 + scale)[None, None]
    out = RMSNorm(jnp.float32).apply({"params": {"scale": scale}}, x)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    # In half precision only the input and the output are rounded.
    half = x.astype(jnp.bfloat16)
    out = RMSNorm(jnp.bfloat16).apply({"params": {"scale": scale}}, half)
    expected = RMSNorm(jnp.float32).apply({"params": {"scale": scale}}, half.astype(jnp.float32))
    np.testing.assert_array_equal(out, expected.astype(jnp.bfloat16))


def test_embeddings_are_scaled_and_logits_are_not() -> None:
    table = normal(0, DUMMY.llm.vocab_size, DUMMY.llm.width)
    embedder, params = Embedder(DUMMY.llm, jnp.float32), {"params": {"input_embedding": table}}
    tokens = jnp.array([[3, 0, 63]])
    np.testing.assert_allclose(embedder.apply(params, tokens, method="encode"), table[tokens] * 4, rtol=1e-6)
    x = normal(1, 1, 2, 16)
    np.testing.assert_allclose(embedder.apply(params, x, method="decode"), x @ table.T[None], rtol=1e-4, atol=1e-4)


def test_half_precision_logits_are_accumulated_in_float32() -> None:
    table = normal(0, DUMMY.llm.vocab_size, DUMMY.llm.width).astype(jnp.bfloat16)
    x = normal(1, 1, 2, 16, dtype=jnp.bfloat16)
    embedder = Embedder(DUMMY.llm, jnp.bfloat16)
    logits = embedder.apply({"params": {"input_embedding": table}}, x, method="decode")
    assert logits.dtype == jnp.float32
    expected = np.asarray(x, np.float64) @ np.asarray(table, np.float64).T
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)  # rounding to bfloat16 would be 4e-3


def test_the_factor_of_embeddings_is_rounded_to_their_dtype() -> None:
    config = replace(DUMMY.llm, width=18)  # sqrt(18) is 4.25 in bfloat16
    embedder = Embedder(config, jnp.bfloat16)
    params = {"params": {"input_embedding": jnp.ones((config.vocab_size, 18))}}
    out = embedder.apply(params, jnp.array([[1]]), method="encode")
    assert out.dtype == jnp.bfloat16
    assert float(out[0, 0, 0]) == 4.25


def test_the_first_gate_goes_through_gelu() -> None:
    gating, down, x = normal(0, 2, 16, 24), normal(1, 24, 16), normal(2, 1, 3, 16)
    params = {"params": {"gating_einsum": gating, "linear": down}}
    out = FeedForward(None, jnp.float32, DUMMY.llm).apply(params, x)
    expected = (jax.nn.gelu(x @ gating[:1], approximate=True) * (x @ gating[1:])) @ down[None]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-3)


def logits_of(params: dict[str, Any], **switches: Any) -> jax.Array:
    model = PaliGemma(replace(DUMMY, llm=replace(DUMMY.llm, **switches)))
    batch = jax.tree.map(jnp.asarray, Batch.fake(2, 8, 8))
    return jax.jit(model.apply)(variables(params), batch.image, batch.tokens, batch.mask_ar)


def test_query_scale_replaces_that_of_the_head_dim() -> None:
    params = fake_params(DUMMY)
    name = "llm/layers/attn/q_einsum/w"
    twice = params | {name: params[name] * 2}
    as_default = logits_of(params, query_scale=8**-0.5)
    np.testing.assert_allclose(as_default, logits_of(params), atol=1e-6)
    scaled = logits_of(params, query_scale=2 * 8**-0.5)
    np.testing.assert_allclose(scaled, logits_of(twice), atol=1e-4)
    assert np.abs(scaled - as_default).max() > 1e-2


def test_the_attention_cap_is_in_use() -> None:
    params = fake_params(DUMMY)
    plain = logits_of(params)
    np.testing.assert_allclose(logits_of(params, attn_softcap=1e4), plain, atol=1e-4)
    assert np.abs(logits_of(params, attn_softcap=0.5) - plain).max() > 1e-2


def test_the_final_cap_is_on_decoding_steps_only() -> None:
    params = variables(fake_params(DUMMY))
    batch = jax.tree.map(jnp.asarray, Batch.fake(2, 8, 8))
    token = jnp.array([5, 9])
    results = []
    for cap in (0.0, 0.7):
        model = PaliGemma(replace(DUMMY, llm=replace(DUMMY.llm, final_softcap=cap)))
        prefill = jax.jit(partial(model.apply, method="prefill", new_tokens=1))
        first, state = prefill(params, batch.image, batch.tokens, batch.mask_ar, batch.mask_input)
        results.append((first, jax.jit(partial(model.apply, method="extend"))(params, token, state)[0]))
    (first, step), (first_capped, step_capped) = results
    np.testing.assert_array_equal(first_capped, first)
    np.testing.assert_allclose(step_capped, 0.7 * np.tanh(step / 0.7), atol=1e-5)
    assert np.abs(step).max() > 1


def test_on_a_mesh_a_block_has_a_devices_own_positions_and_weights_are_gathered_before_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "MLP_TOKENS", 8)
    module, x = FeedForward(None, jnp.float32, DUMMY.llm, remat="blocks"), jnp.ones((4, 16, DUMMY.llm.width))
    params = module.init(jax.random.key(0), x)
    mesh = jax.sharding.AbstractMesh(
        (2, 2, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3
    )
    for turns, gathered, context in ((8, 0, nullcontext()), (2, 2, jax.sharding.use_abstract_mesh(mesh))):
        with context:
            equations = jax.make_jaxpr(module.apply)(params, x).eqns
        (loop,) = [equation for equation in equations if equation.primitive.name == "scan"]
        before = equations[: equations.index(loop)]
        assert loop.params["length"] == turns
        assert [equation.primitive.name for equation in before].count("sharding_constraint") == gathered
        assert "sharding_constraint" not in str(loop.params["jaxpr"])
