"""The step: the leaves that it changes and does not change, accumulation, weighting and padding rows."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import LoraConfig, OptimConfig, StageConfig
from radvqa_jax.models import lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch, TrainState
from radvqa_jax.training.loss import example_loss, token_loss
from radvqa_jax.training.optimizer import label_leaves, make_optimizer
from radvqa_jax.training.step import StepOptions, init_state, loss_and_grads, train_step
from radvqa_jax.trees import Flat, split

DUMMY = VARIANTS["dummy"]
PARAMS = fake_params(DUMMY)
KEY = jax.random.key(0)
HEAD = ((r"img/head/.*", "train:head"), (".*", "freeze"))
ADAPTERS = ((r".*/lora_[ab]", "train:lora"), (".*", "freeze"))
EVERYTHING = LoraConfig(rank=2, alpha=5.0, targets=((".*", "lora"),))
BATCH = jax.tree.map(jnp.asarray, Batch.fake(8, 8, 8, seed=3))._replace(mask_example=jnp.arange(8) < 6)


class Setup:
    """A stage ready to step: model, labels, leaves and optimizer."""

    def __init__(self, rules: tuple[tuple[str, str], ...], adapters: LoraConfig | None = None, **optim: Any) -> None:
        described = lora.resolve(adapters, PARAMS, PALIGEMMA.equations) if adapters else None
        self.model = PaliGemma(DUMMY, described)
        self.leaves = dict(PARAMS) | (lora.init(jax.random.key(1), described, PARAMS) if described else {})
        self.labels = label_leaves(self.leaves, StageConfig(train=rules))
        self.trainable, self.frozen = split(self.leaves, self.labels)
        self.tx = make_optimizer(OptimConfig(**({"learning_rate": 1e-2} | optim)), self.labels, total_steps=100)

    def state(self) -> TrainState:
        return init_state(self.trainable, self.tx)

    def step(self, state: TrainState, batch: Batch = BATCH, **options: Any) -> tuple[TrainState, dict[str, Any]]:
        options = StepOptions(**options)
        return train_step(state, self.frozen, batch, KEY, model=self.model, tx=self.tx, options=options)


@partial(jax.jit, static_argnames=("model", "options"))
def grads_of(trainable: Flat, frozen: Flat, batch: Batch, *, model: PaliGemma, options: StepOptions) -> Any:
    return loss_and_grads(trainable, frozen, batch, KEY, model=model, options=options)


@pytest.fixture(scope="module")
def head() -> Setup:
    return Setup(HEAD)


@pytest.fixture(scope="module")
def adapted() -> Setup:
    return Setup(ADAPTERS, EVERYTHING)


@pytest.mark.parametrize("weighting", ["per_example", "per_token"])
def test_accumulation_does_not_change_the_loss_or_its_gradient(head: Setup, weighting: str) -> None:
    targets = np.asarray(BATCH.mask_loss)[:, 1:].sum(axis=1)
    assert len(set(targets[:6].tolist())) > 2  # rows with different numbers of targets
    results = {}
    for accumulate in (1, 4, 8):
        options = StepOptions(accumulate, weighting, 0.1)
        results[accumulate] = grads_of(head.trainable, head.frozen, BATCH, model=head.model, options=options)
    loss, grads = results[1]
    for other_loss, other_grads in (results[4], results[8]):
        assert float(other_loss) == pytest.approx(float(loss), rel=1e-5)
        for name, grad in grads.items():
            np.testing.assert_allclose(other_grads[name], grad, rtol=1e-3, atol=1e-6)


def test_no_policy_and_no_split_of_the_batch_changes_loss_gradient_or_dropout() -> None:
    adapted = Setup(ADAPTERS, replace(EVERYTHING, dropout=0.3))
    noise = jax.random.normal(jax.random.key(5), (4096,))  # lora_b begins at zero
    trainable = {n: leaf + 0.1 * noise[: leaf.size].reshape(leaf.shape) for n, leaf in adapted.trainable.items()}
    results = []
    for accumulate, remat in ((1, "none"), (2, "gate"), (8, "products")):
        model = replace(adapted.model, remat=remat)
        results.append(grads_of(trainable, adapted.frozen, BATCH, model=model, options=StepOptions(accumulate)))
    for loss, grads in results[1:]:
        assert float(loss) == pytest.approx(float(results[0][0]), rel=1e-5)
        for name, grad in results[0][1].items():
            np.testing.assert_allclose(grads[name], grad, atol=1e-6 + 1e-4 * np.abs(grad).max(), err_msg=name)
    assert min(np.abs(grad).max() for grad in results[0][1].values()) > 1e-5
    whole = replace(adapted.model, lora=replace(adapted.model.lora, dropout=0.0))
    undropped, _ = grads_of(trainable, adapted.frozen, BATCH, model=whole, options=StepOptions())
    assert abs(float(undropped) - float(results[0][0])) > 1e-3  # dropout is in use


def test_the_loss_is_the_mean_over_real_rows_or_over_their_tokens(head: Setup) -> None:
    logits = jax.jit(PaliGemma(DUMMY).apply)(
        variables(PARAMS), BATCH.image, BATCH.tokens[:, :-1], BATCH.mask_ar[:, :-1]
    )
    loss, mask = token_loss(logits, BATCH.tokens[:, 1:]), BATCH.mask_loss[:, 1:]
    rows = np.asarray(example_loss(loss, mask))[:6]
    tokens = np.asarray(loss)[:6][np.asarray(mask)[:6] == 1]
    for weighting, expected in (("per_example", rows.mean()), ("per_token", tokens.mean())):
        options = StepOptions(1, weighting)
        found, _ = grads_of(head.trainable, head.frozen, BATCH, model=head.model, options=options)
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert rows.mean() != pytest.approx(tokens.mean(), rel=1e-3)


def test_padding_rows_and_positions_without_a_target_do_not_count(head: Setup) -> None:
    options = StepOptions(4)
    loss, grads = grads_of(head.trainable, head.frozen, BATCH, model=head.model, options=options)
    filler = (jnp.arange(8) >= 6)[:, None]
    padding = BATCH.mask_input == 0
    other = BATCH._replace(
        image=jnp.where(filler[..., None, None], 0.7, BATCH.image),
        tokens=jnp.where(filler | padding, 33, BATCH.tokens),
        mask_loss=jnp.where(filler, 1, BATCH.mask_loss),
    )
    other_loss, other_grads = grads_of(head.trainable, head.frozen, other, model=head.model, options=options)
    assert float(other_loss) == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(other_grads["img/head/kernel"], grads["img/head/kernel"], rtol=1e-4, atol=1e-7)


def test_a_batch_that_cannot_be_cut_is_refused(head: Setup) -> None:
    with pytest.raises(ValueError, match="A batch of 8 rows cannot be cut into accumulate=3 parts"):
        head.step(head.state(), accumulate=3)


def test_label_smoothing_reaches_the_loss(head: Setup) -> None:
    plain, _ = grads_of(head.trainable, head.frozen, BATCH, model=head.model, options=StepOptions())
    smooth, _ = grads_of(
        head.trainable, head.frozen, BATCH, model=head.model, options=StepOptions(1, "per_example", 0.3)
    )
    assert abs(float(plain) - float(smooth)) > 1e-2


def test_stage_one_trains_the_projector_and_nothing_else(head: Setup) -> None:
    before = {name: np.array(leaf) for name, leaf in head.leaves.items()}
    state = head.state()
    assert set(state.trainable) == {"img/head/kernel", "img/head/bias"}
    for _ in range(3):
        state, metrics = head.step(state, accumulate=4)
    assert int(state.step) == 3
    for name, leaf in state.trainable.items():
        assert np.abs(leaf - before[name]).max() > 1e-3
        # The leaves that the state was made from are not donated with it.
        np.testing.assert_array_equal(head.trainable[name], before[name])
    for name, leaf in head.frozen.items():
        assert np.asarray(leaf).tobytes() == before[name].tobytes(), name
    assert sorted(metrics) == ["grad_norm", "loss", "text_positions", "update_norm"]
    assert float(metrics["text_positions"]) == 8


def test_frozen_leaves_are_in_no_optimizer_state(adapted: Setup) -> None:
    paths = jax.tree_util.tree_leaves_with_path(adapted.state().opt_state)
    held = [jax.tree_util.keystr(path) for path, leaf in paths if leaf.ndim]
    assert len(held) == 2 * len(adapted.trainable)
    assert all("lora_" in path for path in held)
    assert len(adapted.trainable) == 2 * 12


def test_every_adapter_has_a_gradient_by_step_two(adapted: Setup) -> None:
    options = StepOptions(2)
    state = adapted.state()
    for step in (1, 2):
        _, grads = grads_of(state.trainable, adapted.frozen, BATCH, model=adapted.model, options=options)
        for name, grad in grads.items():
            # At step 1 lora_b is zero, so lora_a has no gradient. A bias of keys would never have one; weights do.
            if step == 1 and name.endswith("lora_a"):
                assert not np.asarray(grad).any(), name
            else:
                assert np.abs(grad).max() > 1e-7, (step, name)
        state, _ = adapted.step(state, accumulate=2)


def test_adapters_train_on_an_untouched_base(adapted: Setup) -> None:
    before = {name: np.array(leaf) for name, leaf in adapted.frozen.items()}
    assert set(before) == set(PARAMS)
    state, losses = adapted.state(), []
    for _ in range(25):
        state, metrics = adapted.step(state, accumulate=2)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3
    for name, leaf in adapted.frozen.items():
        assert np.asarray(leaf).tobytes() == before[name].tobytes(), name
    assert {str(leaf.dtype) for leaf in state.trainable.values()} == {"float32"}


def test_norms_are_over_trained_leaves(head: Setup) -> None:
    _, grads = grads_of(head.trainable, head.frozen, BATCH, model=head.model, options=StepOptions())
    state = head.state()
    before = {name: np.array(leaf) for name, leaf in state.trainable.items()}
    state, metrics = head.step(state)
    assert set(grads) == set(head.trainable)
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)
    moved = np.sqrt(sum(((np.asarray(state.trainable[name]) - before[name]) ** 2).sum() for name in before))
    assert float(metrics["update_norm"]) == pytest.approx(moved, rel=1e-3)


def flops(setup: Setup) -> float:
    arguments = setup.state(), setup.frozen, BATCH, KEY
    lowered = train_step.lower(*arguments, model=setup.model, tx=setup.tx, options=StepOptions())
    return lowered.compile().cost_analysis()["flops"]


def test_frozen_gradients_are_not_computed(head: Setup) -> None:
    assert flops(head) < 0.8 * flops(Setup(((".*", "train:all"),)))


def test_frozen_leaves_are_used_in_their_own_dtype(head: Setup) -> None:
    # An integer leaf cannot be differentiated: the step may only read it.
    scale = "llm/final_norm/scale"
    frozen = {name: leaf.astype(jnp.bfloat16) for name, leaf in head.frozen.items()}
    frozen[scale] = jnp.ones_like(frozen[scale], jnp.int8)
    state, metrics = train_step(
        head.state(), frozen, BATCH, KEY, model=head.model, tx=head.tx, options=StepOptions(accumulate=2)
    )
    assert np.isfinite(float(metrics["loss"]))
    assert {str(leaf.dtype) for leaf in state.trainable.values()} == {"float32"}
    assert {str(leaf.dtype) for leaf in frozen.values()} == {"bfloat16", "int8"}


def test_half_precision_compute_keeps_float32_leaves_and_gradients(adapted: Setup) -> None:
    model = replace(adapted.model, dtype=jnp.bfloat16)
    frozen = {name: leaf.astype(jnp.bfloat16) for name, leaf in adapted.frozen.items()}
    loss, grads = grads_of(adapted.trainable, frozen, BATCH, model=model, options=StepOptions(4))
    exact, _ = grads_of(adapted.trainable, adapted.frozen, BATCH, model=adapted.model, options=StepOptions(4))
    assert {str(leaf.dtype) for leaf in (loss, *grads.values())} == {"float32"}
    assert float(loss) == pytest.approx(float(exact), rel=0.05)


def test_dropout_is_drawn_again_at_every_step() -> None:
    setup = Setup(ADAPTERS, replace(EVERYTHING, dropout=0.5))
    keys = jax.random.split(jax.random.key(9), len(setup.trainable))
    random = {n: jax.random.normal(key, setup.trainable[n].shape) for n, key in zip(setup.trainable, keys, strict=True)}

    def loss(step: int) -> float:
        state = init_state(random, setup.tx)._replace(step=jnp.asarray(step, jnp.int32))
        return float(setup.step(state, accumulate=2)[1]["loss"])

    assert loss(4) == loss(4)
    assert abs(loss(4) - loss(5)) > 1e-4


def test_a_state_starts_as_float32_copies() -> None:
    leaf = jnp.ones((2, 2), jnp.bfloat16)
    state = init_state({"a": leaf, "b": jnp.ones(3)}, optax.sgd(1.0))
    assert {str(x.dtype) for x in state.trainable.values()} == {"float32"}
    assert int(state.step) == 0
