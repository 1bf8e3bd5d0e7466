"""The whole model: which tokens read which, padding, half precision, remat and the tap."""

from dataclasses import replace
from functools import cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from radvqa_jax.backbones import fake_params, make_model
from radvqa_jax.config import ModelConfig
from radvqa_jax.models.attention import TAPS
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.loss import token_loss

DUMMY = VARIANTS["dummy"]
PATCHES = DUMMY.num_patches
PREFIX, LENGTH = 3, 8  # text positions 0-2 are prefix, 3-5 suffix, 6-7 padding
MASK_AR = jnp.array([[0, 0, 0, 1, 1, 1, 1, 1]])
TOKENS = jnp.array([[2, 11, 12, 21, 22, 1, 0, 0]])
IMAGE = jax.random.uniform(jax.random.key(3), (1, 8, 8, 3), minval=-1)
PARAMS = fake_params(DUMMY)


@cache
def forward(model: PaliGemma) -> Any:
    """The compiled teacher-forced pass; one compilation a model."""
    return jax.jit(model.apply)


@jax.jit
def run(image: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(logits [1 T V], what the first image token reads in the last layer [N S])."""
    logits, taps = PaliGemma(DUMMY).apply(variables(PARAMS), image, tokens, MASK_AR, mutable=[TAPS])
    return logits, taps[TAPS]["llm"]["layers"]["attn"]["attn_probs"][-1, 0, :, 0]


def changed(token: int) -> tuple[np.ndarray, bool]:
    """A mask of the logits [T] that change with one text token, and whether the first image token's state does."""
    before, state_before = run(IMAGE, TOKENS)
    after, state_after = run(IMAGE, TOKENS.at[0, token].set(33))
    return np.abs(after - before).max(axis=(0, 2)) > 0, bool(np.abs(state_after - state_before).max() > 0)


@pytest.mark.parametrize("token", range(PREFIX))
def test_the_prefix_is_read_by_everyone_even_by_the_first_image_token(token: int) -> None:
    logits, first_image_token = changed(token)
    assert logits.all()
    assert first_image_token


@pytest.mark.parametrize("token", range(PREFIX, LENGTH))
def test_a_suffix_token_or_padding_is_read_by_itself_and_later_ones_only(token: int) -> None:
    logits, first_image_token = changed(token)
    assert logits.tolist() == [False] * token + [True] * (LENGTH - token)
    assert not first_image_token


def test_causality_holds_for_gradients_too() -> None:
    def logit(embedding: jax.Array, position: int) -> jax.Array:
        params = PARAMS | {"llm/embedder/input_embedding": embedding}
        states = PaliGemma(DUMMY).apply(variables(params), IMAGE, TOKENS, MASK_AR, method="pre_logits")
        return states[0, position].sum()

    grad = jax.jit(jax.grad(logit), static_argnums=1)
    table = PARAMS["llm/embedder/input_embedding"]
    norms = {at: np.linalg.norm(grad(table, at)[TOKENS[0]], axis=-1) for at in (0, 4)}
    assert (norms[0][:PREFIX] > 1e-4).all()  # the first token reads the whole prefix
    assert (norms[0][PREFIX:] == 0).all()
    assert (norms[4][:5] > 1e-4).all()
    assert (norms[4][5:] == 0).all()


def test_the_image_is_read_by_every_token() -> None:
    before, _ = run(IMAGE, TOKENS)
    after, _ = run(IMAGE.at[0, 7, 7].add(0.5), TOKENS)
    assert (np.abs(after - before).max(axis=(0, 2)) > 1e-4).all()


def test_padding_does_not_change_logits() -> None:
    padded, _ = run(IMAGE, TOKENS)
    short = forward(PaliGemma(DUMMY))(variables(PARAMS), IMAGE, TOKENS[:, :6], MASK_AR[:, :6])
    np.testing.assert_allclose(short, padded[:, :6], atol=1e-5)


def test_rows_of_a_batch_do_not_mix() -> None:
    batch = jax.tree.map(jnp.asarray, Batch.fake(3, 8, 7))
    together = forward(PaliGemma(DUMMY))(variables(PARAMS), batch.image, batch.tokens, batch.mask_ar)
    order = jnp.array([2, 0, 1])
    shuffled = forward(PaliGemma(DUMMY))(
        variables(PARAMS), batch.image[order], batch.tokens[order], batch.mask_ar[order]
    )
    np.testing.assert_allclose(shuffled, together[order], atol=1e-6)


def loss_of(model: PaliGemma, params: dict[str, Any]) -> jax.Array:
    logits = model.apply(variables(params), IMAGE, TOKENS[:, :-1], MASK_AR[:, :-1])
    return token_loss(logits, TOKENS[:, 1:]).sum()


@pytest.mark.slow
def test_remat_gives_the_same_gradients_and_is_in_use() -> None:
    grads, recomputed = {}, {}
    for remat in get_args(Remat):
        grad = jax.jit(jax.grad(partial(loss_of, PaliGemma(DUMMY, remat=remat)))).trace(PARAMS)
        recomputed[remat] = str(grad.jaxpr).count("dot_general")
        grads[remat] = grad.lower().compile()(PARAMS)
    for remat in get_args(Remat)[1:]:
        for name, grad in grads["none"].items():
            noise = 1e-7 * optax.tree.norm(grads["none"])  # the gradient of the keys' bias is only this noise
            assert jnp.linalg.norm(grads[remat][name] - grad) < 1e-5 * jnp.linalg.norm(grad) + noise, name
    counts = [recomputed[remat] for remat in ("none", "products", "gate", "attention", "full")]
    assert counts == sorted(set(counts))


def test_layers_without_a_loop_give_the_same_gradients() -> None:
    grads, loops = {}, {}
    for unroll in (1, 2):
        compiled = jax.jit(jax.grad(partial(loss_of, PaliGemma(DUMMY, unroll=unroll)))).lower(PARAMS).compile()
        grads[unroll], loops[unroll] = compiled(PARAMS), compiled.as_text().count(" while(")
    noise = 1e-7 * optax.tree.norm(grads[1])
    for name, grad in grads[1].items():
        assert jnp.linalg.norm(grads[2][name] - grad) < 1e-5 * jnp.linalg.norm(grad) + noise, name
    assert loops[1] == loops[2] + 4  # forward and backward, in both towers


@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_half_precision_computes_near_float32(param_dtype: Any) -> None:
    params = {name: leaf.astype(param_dtype) for name, leaf in PARAMS.items()}
    exact = {name: leaf.astype(jnp.float32) for name, leaf in params.items()}
    full = forward(PaliGemma(DUMMY))(variables(exact), IMAGE, TOKENS, MASK_AR)
    half = PaliGemma(DUMMY, dtype=jnp.bfloat16)
    logits, taps = jax.jit(partial(half.apply, mutable=[TAPS]))(variables(params), IMAGE, TOKENS, MASK_AR)
    assert logits.dtype == jnp.float32
    for tower in (taps[TAPS]["llm"]["layers"]["attn"], taps[TAPS]["img"]["Transformer"]["encoderblock"]):
        (probs,) = jax.tree.leaves(tower)
        assert probs.dtype == jnp.float32
        np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
    image_tokens = jax.eval_shape(partial(half.apply, method="embed_image"), variables(params), IMAGE)
    assert image_tokens.dtype == jnp.bfloat16
    error = np.linalg.norm(logits - full) / np.linalg.norm(full)
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize(("remat", "unroll"), [("none", 1), ("full", 1), ("none", 2)])
def test_the_tap_records_every_layer_and_changes_nothing(remat: Any, unroll: int) -> None:
    model = PaliGemma(replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=2)), remat=remat, unroll=unroll)
    params = variables(fake_params(model.variant))
    closed = forward(model)(params, IMAGE, TOKENS, MASK_AR)
    logits, taps = jax.jit(partial(model.apply, mutable=[TAPS]))(params, IMAGE, TOKENS, MASK_AR)
    np.testing.assert_array_equal(logits, closed)
    text = np.asarray(taps[TAPS]["llm"]["layers"]["attn"]["attn_probs"])
    vision = taps[TAPS]["img"]["Transformer"]["encoderblock"]["MultiHeadDotProductAttention_0"]["attn_probs"]
    assert text.shape == (2, 1, 4, PATCHES + LENGTH, PATCHES + LENGTH)
    assert vision.shape == (2, 1, 2, PATCHES, PATCHES)
    np.testing.assert_allclose(text.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(np.asarray(vision).sum(-1), 1, atol=1e-6)
    prefix = PATCHES + PREFIX
    assert (text[..., :prefix, :prefix] > 0).all()
    assert (text[..., :prefix, prefix:] == 0).all()
    later = np.triu(np.ones((LENGTH - PREFIX, LENGTH - PREFIX), bool), 1)
    assert (text[..., prefix:, prefix:][..., later] == 0).all()


def test_a_configuration_becomes_a_model() -> None:
    config = ModelConfig(
        variant="dummy", resolution=16, compute_dtype="bfloat16", remat="gate", attention="xla", unroll=2
    )
    model = make_model(config)
    assert model.variant == DUMMY.at(16)
    assert (model.dtype, model.remat, model.remat_img, model.lora) == (jnp.bfloat16, "gate", None, None)
    assert model.unroll == 2
    assert make_model(replace(config, remat_img="none")).remat_img == "none"
    # Before a stage chooses, and without training, the embedded model computes whole and a large one by blocks.
    answering = [make_model(ModelConfig(variant=name)).remat for name in ("tiny", "paligemma-3b-448")]
    assert answering == ["none", "blocks"]
