"""Quantised weights: their rounding, and that a model computes with the rounded values."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import Config, LoraConfig, StageConfig, default_config
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.models import lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.quantize import dequantize, is_quantized, quantize, tiles
from radvqa_jax.models.variants import get_variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.base_leaves import base_shapes, keep_leaf, loaded_shapes
from radvqa_jax.training.stage import Base, Trained, assemble
from radvqa_jax.training.step import StepOptions, loss_and_grads
from radvqa_jax.trees import count
from tests.training.conftest import assert_same

DUMMY = get_variant("dummy")
PARAMS = fake_params(DUMMY)
BATCH = jax.tree.map(jnp.asarray, Batch.fake(3, 8, 8))
# Of NF4, appendix E of Dettmers et al. 2023.
NEGATIVE = [0.0910500, 0.1847734, 0.2844414, 0.3949175, 0.5250731, 0.6961928, 1.0]
QUANTILES = [0.0, 0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]


def config_of(kind: str) -> Any:
    config = default_config()
    config.model.variant, config.model.quantize = "dummy", kind
    config.model.param_dtype = config.model.compute_dtype = "float32"
    config.mode = "predict"
    config.eval.source.dataset = "phantom_rad"
    return from_config_dict(config)


def quantized(kind: str) -> dict[str, Any]:
    keep = loaded(config_of(kind), ())
    return {name: keep(name) for name in PARAMS}


def loaded(config: Config, stages: tuple[str, ...]) -> Callable[[str], Any]:
    """The function from the name of a leaf of PARAMS to its form in memory, for a run with these stages."""
    shapes = loaded_shapes(config, stages)
    keep = keep_leaf(config, stages, shapes)
    return lambda name: keep(name, PARAMS[name].astype(shapes[name].dtype))


def rounded(leaves: dict[str, Any]) -> dict[str, Any]:
    return {name: dequantize(leaf, jnp.float32) if is_quantized(leaf) else leaf for name, leaf in leaves.items()}


def test_nf4_rounds_every_weight_to_the_nearest_quantile_of_its_block() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 32, 256)).astype(np.float32)
    found = dequantize(quantize(jnp.asarray(weight), "nf4", equation="BTF,FD->BTD"), jnp.float32)
    blocks = weight.reshape(2, 32, 4, 64)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    levels = np.concatenate([-np.array(NEGATIVE)[::-1], QUANTILES])
    nearest = levels[np.abs(blocks[..., None] / largest[..., None] - levels).argmin(axis=-1)] * largest
    # Scales are rounded to eight bits themselves: 1/255 of the range of 256 of them.
    np.testing.assert_allclose(np.asarray(found).reshape(blocks.shape), nearest, atol=float(np.ptp(largest)) / 255)


def test_int8_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 8, 32, 16)).astype(np.float32)
    found = np.asarray(dequantize(quantize(jnp.asarray(weight), "int8", equation="BTD,NDH->BTNH"), jnp.float32))
    step = np.abs(weight).max(axis=2, keepdims=True) / 127.5
    assert (np.abs(found - weight) <= step / 2 + 1e-6).all()


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4.13), ("int8", 8.01)])
def test_a_weight_of_the_real_size_takes_few_bits(kind: Any, bits: float) -> None:
    shape = jax.ShapeDtypeStruct((18, 2, 2048, 16384), jnp.bfloat16)
    leaf = jax.eval_shape(lambda w: quantize(w, kind, equation="BTD,CDF->CBTF"), shape)
    assert leaf.shape == shape.shape and count(leaf) == count(shape)
    size = {"uint4": 4, "int8": 8, "float32": 32}
    total = sum(np.prod(part.shape) * size[str(part.dtype)] for part in jax.tree.leaves(leaf))
    assert total / count(shape) == pytest.approx(bits, abs=0.01)


def test_blocks_divide_their_axes() -> None:
    for shape in ((1152, 16, 72), (1152, 4304), (7, 13), (16384, 2048)):
        found = tiles(shape, 64)
        assert all(shape[axis] % length == 0 for axis, length in found.items())
        assert np.prod(list(found.values())) <= 64


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_model_computes_with_the_rounded_weights(kind: str) -> None:
    leaves = quantized(kind)
    kept = [name for name in leaves if not is_quantized(leaves[name]) and lora.equation_of(name, PALIGEMMA.equations)]
    assert kept == ["img/head/kernel"]
    model = PaliGemma(DUMMY)
    inputs = BATCH.image, BATCH.tokens, BATCH.mask_ar
    have, want, exact = (model.apply(variables(tree), *inputs) for tree in (leaves, rounded(leaves), PARAMS))
    np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
    assert not np.allclose(have, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_adapters_learn_on_a_quantised_base_as_on_the_rounded_one() -> None:
    leaves = quantized("nf4")
    adapters = lora.resolve(LoraConfig(rank=2, targets=((".*", "lora"),)), leaves, PALIGEMMA.equations)
    assert adapters is not None
    trainable = {name: leaf + 0.1 for name, leaf in lora.init(jax.random.key(1), adapters, leaves).items()}
    model = PaliGemma(DUMMY, adapters, remat="blocks")
    options = StepOptions()
    results = [
        jax.jit(lambda t, f: loss_and_grads(t, f, BATCH, jax.random.key(0), model=model, options=options))(
            trainable, frozen
        )
        for frozen in (leaves, rounded(leaves))
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for name, grad in results[1][1].items():
        np.testing.assert_allclose(results[0][1][name], grad, rtol=1e-4, atol=1e-6, err_msg=name)


def test_weights_that_a_stage_trains_are_not_quantised() -> None:
    config = config_of("nf4")
    assert is_quantized(base_shapes(config, ())["llm/layers/mlp/linear"])
    stage = StageConfig(train=((r"llm/.*/linear", "train:mlp"), (".*", "freeze")))
    shapes = base_shapes(config.with_stages({"stage2": stage}), ("stage2",))
    assert shapes["llm/layers/mlp/linear"].dtype == jnp.float32 and not is_quantized(shapes["llm/layers/mlp/linear"])
    assert is_quantized(shapes["llm/layers/mlp/gating_einsum"])
    assert {name: leaf.shape for name, leaf in shapes.items()} == {n: leaf.shape for n, leaf in PARAMS.items()}


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_weight_that_only_a_later_stage_trains_is_rounded_as_it_is_without_that_stage(kind: str) -> None:
    linear = "llm/layers/mlp/linear"
    stage = StageConfig(train=((linear, "train:mlp"), (".*", "freeze")))
    config = config_of(kind).with_stages({"stage2": stage})
    config = replace(config, model=replace(config.model, param_dtype="bfloat16"))
    alone, chain = ({n: loaded(config, stages)(n) for n in PARAMS} for stages in ((), ("stage2",)))
    assert chain[linear].dtype == jnp.float32 and is_quantized(alone[linear])
    base = Base(chain, "dummy.npz", "a" * 64)
    assert_same(assemble(config, base, Trained.nothing())[1], alone)
    assert assemble(config, base, Trained.nothing(), trains=[linear])[1][linear] is chain[linear]
    trained = {linear: jnp.zeros(chain[linear].shape)}
    assert_same(assemble(config, base, Trained(trained, LoraConfig()))[1], alone | trained)
