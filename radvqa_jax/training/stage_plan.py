"""The plan of a stage, before it has weights or data: its steps, devices, leaves and optimizer."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from radvqa_jax import trees
from radvqa_jax.backbones import configured_backbone, make_model
from radvqa_jax.config import Config, LoraConfig, MeshConfig, StageConfig
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.training.base_leaves import adapter_shapes
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.optimizer import label_leaves, logged_schedules, make_optimizer
from radvqa_jax.training.own_devices import own_mesh
from radvqa_jax.training.sharding import make_mesh
from radvqa_jax.training.step import StepOptions
from radvqa_jax.trees import Flat


def count_steps(stage: StageConfig, rows_per_epoch: int) -> int:
    """The number of optimizer steps: `total_steps`, or enough for `epochs` over the rows, at least one."""
    if stage.total_steps:
        return stage.total_steps
    return max(1, math.ceil(stage.epochs * rows_per_epoch / (stage.batch_size * stage.accumulate)))


def mesh_of(config: Config) -> Mesh | None:
    """The configured mesh, None for the one default device."""
    if config.mesh == MeshConfig() and jax.process_count() == 1:
        return None
    return make_mesh(config.mesh)


def answering_mesh(config: Config) -> Mesh | None:
    """The devices that one process answers with: those of `mesh_of`, or its own of them where there are several."""
    mesh = mesh_of(config)
    return mesh if mesh is None or jax.process_count() == 1 else own_mesh(mesh)


def plan_stage(
    name: str,
    config: Config,
    model: VisionLanguageModel,
    labels: Mapping[str, str],
    *,
    rows_per_epoch: int,
) -> Plan:
    """The loop's plan of a stage, given its model and its trainable leaves."""
    stage = config.stages[name]
    total_steps = count_steps(stage, rows_per_epoch)
    return Plan(
        name=name,
        model=model,
        tx=make_optimizer(stage.optim, dict(labels), total_steps),
        options=StepOptions(stage.accumulate, stage.loss_weighting, stage.label_smoothing),
        schedules=logged_schedules(stage.optim, labels, total_steps),
        total_steps=total_steps,
        log_every=stage.log_every,
        save_every=stage.save_every,
        eval_every=stage.eval_every,
        mesh=mesh_of(config),
        wandb=config.wandb,
    )


class AbstractStage(NamedTuple):
    """A stage as shapes: everything that its step takes, without a weight."""

    plan: Plan
    labels: dict[str, str]
    trainable: Flat
    frozen: Flat


def abstract_stage(name: str, config: Config, abstract: Flat, *, rows_per_epoch: int | None = None) -> AbstractStage:
    """The stage that a fresh run of the configuration would train, for leaves of these shapes and dtypes.

    It has the adapters of an earlier stage of the run, if that makes some. Those of an `init_from` are not known.

    Without `rows_per_epoch` a stage that counts in epochs is planned for one step, without its warm-up: its number of
    steps is not known, and the compiled step does not depend on it.
    """
    stage = config.stages[name]
    if rows_per_epoch is None and not stage.total_steps:
        stage = replace(stage, optim=replace(stage.optim, warmup_steps=0))
        config = config.with_stages({name: stage})
    adapters = lora_lib.resolve(_lora_of(name, config), abstract, configured_backbone(config.model).equations)
    leaves = abstract | adapter_shapes(adapters, abstract)
    labels = label_leaves(leaves, stage, what=f"stages.{name}.train")
    plan = plan_stage(name, config, make_model(config.model, adapters), labels, rows_per_epoch=rows_per_epoch or 1)
    return AbstractStage(plan, labels, *trees.split(leaves, labels))


def _lora_of(name: str, config: Config) -> LoraConfig:
    """The adapters that a stage computes with: its own, or those with which it starts, with its own dropout."""
    own = config.stages[name].lora
    for before in reversed(config.stage_names[: config.stage_names.index(name) + 1]):
        stage = config.stages[before]
        if stage.lora.rank or stage.init_from:
            return replace(stage.lora, dropout=own.dropout)
    return own
