"""Attention by blocks and by kernels, against the attention that holds all probabilities."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.models import fused_attention, layers
from radvqa_jax.models.attention import TAPS, attended, attention_probs
from radvqa_jax.models.blocks import block_size, map_blocks
from radvqa_jax.models.fused_attention import blocks, choose, cudnn, splash, with_attention
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS, get_variant
from radvqa_jax.models.vision_language import variables

DUMMY = VARIANTS["dummy"]


def arrays(length: int, heads: int = 4, kv_heads: int = 2, head_dim: int = 8, dtype: Any = jnp.float32) -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(2, length, n, head_dim) for n in (heads, kv_heads, kv_heads)]
    mask = jax.random.bernoulli(keys[3], 0.6, (2, length, length)).at[:, :, 0].set(True)
    return [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=False)], mask


def plain(query: Any, key: Any, value: Any, mask: Any, *, softcap: float = 0.0) -> Any:
    return attended(attention_probs(query, key, mask, softcap=softcap), value)


def both(function: Any, qkv: list[Any], mask: Any) -> Any:
    out, pull = jax.vjp(lambda *a: function(*a, mask), *qkv)
    return out, pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))


@pytest.mark.parametrize("length", [24, 22])  # 22: the last block is padded
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_blocks_give_the_same_values_and_gradients(length: int, masked: bool, softcap: float) -> None:
    qkv, mask = arrays(length)
    want = both(partial(plain, softcap=softcap), qkv, mask if masked else None)
    have = both(partial(blocks, softcap=softcap, block=7), qkv, mask if masked else None)
    for x, y in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)  # of values near one, in float32


def test_blocks_never_hold_the_probabilities_of_all_queries() -> None:
    qkv, mask = arrays(24)
    text = str(jax.make_jaxpr(partial(both, partial(blocks, block=6)))(qkv, mask))
    assert "f32[2,2,2,6,24]" in text
    assert "[2,2,2,24,24]" not in text
    assert "[4,2,2,2,6,24]" not in text  # nor stacked by the loop for the backward pass


def model_grads(model: PaliGemma) -> Any:
    params = fake_params(DUMMY)
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    tokens = jax.random.randint(jax.random.key(2), (2, 7), 0, 64)
    loss = lambda p: model.apply(variables(p), image, tokens, tokens * 0).sum() / 100  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(params)


def test_the_whole_model_is_the_same_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    want = model_grads(PaliGemma(DUMMY))
    monkeypatch.setattr(fused_attention.KERNELS["blocks"], "__kwdefaults__", {"softcap": 0.0, "block": 4})
    monkeypatch.setattr(layers, "MLP_TOKENS", 8)
    variant = with_attention(DUMMY, "blocks", dtype=jnp.float32)
    assert (variant.img.kernel, variant.llm.kernel) == ("blocks", "blocks")
    have = model_grads(PaliGemma(variant, remat="blocks", remat_img="products"))
    assert float(have[0]) == pytest.approx(float(want[0]), rel=1e-4)
    for name, grad in want[1].items():
        assert jnp.linalg.norm(have[1][name] - grad) <= 1e-4 * jnp.linalg.norm(grad) + 1e-6, name


def test_an_open_tap_takes_the_probabilities_whatever_the_kernel() -> None:
    model = PaliGemma(with_attention(DUMMY, "blocks", dtype=jnp.float32))
    params = variables(fake_params(DUMMY))
    tokens = jnp.ones((1, 3), int)
    _, taps = model.apply(params, jnp.zeros((1, 8, 8, 3)), tokens, tokens, mutable=[TAPS])
    assert taps[TAPS]["llm"]["layers"]["attn"]["attn_probs"].shape == (2, 1, 4, 7, 7)


def test_map_blocks_is_the_function() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 13, 3))
    np.testing.assert_array_equal(map_blocks(lambda y: 2 * y, x, most=8), 2 * x)
    np.testing.assert_array_equal(map_blocks(lambda y: 2 * y, x, most=1), 2 * x)
    assert block_size(1152, 341) == 288


def test_a_machine_without_a_gpu_takes_blocks() -> None:
    assert choose(1152, 8, 1, 256, jnp.dtype("bfloat16"), True, 0.0) == "blocks"
    variant = with_attention(get_variant("paligemma-3b-448"), "xla", dtype=jnp.bfloat16)
    assert (variant.img.kernel, variant.llm.kernel) == ("", "")


def test_a_probe_that_fails_is_reported_and_blocks_are_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As on a GPU whose cuDNN does not support it: here the CPU refuses.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with caplog.at_level(logging.WARNING):
        assert choose(64, 2, 1, 8, jnp.dtype("bfloat16"), True, 0.0) == "blocks"
    assert "64 tokens, 2 heads of 8: blocks, because cudnn failed the probe" in caplog.text
    choose.cache_clear()


def test_the_probe_takes_the_faster_of_two_that_agree(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(fused_attention.KERNELS, "cudnn", lambda q, k, v, m, softcap: blocks(q, k, v, m))
    times = iter([0.0, 5.0, 5.0, 6.0])  # blocks takes five seconds, the other one
    monkeypatch.setattr(fused_attention.time, "perf_counter", lambda: next(times))
    with caplog.at_level(logging.WARNING):
        assert choose(32, 2, 1, 8, jnp.dtype("bfloat16"), True, 0.0) == "cudnn"
    assert "blocks 1000.00 ms, cudnn 200.00 ms" in caplog.text
    monkeypatch.setattr(fused_attention.time, "perf_counter", lambda: 0.0)
    monkeypatch.setitem(fused_attention.KERNELS, "cudnn", lambda q, k, v, m, softcap: 2 * blocks(q, k, v, m))
    assert choose(34, 2, 1, 8, jnp.dtype("bfloat16"), True, 0.0) == "blocks"
    assert "its results differ from those of blocks" in caplog.text
    choose.cache_clear()


def test_cudnn_refuses_a_soft_cap() -> None:
    qkv, mask = arrays(8)
    with pytest.raises(ValueError, match="no soft cap"):
        cudnn(*qkv, mask, softcap=50.0)


@pytest.mark.parametrize("length", [128, 150])  # 150: tiles are padded
@pytest.mark.parametrize(("masked", "softcap", "kv_heads"), [(True, 0.0, 1), (True, 1.5, 2), (False, 0.0, 4)])
def test_splash_gives_the_same_values_and_gradients(length: int, masked: bool, softcap: float, kv_heads: int) -> None:
    qkv, mask = arrays(length, kv_heads=kv_heads, head_dim=24)
    want = both(partial(plain, softcap=softcap), qkv, mask if masked else None)
    have = jax.jit(partial(both, partial(splash, softcap=softcap, interpret=True)))(qkv, mask if masked else None)
    for x, y in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)  # of sums over 128 positions, in float32


def test_splash_reads_a_cache_that_is_longer_than_the_prompt() -> None:
    (query, key, value), mask = arrays(150)
    short = query[:, :130], key, value, mask[:, :130]
    np.testing.assert_allclose(splash(*short, interpret=True), plain(*short), rtol=1e-5, atol=1e-5)


def test_queries_that_see_nothing_stay_finite_in_splash() -> None:
    qkv, mask = arrays(256)
    blind = mask.at[:, 128:].set(False)  # a whole tile of padding tokens
    out = splash(*qkv, blind, interpret=True)
    assert jnp.isfinite(out).all()
    np.testing.assert_allclose(out[:, :128], plain(*qkv, mask)[:, :128], rtol=1e-5, atol=1e-5)


def test_a_tpu_is_asked_for_splash_with_its_soft_cap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setitem(fused_attention.KERNELS, "splash", partial(splash, interpret=True))
    times = iter([0.0, 6.0, 6.0, 7.0])  # possible times of a TPU: here the interpreter is slow
    monkeypatch.setattr(fused_attention.time, "perf_counter", lambda: next(times))
    with caplog.at_level(logging.WARNING):
        assert choose(128, 2, 1, 8, jnp.dtype("bfloat16"), True, 2.0) == "splash"
    assert "128 tokens, 2 heads of 8: splash" in caplog.text
    choose.cache_clear()
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert choose(128, 2, 1, 8, jnp.dtype("bfloat16"), True, 2.0) == "blocks"
    assert "because splash cannot compute one image on several devices" in caplog.text
    choose.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "masked"), [(8, 1, 256, True), (16, 16, 72, False)])
def test_cudnn_gives_the_same_on_a_gpu(heads: int, kv_heads: int, head_dim: int, masked: bool) -> None:
    qkv, mask = arrays(128, heads, kv_heads, head_dim, jnp.bfloat16)
    qkv[0] = qkv[0] * head_dim**-0.5
    want = both(plain, qkv, mask if masked else None)
    for x, y in zip(jax.tree.leaves(both(cudnn, qkv, mask if masked else None)), jax.tree.leaves(want), strict=True):
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)
        assert jnp.abs(x - y).max() < 0.03 * jnp.abs(y).max()


def test_gemma_two_keeps_its_soft_cap_by_blocks() -> None:
    capped = replace(DUMMY, llm=replace(DUMMY.llm, attn_softcap=2.0, post_norms=True))
    assert with_attention(capped, "auto", dtype=jnp.bfloat16).llm.kernel == "blocks"
