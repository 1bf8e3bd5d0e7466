"""Relevancy and value norms against what the papers' equations give on full matrices."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA
from radvqa_jax.config import LoraConfig
from radvqa_jax.models import lora
from radvqa_jax.models.attention import FOLD, tapping
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.vision_language import variables
from radvqa_jax.saliency.buffers import nest
from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.relevancy import relevancy, relevancy_maps

from .conftest import load

LLM = ("llm", "layers", "attn")


def inputs(batch: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image, tokens and mask_ar of a teacher-forced pass."""
    return jnp.asarray(batch.image), jnp.asarray(batch.tokens[:, :-1]), jnp.asarray(batch.mask_ar[:, :-1])


def explicit_relevancy(golden: Any, token: int) -> np.ndarray:
    """The map of one answer token of every row: gradients by a probe of zeros that is added to all attention,
    then the product of the paper's matrices, in float64."""
    model, batch, p = golden.model, golden.batch, golden.model.variant.num_patches
    probs = golden.io["attention_probs"]
    first = batch.mask_loss.argmax(axis=1)
    rows = np.arange(len(first))

    def y(probe: jax.Array) -> jax.Array:
        def hook(module: Any, probs: jax.Array, value: Any, project: Any) -> jax.Array:
            if module.path[0] == "img":
                return probs
            layer = module.get_variable(FOLD, "layer")
            module.put_variable(FOLD, "layer", layer + 1)
            return probs + probe[layer]

        start = {FOLD: nest(LLM, {"layer": jnp.zeros((), jnp.int32)})}
        with tapping(hook):
            logits, _ = model.apply(
                variables(golden.params) | start,
                *inputs(batch),
                mutable=[FOLD],
            )
        at = logits[rows, first + token - 1]
        return at[rows, batch.tokens[rows, first + token]].sum()

    gradient = np.asarray(jax.jit(jax.grad(y))(jnp.zeros(probs.shape)), np.float64)
    out = []
    for row in rows:
        relevance = np.eye(probs.shape[-1])
        for layer in range(len(probs)):
            relevance += np.maximum(gradient[layer, row] * probs[layer, row], 0).mean(axis=0) @ relevance
        out.append(relevance[p + first[row] + token - 1])
    return np.stack(out)


@pytest.fixture(scope="module")
def grouped(golden: Path) -> Any:
    """The golden PaliGemma 2: two key/value heads for four heads, post-norms, capped logits."""
    return load(golden, "paligemma2")


@pytest.mark.slow
def test_relevancy_is_the_product_of_the_papers_matrices(tiny: Any) -> None:
    with jax.default_matmul_precision("highest"):
        found = relevancy(tiny.model, tiny.params, tiny.batch, answer_len=3)
        assert found.shape == (3, 3, 28) and (np.asarray(found) >= 0).all()
        for token in (0, 2):
            expected = explicit_relevancy(tiny, token)
            assert expected[:, :16].max() > 1e-4
            np.testing.assert_allclose(found[:, token], expected, rtol=1e-3, atol=1e-6)
    assert relevancy_maps(found, num_patches=16).shape == (3, 3, 4, 4)


def adapted(golden: Any) -> tuple[PaliGemma, dict[str, Any], dict[str, Any]]:
    """The model with random adapters on the output projection, its leaves, and the merged leaves."""
    targets = ((r"llm/.*/attn_vec_einsum/w", "lora"), (".*", "none"))
    found = lora.resolve(LoraConfig(rank=3, alpha=12.0, targets=targets), golden.params, PALIGEMMA.equations)
    assert found is not None
    drawn = {
        name: jax.random.normal(jax.random.key(1), leaf.shape) * 0.1
        for name, leaf in lora.init(jax.random.key(0), found, golden.params).items()
    }
    return PaliGemma(golden.model.variant, found), golden.params | drawn, lora.merge(golden.params, drawn, found)


@pytest.mark.slow
def test_value_norms_are_those_of_the_vectors_that_are_added(grouped: Any) -> None:
    """By the model's own layer: with one key readable at a time, its output is f(x); here by hand from the weights."""
    model, params, merged = adapted(grouped)
    values: list[np.ndarray] = []

    def hook(module: Any, probs: jax.Array, value: jax.Array, project: Any) -> jax.Array:
        del project
        if module.path[0] == "llm" and not isinstance(value, jax.core.Tracer):
            values.append(np.asarray(value))
        return probs

    batch = grouped.batch
    with jax.default_matmul_precision("highest"):
        captured = capture(model, params, batch, answer_len=5, value_norm=True)
        with tapping(hook), jax.disable_jit():  # layer after layer, with values
            model.apply(variables(params), *inputs(batch), method="pre_logits")
    assert len(values) == len(captured.head_norms)
    weight = np.asarray(merged["llm/layers/attn/attn_vec_einsum/w"], np.float64)  # [L N H D]
    probs = np.asarray(captured.answer_probs, np.float64)
    for layer, value in enumerate(values):
        groups = 4 // value.shape[2]
        added = [
            probs[layer, :, head, :, :, None] * (value[:, :, head // groups] @ weight[layer, head])[:, None]
            for head in range(4)
        ]  # each [B A S D]
        for head in range(4):
            expected = np.linalg.norm(added[head], axis=-1)
            np.testing.assert_allclose(captured.head_norms[layer, :, head], expected, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(
            captured.layer_norms[layer], np.linalg.norm(sum(added), axis=-1), rtol=1e-3, atol=1e-6
        )
    assert len(values) == 3
