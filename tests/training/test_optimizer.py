"""Labels by ordered rules, and what the optimizer does with each."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from radvqa_jax.config import OptimConfig, StageConfig
from radvqa_jax.training.optimizer import label_leaves, logged_schedules, make_optimizer, make_schedule
from radvqa_jax.trees import Flat

NAMES = ["img/head/bias", "img/head/kernel", "llm/w", "llm/w/lora_a", "llm/w/lora_b"]
RULES = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
LABELS = label_leaves(NAMES, StageConfig(train=RULES))
PARAMS: Flat = {name: jnp.full((2, 3), 0.5) for name in NAMES}
GRADS: Flat = {name: jnp.full((2, 3), (-1.0) ** i * (i + 1)) for i, name in enumerate(NAMES)}
PLAIN = OptimConfig(learning_rate=1e-2, clip_norm=0.0)


def update(config: OptimConfig, grads: Flat = GRADS, params: Flat = PARAMS, steps: int = 1) -> Flat:
    """The updates of the last of this many steps with the same gradient."""
    tx = make_optimizer(config, LABELS, total_steps=10)
    state, updates = tx.init(params), params
    for _ in range(steps):
        updates, state = tx.update(grads, state, params)
    return updates


def test_the_first_rule_that_matches_decides() -> None:
    assert LABELS == {
        "img/head/bias": "train:head",
        "img/head/kernel": "train:head",
        "llm/w": "freeze",
        "llm/w/lora_a": "train:lora",
        "llm/w/lora_b": "train:lora",
    }


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (RULES[:2], r"train: 1 of 5 leaves are covered by no rule \(llm/w\)"),
        (
            (("img/.*", "train:x"), ("img/head/.*", "train:y"), (".*", "freeze")),
            r"rules \['img/head/\.\*'\] decide about",
        ),
        (((".*", "freeze"),), "stages.stage2.train: every leaf is frozen. Give a rule"),
        (((".*", "trian:lora"),), "A label is 'freeze' or 'train:<group>', got 'trian:lora'"),
        ((("img/.*", "train:"), (".*", "freeze")), "A label is 'freeze' or 'train:<group>', got 'train:'"),
    ],
)
def test_invalid_rules_are_refused(rules: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_leaves(NAMES, StageConfig(train=rules), what="stages.stage2.train" if len(rules) == 1 else "train")


def test_frozen_leaves_get_exactly_nothing() -> None:
    updates = update(replace(PLAIN, weight_decay=0.1), steps=3)
    assert not np.asarray(updates["llm/w"]).any()
    assert all(np.asarray(updates[name]).all() for name in NAMES if name != "llm/w")


def test_nothing_is_stored_for_frozen_leaves() -> None:
    tx = make_optimizer(PLAIN, LABELS, total_steps=10)
    for params in (PARAMS, {name: leaf for name, leaf in PARAMS.items() if name != "llm/w"}):
        state = tx.init(params)
        moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (2, 3)]
        assert len(moments) == 2 * 4  # two moments for each of four trained leaves
        assert {str(leaf.dtype) for leaf in moments} == {"float32"}
        paths = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(state) if leaf.ndim]
        assert not [path for path in paths if "'llm/w'" in path]


def test_the_first_step_of_adam_is_the_learning_rate_of_the_group() -> None:
    config = replace(PLAIN, group_learning_rates=(("head", 3e-4),))
    updates = update(config)
    for name in NAMES:
        rate = {"train:lora": 1e-2, "train:head": 3e-4, "freeze": 0}[LABELS[name]]
        np.testing.assert_allclose(updates[name], -rate * np.sign(GRADS[name]), rtol=1e-5)


def test_a_rate_for_a_group_that_is_not_trained_is_refused() -> None:
    config = replace(PLAIN, group_learning_rates=(("heads", 3e-4),))
    with pytest.raises(ValueError, match=r"names \['heads'\], but the trained groups are \['head', 'lora'\]"):
        make_optimizer(config, LABELS, total_steps=10)


def test_weight_decay_is_decoupled() -> None:
    zero = {name: jnp.zeros_like(leaf) for name, leaf in GRADS.items()}
    assert not np.asarray(update(PLAIN, zero)["llm/w/lora_a"]).any()
    np.testing.assert_allclose(update(replace(PLAIN, weight_decay=0.1), zero)["llm/w/lora_a"], -1e-2 * 0.1 * 0.5)


def test_clipping_scales_the_whole_gradient() -> None:
    # With a large epsilon Adam's first step is proportional to the gradient.
    config = replace(PLAIN, eps=1e6)
    grads = {name: grad for name, grad in GRADS.items() if LABELS[name] != "freeze"}
    params = {name: PARAMS[name] for name in grads}
    free = update(config, grads, params)
    clipped = update(replace(config, clip_norm=1.0), grads, params)
    norm = float(optax.tree.norm(grads))
    for name in grads:
        np.testing.assert_allclose(clipped[name], np.asarray(free[name]) / norm, rtol=1e-4)
    above = update(replace(config, clip_norm=2 * norm), grads, params)
    np.testing.assert_allclose(above["llm/w/lora_a"], free["llm/w/lora_a"], rtol=1e-5)


def rates(config: OptimConfig, steps: int = 11) -> list[float]:
    schedule = make_schedule(config, 10, learning_rate=config.learning_rate)
    return [float(schedule(step)) for step in range(steps)]


def test_the_constant_schedule_is_constant_after_its_warm_up() -> None:
    assert rates(OptimConfig(learning_rate=1.0)) == [1.0] * 11
    assert rates(OptimConfig(learning_rate=1.0, warmup_steps=4)) == pytest.approx([0, 0.25, 0.5, 0.75, *[1.0] * 7])


def test_the_cosine_ends_at_zero_after_its_warm_up() -> None:
    config = OptimConfig(learning_rate=2.0, schedule="cosine", warmup_steps=2)
    expected = [0, 1.0, *(1 + np.cos(np.pi * np.arange(9) / 8))]
    assert rates(config) == pytest.approx(expected, abs=1e-6)


def test_the_line_ends_at_zero_after_its_warm_up() -> None:
    config = OptimConfig(learning_rate=2.0, schedule="linear", warmup_steps=2)
    assert rates(config) == pytest.approx([0, 1.0, *np.linspace(2, 0, 9)])


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim\.warmup_steps=10 must be below total_steps=10"):
        rates(OptimConfig(warmup_steps=10))


def test_the_schedule_reaches_the_update() -> None:
    config = replace(PLAIN, warmup_steps=2)
    assert not np.asarray(update(config, steps=1)["llm/w/lora_a"]).any()
    np.testing.assert_allclose(np.abs(update(config, steps=2)["llm/w/lora_a"]), 5e-3, rtol=1e-4)
    np.testing.assert_allclose(np.abs(update(config, steps=3)["llm/w/lora_a"]), 1e-2, rtol=1e-4)


def test_the_logged_rate_is_that_of_a_trained_group() -> None:
    """If every group has its own rate, the default rate is not logged."""
    config = replace(PLAIN, group_learning_rates=(("head", 3e-4), ("lora", 1e-3)))
    logged = {name: float(schedule(5)) for name, schedule in logged_schedules(config, LABELS, 10).items()}
    assert logged == pytest.approx({"learning_rate/head": 3e-4, "learning_rate/lora": 1e-3})
    one = replace(config, group_learning_rates=(("head", 3e-4),))
    assert set(logged_schedules(one, LABELS, 10)) == {"learning_rate/head", "learning_rate/lora"}
    assert float(logged_schedules(one, LABELS, 10)["learning_rate/lora"](5)) == pytest.approx(PLAIN.learning_rate)
    alike = replace(config, group_learning_rates=(("head", 3e-4), ("lora", 3e-4)))
    assert {n: float(s(5)) for n, s in logged_schedules(alike, LABELS, 10).items()} == pytest.approx(
        {"learning_rate": 3e-4}
    )
