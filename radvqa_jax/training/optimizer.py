"""The leaves that train, and the optax transformation that trains them."""

from collections.abc import Iterable, Mapping
from typing import Any

import optax

from radvqa_jax.config import OptimConfig, StageConfig
from radvqa_jax.trees import FREEZE, TRAIN, apply_rules, is_trained


def label_leaves(names: Iterable[str], stage: StageConfig, *, what: str = "train") -> dict[str, str]:
    """{name: 'train:<group>' or 'freeze'} by the stage's ordered rules, for base leaves and adapters.

    Raises:
        ValueError: for an uncovered leaf, an idle rule, an unknown label, or if nothing is trained.
    """
    labels = apply_rules(names, stage.train, what=what)
    if not any([is_trained(label) for label in labels.values()]):
        raise ValueError(f"{what}: every leaf is frozen. Give a rule with a label such as 'train:head'.")
    return labels


def make_schedule(config: OptimConfig, total_steps: int, *, learning_rate: float) -> optax.Schedule:
    """Step -> rate: linear warm-up from 0, then constant, or falling to 0 at `total_steps`."""
    warmup = config.warmup_steps
    if warmup >= total_steps:
        raise ValueError(f"optim.warmup_steps={warmup} must be below total_steps={total_steps}.")
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, total_steps - warmup)
    elif config.schedule == "linear":
        after = optax.linear_schedule(learning_rate, 0.0, total_steps - warmup)
    else:
        after = optax.constant_schedule(learning_rate)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])


def group_schedules(config: OptimConfig, labels: Mapping[str, str], total_steps: int) -> dict[str, optax.Schedule]:
    """{group: its schedule} for every group that is trained.

    Raises:
        ValueError: if `group_learning_rates` names a group that is not trained.
    """
    rates = dict(config.group_learning_rates)
    groups = sorted({label.removeprefix(TRAIN) for label in labels.values() if is_trained(label)})
    if unknown := sorted(set(rates) - set(groups)):
        raise ValueError(f"optim.group_learning_rates names {unknown}, but the trained groups are {groups}.")
    return {
        group: make_schedule(config, total_steps, learning_rate=rates.get(group, config.learning_rate))
        for group in groups
    }


def logged_schedules(config: OptimConfig, labels: Mapping[str, str], total_steps: int) -> dict[str, optax.Schedule]:
    """{name of the scalar: schedule} of the learning rates that a run logs.

    It is `learning_rate` if all groups share one, otherwise `learning_rate/<group>` for each.
    """
    schedules = group_schedules(config, labels, total_steps)
    rates = {dict(config.group_learning_rates).get(group, config.learning_rate) for group in schedules}
    if len(rates) == 1:
        return {"learning_rate": next(iter(schedules.values()))}
    return {f"learning_rate/{group}": schedule for group, schedule in schedules.items()}


def make_optimizer(config: OptimConfig, labels: dict[str, str], total_steps: int) -> optax.GradientTransformation:
    """The transformation for a flat tree whose leaves are labelled.

    Each group has its own learning rate (`group_learning_rates`); frozen leaves get exactly zero. The tree may hold all
    labelled leaves or only the trainable ones: nothing is stored for an absent leaf. The gradient is clipped by its
    norm over all given leaves, so give only the trainable ones.
    """

    def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(schedule, config.b1, config.b2, config.eps, weight_decay=config.weight_decay)

    schedules = group_schedules(config, labels, total_steps)
    transforms: dict[Any, optax.GradientTransformation] = {f"{TRAIN}{g}": adam(s) for g, s in schedules.items()}
    transforms[FREEZE] = optax.set_to_zero()
    by_label = optax.partition(transforms, lambda tree: {name: labels[name] for name in tree})
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, by_label)
