"""Which leaves train, and the optax transformation that trains them."""

from collections.abc import Iterable
from typing import Any

import optax

from radvqa_jax.config import OptimConfig, StageConfig
from radvqa_jax.trees import FREEZE, TRAIN, apply_rules, is_trained


def label_leaves(names: Iterable[str], stage: StageConfig, *, what: str = "train") -> dict[str, str]:
    """Returns {name: 'train:<group>' or 'freeze'} by the stage's ordered rules, for base leaves and adapters.

    Raises:
        ValueError: for an uncovered leaf, an idle rule, an unknown label, or if nothing is trained.
    """
    labels = apply_rules(names, stage.train, what=what)
    if not any([is_trained(label) for label in labels.values()]):
        raise ValueError(f"{what}: every leaf is frozen. Give a rule with a label such as 'train:head'.")
    return labels


def make_schedule(config: OptimConfig, total_steps: int, *, learning_rate: float) -> optax.Schedule:
    """Returns step -> learning rate: linear warm-up from 0, then constant, or a cosine to 0 at `total_steps`."""
    warmup = config.warmup_steps
    if warmup >= total_steps:
        raise ValueError(f"optim.warmup_steps={warmup} must be below total_steps={total_steps}.")
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, total_steps - warmup)
    else:
        after = optax.constant_schedule(learning_rate)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])


def make_optimizer(config: OptimConfig, labels: dict[str, str], total_steps: int) -> optax.GradientTransformation:
    """Returns the transformation for a flat tree whose leaves are labelled.

    Each group has its own learning rate (`group_learning_rates`); frozen leaves get exactly zero. The tree may hold all
    labelled leaves or only the trainable ones: nothing is stored for a leaf that is not there. The gradient is clipped
    by its norm over all leaves given, so give the trainable ones only.
    """
    rates = dict(config.group_learning_rates)
    groups = sorted({label.removeprefix(TRAIN) for label in labels.values() if is_trained(label)})
    unknown = sorted(set(rates) - set(groups))
    if unknown:
        raise ValueError(f"optim.group_learning_rates names {unknown}, but the trained groups are {groups}.")

    def adam(group: str) -> optax.GradientTransformation:
        schedule = make_schedule(config, total_steps, learning_rate=rates.get(group, config.learning_rate))
        return optax.adamw(schedule, config.b1, config.b2, config.eps, weight_decay=config.weight_decay)

    transforms: dict[Any, optax.GradientTransformation] = {f"{TRAIN}{group}": adam(group) for group in groups}
    transforms[FREEZE] = optax.set_to_zero()
    by_label = optax.partition(transforms, lambda tree: {name: labels[name] for name in tree})
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, by_label)
