"""Adapters: no effect at the start, then exactly that of the merged weight, for every linear weight of every model."""

import re
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, abstract_params, fake_params
from radvqa_jax.config import LoraConfig
from radvqa_jax.models import lora
from radvqa_jax.models.lora import Lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS, Variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.trees import Flat, flatten

DUMMY = VARIANTS["dummy"]
KINDS = {
    "multi-query": DUMMY,
    "grouped": replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=2, attn_softcap=2.0, post_norms=True)),
    "fused": replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=4)),
}
EVERYTHING = LoraConfig(rank=3, alpha=7.0, targets=((".*", "lora"),))
IMAGE = jax.random.uniform(jax.random.key(5), (2, 8, 8, 3), minval=-1)
TOKENS = jax.random.randint(jax.random.key(6), (2, 6), 4, 64)
MASK_AR = jnp.array([[0, 0, 1, 1, 1, 1]] * 2)
NEITHER = r".*(bias|scale|pos_embedding|input_embedding)|img/embedding/kernel"


@cache
def forward(model: PaliGemma) -> Any:
    """The compiled teacher-forced pass; one compilation per model."""
    return jax.jit(model.apply)


def make(variant: Variant, config: LoraConfig = EVERYTHING) -> tuple[Flat, Flat, Lora]:
    """(params, adapters with random factors, the adapters' description)."""
    params = fake_params(variant)
    described = lora.resolve(config, params, PALIGEMMA.equations)
    assert described is not None
    adapters = lora.init(jax.random.key(1), described, params)
    keys = jax.random.split(jax.random.key(2), len(adapters))
    random = {n: 0.2 * jax.random.normal(key, adapters[n].shape) for n, key in zip(adapters, keys, strict=True)}
    return params, random, described


def only(adapters: Flat, target: str) -> Flat:
    """The adapters with lora_b of every other weight at zero."""
    return {
        name: leaf if name.startswith(f"{target}/") or name.endswith("lora_a") else jnp.zeros_like(leaf)
        for name, leaf in adapters.items()
    }


@pytest.mark.parametrize("variant", [VARIANTS["paligemma-3b-224"], VARIANTS["paligemma2-28b-448"], KINDS["fused"]])
def test_every_matrix_of_a_model_can_have_an_adapter(variant: Variant) -> None:
    shapes = abstract_params(variant)
    linear = {leaf for leaf in shapes if lora.equation_of(leaf, PALIGEMMA.equations)}
    assert linear == {leaf for leaf in shapes if not re.fullmatch(NEITHER, leaf)}
    assert len(linear) == (11 if "llm/layers/attn/qkv_einsum/w" in linear else 12)


def test_the_default_is_the_attention_of_both_towers() -> None:
    for kind, variant in KINDS.items():
        described = lora.resolve(LoraConfig(rank=4), abstract_params(variant), PALIGEMMA.equations)
        assert described is not None
        short = {name.removesuffix("/kernel").removesuffix("/w").split("/")[-1] for name in described.targets}
        own = {"qkv_einsum"} if kind == "fused" else {"q_einsum", "kv_einsum"}
        assert short == {"query", "key", "value", "out", "attn_vec_einsum"} | own


@pytest.mark.parametrize("kind", KINDS)
def test_every_adapter_equals_its_merged_weight(kind: str) -> None:
    variant = KINDS[kind]
    params, adapters, described = make(variant)
    base = forward(PaliGemma(variant))
    adapted = forward(PaliGemma(variant, described))
    plain = base(variables(params), IMAGE, TOKENS, MASK_AR)
    for target in sorted(described.targets):
        one = only(adapters, target)
        merged = lora.merge(params, one, described)
        expected = base(variables(merged), IMAGE, TOKENS, MASK_AR)
        out = adapted(variables(params | one), IMAGE, TOKENS, MASK_AR)
        assert np.abs(expected - plain).max() > 1e-2, target
        np.testing.assert_allclose(out, expected, atol=5e-5, err_msg=target)
    everything = base(variables(lora.merge(params, adapters, described)), IMAGE, TOKENS, MASK_AR)
    out = adapted(variables(params | adapters), IMAGE, TOKENS, MASK_AR)
    np.testing.assert_allclose(out, everything, atol=2e-4)


def test_the_model_starts_equal_to_its_base() -> None:
    params, _, described = make(DUMMY)
    adapters = lora.init(jax.random.key(0), described, params)
    out = forward(PaliGemma(DUMMY, described))(variables(params | adapters), IMAGE, TOKENS, MASK_AR)
    np.testing.assert_array_equal(out, forward(PaliGemma(DUMMY))(variables(params), IMAGE, TOKENS, MASK_AR))


def test_the_base_tree_does_not_change() -> None:
    _, _, described = make(DUMMY)
    model = PaliGemma(DUMMY, described)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGE, TOKENS, MASK_AR)
    assert flatten(shapes["params"]) == abstract_params(DUMMY)
    adapters = lora.init(jax.random.key(0), described, abstract_params(DUMMY))
    assert {n: leaf.shape for n, leaf in flatten(shapes["lora"]).items()} == {n: a.shape for n, a in adapters.items()}


def test_fresh_factors_are_those_of_peft() -> None:
    variant = replace(DUMMY, llm=replace(DUMMY.llm, width=64, num_kv_heads=2))
    params = abstract_params(variant)
    described = lora.resolve(replace(EVERYTHING, rank=8), params, PALIGEMMA.equations)
    assert described is not None
    adapters = lora.init(jax.random.key(0), described, params)
    assert {str(leaf.dtype) for leaf in adapters.values()} == {"float32"}
    assert not any(leaf.any() for name, leaf in adapters.items() if name.endswith("lora_b"))
    # Weight -> how many numbers go into each output.
    fan_in = {"attn/kv_einsum/w": 64, "attn/attn_vec_einsum/w": 32, "mlp/gating_einsum": 64, "mlp/linear": 24}
    for name, fan in fan_in.items():
        a = adapters[f"llm/layers/{name}/lora_a"]
        assert np.abs(a).max() <= fan**-0.5
        assert float(a.std()) == pytest.approx(fan**-0.5 / 3**0.5, rel=0.1)
    again = lora.init(jax.random.key(0), described, params)
    assert all((adapters[name] == again[name]).all() for name in adapters)
    drawn = [float(leaf.reshape(-1)[0]) for name, leaf in adapters.items() if name.endswith("lora_a")]
    assert len({round(x * 1e6) for x in drawn}) == len(drawn)


def test_the_scale_is_alpha_over_rank_or_its_root() -> None:
    params = abstract_params(DUMMY)
    plain, rooted = (
        lora.resolve(replace(EVERYTHING, rslora=rslora), params, PALIGEMMA.equations) for rslora in (False, True)
    )
    assert plain is not None and plain.scale == pytest.approx(7 / 3)
    assert rooted is not None and rooted.scale == pytest.approx(7 / 3**0.5)


def test_rslora_is_merged_with_its_own_scale() -> None:
    params, adapters, described = make(DUMMY, replace(EVERYTHING, rslora=True))
    merged = lora.merge(params, adapters, described)
    out = forward(PaliGemma(DUMMY, described))(variables(params | adapters), IMAGE, TOKENS, MASK_AR)
    expected = forward(PaliGemma(DUMMY))(variables(merged), IMAGE, TOKENS, MASK_AR)
    np.testing.assert_allclose(out, expected, atol=3e-4)


def test_a_per_head_weight_is_not_shared_between_heads() -> None:
    name = "llm/layers/attn/attn_vec_einsum/w"
    _, adapters, described = make(DUMMY)
    a, b = adapters[f"{name}/lora_a"], adapters[f"{name}/lora_b"]
    assert a.shape == (2, 4, 8, 3)
    assert b.shape == (2, 3, 16)
    change = lora.delta(described.equation_of(name), a, b, scale=described.scale)
    for layer, head in np.ndindex(2, 4):
        np.testing.assert_allclose(change[layer, head], 7 / 3 * (a[layer, head] @ b[layer]), atol=1e-5)


@pytest.mark.parametrize(("name", "variant"), [("attn/kv_einsum/w", "grouped"), ("attn/qkv_einsum/w", "fused")])
def test_stacked_weights_have_factors_of_their_own(name: str, variant: str) -> None:
    full = f"llm/layers/{name}"
    config = LoraConfig(rank=2, alpha=7.0, targets=((full, "lora"), (".*", "none")))
    _, adapters, described = make(KINDS[variant], config)
    a = adapters[f"{full}/lora_a"].at[:, 0].set(0)
    change = lora.delta(described.equation_of(full), a, adapters[f"{full}/lora_b"], scale=described.scale)
    assert not change[:, 0].any()
    assert all(np.abs(change[:, i]).max() > 0 for i in range(1, change.shape[1]))


def test_merging_touches_the_targets_only_and_is_undone() -> None:
    params, adapters, described = make(DUMMY, LoraConfig(rank=2, alpha=5.0))
    merged = lora.merge(params, adapters, described)
    assert {name for name in params if merged[name] is not params[name]} == described.targets
    back = lora.unmerge(merged, adapters, described)
    for name in params:
        np.testing.assert_allclose(back[name], params[name], atol=1e-6, err_msg=name)


def test_merging_half_precision_weights_rounds_once() -> None:
    params, adapters, described = make(DUMMY)
    half = {name: leaf.astype(jnp.bfloat16) for name, leaf in params.items()}
    merged = lora.merge(half, adapters, described)
    name = "llm/layers/mlp/linear"
    change = lora.delta(
        described.equation_of(name), adapters[f"{name}/lora_a"], adapters[f"{name}/lora_b"], scale=described.scale
    )
    assert merged[name].dtype == jnp.bfloat16
    np.testing.assert_array_equal(merged[name], (half[name].astype(jnp.float32) + change).astype(jnp.bfloat16))


def test_float32_adapters_compute_in_the_dtype_of_activations() -> None:
    params, adapters, described = make(DUMMY)
    half = jax.jit(partial(PaliGemma(DUMMY, described, jnp.bfloat16).apply, method="embed_image"))
    image_tokens = half(variables(params | adapters), IMAGE)
    assert image_tokens.dtype == jnp.bfloat16
    full = jax.jit(partial(PaliGemma(DUMMY, described).apply, method="embed_image"))(
        variables(params | adapters), IMAGE
    )
    assert np.linalg.norm(image_tokens - full) < 0.05 * np.linalg.norm(full)


def dropped(key: jax.Array | None, leaves: Flat, described: Lora) -> jax.Array:
    rngs = {} if key is None else {"dropout": key}
    return PaliGemma(DUMMY, described).apply(variables(leaves), IMAGE, method="embed_image", rngs=rngs)


def test_dropout_acts_on_adapters_only_where_a_key_is_given() -> None:
    target = "img/head/kernel"
    config = LoraConfig(rank=3, alpha=7.0, dropout=0.3, targets=((target, "lora"), (".*", "none")))
    params, adapters, described = make(DUMMY, config)
    leaves = params | adapters
    base = dropped(None, params | {name: jnp.zeros_like(leaf) for name, leaf in adapters.items()}, described)
    still = dropped(None, leaves, described)
    np.testing.assert_array_equal(still, dropped(None, leaves, replace(described, dropout=0.0)))
    keys = jax.random.split(jax.random.key(0), 600)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: dropped(key, leaves, described)))(keys), np.float64)
    assert (np.abs(drawn - np.asarray(still)).max(axis=(1, 2, 3)) > 1e-3).all()
    # The head is linear in its adapter, so the mean over draws is the answer without dropout.
    error = drawn.std(axis=0) / len(keys) ** 0.5
    assert np.abs((drawn.mean(axis=0) - np.asarray(still)) / error).max() < 5
    assert np.abs(np.asarray(still - base)).max() > 20 * error.max()
    # With lora_b at zero dropout has nothing to act on.
    zero = params | {n: jnp.zeros_like(leaf) if n.endswith("_b") else leaf for n, leaf in adapters.items()}
    np.testing.assert_array_equal(dropped(keys[0], zero, described), base)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (((".*/no_such", "lora"), (".*", "none")), r"lora.targets: the rules \['.\*/no_such'\] decide about no leaf"),
        ((("img/.*", "lora"),), r"lora.targets: 5 of 12 leaves are covered by no rule \(llm/layers/attn"),
        (((".*", "yes"),), r"lora.targets: a label is 'lora' or 'none', got \['yes'\]"),
        (((".*", "none"),), "lora.targets chooses no weight though lora.rank > 0"),
    ],
)
def test_invalid_rules_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lora.resolve(LoraConfig(rank=2, targets=targets), abstract_params(DUMMY), PALIGEMMA.equations)


def test_the_first_rule_wins_and_rank_zero_means_none() -> None:
    targets = (("llm/.*/linear", "none"), ("llm/.*", "lora"), (".*", "none"))
    described = lora.resolve(LoraConfig(rank=2, targets=targets), abstract_params(DUMMY), PALIGEMMA.equations)
    assert described is not None
    assert "llm/layers/mlp/gating_einsum" in described.targets
    assert "llm/layers/mlp/linear" not in described.targets
    assert lora.resolve(LoraConfig(rank=0, targets=()), abstract_params(DUMMY), PALIGEMMA.equations) is None


def test_the_table_shows_every_linear_weight() -> None:
    params = abstract_params(DUMMY)
    described = lora.resolve(LoraConfig(rank=2, alpha=6.0), params, PALIGEMMA.equations)
    head, *lines = lora.table(described, params, PALIGEMMA.equations).split("\n")
    assert head == "adapters: rank 2, scale 3, dropout 0"
    assert "llm/layers/attn/attn_vec_einsum/w  (2, 4, 8, 16)  A (2, 4, 8, 2)  B (2, 2, 16)" in lines
    assert "img/head/kernel  (16, 16)  -" in lines
    assert len(lines) == 12
    assert lora.table(None, params, PALIGEMMA.equations).startswith("adapters: none\n")
