"""The mode that computes in advance whether an experiment fits a device, and how fast it can be."""

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from radvqa_jax.backbones import backbone_of, make_model
from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.config.check import check_field, from_config_dict
from radvqa_jax.config.experiment_file import change_field, load_experiment
from radvqa_jax.decoding.decode import decode
from radvqa_jax.files import write_json
from radvqa_jax.models.variants import get_variant
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.planning import fit, fit_report
from radvqa_jax.planning.choosing_here import argument_bytes, rank_for
from radvqa_jax.planning.devices import GIB
from radvqa_jax.planning.frontier import Frontier, find_frontier, format_frontier
from radvqa_jax.planning.minimum import minimum_step_flops
from radvqa_jax.planning.step_program import batch_shapes, key_shape, refused, shaped, step_shapes
from radvqa_jax.planning.targets import Target, open_target
from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.rollout import RolloutOptions, rollout_maps
from radvqa_jax.schema import Batch
from radvqa_jax.training import sharding
from radvqa_jax.training.base_leaves import base_shapes
from radvqa_jax.training.stage_plan import abstract_stage
from radvqa_jax.training.step import step_on
from radvqa_jax.training.way import AUTO, Way
from radvqa_jax.trees import Flat


def read_experiment(path: str, override: tuple[str, ...] = ()) -> Config:
    """The configuration of a file in configs/, with the changes of `override`, each as field=value.

    Raises:
        ValueError: if there is no such file, it is not a configuration, or a field or its value is not valid.
    """
    config = load_experiment(path)
    for entry in override:
        name = entry.partition("=")[0]
        if name.startswith("mesh."):
            raise ValueError(f"fit.override has {entry!r}, but the mesh is this mode's own: give --config.{entry}.")
        if "=" in entry:
            check_field(name)
        change_field(config, entry, what="fit.override")
    return from_config_dict(config)


def fit_mode(config: Config, workdir: Path) -> None:
    """Compiles the experiment's programs for the target, prints their needs and writes them to fit.json."""
    target = open_target(config.target)
    mesh = sharding.make_mesh(config.mesh, target.devices)
    experiment = spread(read_experiment(config.experiment, config.fit.override), mesh)
    experiment = dataclasses.replace(experiment, fit=config.fit)
    patch = get_variant(experiment.model.variant).img.patch
    if unfit := [resolution for resolution in config.fit.resolutions if resolution % patch]:
        raise ValueError(f"fit.resolutions: {unfit[0]} must be a multiple of the patch size {patch}.")
    frozen = base_shapes(experiment, experiment.stage_names)
    frontiers, fitted = [], []
    for name in experiment.stage_names:
        if experiment.model.remat == AUTO:
            frontiers.append(find_way(experiment, mesh, target, name, frozen))
            fitted += [f for way, f in frontiers[-1].compiled.items() if way == frontiers[-1].choice.way]
        else:
            fitted.append(fit.compile_program(step_program(experiment, mesh, name), target, frozen=frozen))
    for program in programs(experiment, mesh, samples=config.fit.samples, new_tokens=config.fit.new_tokens):
        fitted.append(fit.compile_program(program, target, frozen=frozen))
        print(f"compiled {program.name} in {fitted[-1].compile_seconds:.0f} s", flush=True)
    batches = []
    if target.memory is not None:
        batches = [
            search(experiment, mesh, target, name, resolution)
            for name in experiment.stage_names
            for resolution in config.fit.resolutions
        ]
    report = fit_report.to_json(target, fitted, batches) | {"frontiers": [found.to_json() for found in frontiers]}
    write_json(workdir / "fit.json", report, private=False)
    print(fit_report.format_fit(target, fitted, batches, [line for f in frontiers for line in format_frontier(f)]))
    print(f"The same as JSON: {workdir / 'fit.json'}")


def spread(config: Config, mesh: Mesh) -> Config:
    """The experiment, with parts of a batch merged if the mesh cannot cut them, and a message about it."""
    for name in config.stage_names:
        stage = config.stages[name]
        way = sharding.spread(mesh, stage.batch_size, stage.accumulate)
        if way is not None and way != (stage.batch_size, stage.accumulate):
            print(
                f"{name}: parts of {stage.batch_size} examples cannot be cut over the devices; planned with "
                f"stages.{name}.batch_size={way[0]} and stages.{name}.accumulate={way[1]}, the same examples a step. "
                "Train so."
            )
            planned = dataclasses.replace(stage, batch_size=way[0], accumulate=way[1])
            config = config.with_stages({name: planned})
    return config


def search(config: Config, mesh: Mesh, target: Target, name: str, resolution: int) -> dict[str, Any]:
    """The largest batch_size with which a stage fits at a resolution."""
    tried: list[int] = []

    def peak_of(batch_size: int) -> int:
        tried.append(batch_size)
        stage = dataclasses.replace(config.stages[name], batch_size=batch_size)
        model = dataclasses.replace(config.model, resolution=resolution)
        changed = dataclasses.replace(config, model=model).with_stages({name: stage})
        return fit.compile_program(step_program(changed, mesh, name), target).peak

    assert target.memory is not None
    share = mesh.shape["data"] * mesh.shape["fsdp"]
    batch_size, peak = fit.largest_batch(peak_of, target.memory, step=share)
    print(f"{name} at {resolution} px: at most {batch_size} examples at a time", flush=True)
    row = {"name": name, "resolution": resolution, "batch_size": batch_size, "peak": peak}
    return row | {"compilations": len(tried), "accumulate": config.stages[name].accumulate}


def step_program(config: Config, mesh: Mesh | None, name: str) -> fit.Program:
    """The training step of a stage, as the loop calls it; without a mesh for the one default device."""
    stage, seq_len, lengths = config.stages[name], config.data.seq_len, tuple(sorted(config.fit.text_lengths))
    planned = abstract_stage(name, config, base_shapes(config, (name,)))
    rows = stage.batch_size * stage.accumulate
    if mesh is not None:
        sharding.check_rows(mesh, rows, accumulate=stage.accumulate)
    args = step_shapes(planned.plan, planned.trainable, planned.frozen, mesh, rows=rows, seq_len=seq_len)
    longest = lengths[-1] if lengths else seq_len
    leaves, trained = planned.trainable | planned.frozen, planned.trainable.keys()
    least = minimum_step_flops(planned.plan.model.variant, leaves, trained, rows=rows, seq_len=longest)
    options = planned.plan.options._replace(text_lengths=lengths)
    static = {"model": planned.plan.model, "tx": planned.plan.tx, "options": options}
    return fit.Program(
        f"{name}: training step",
        step_on(mesh, args[0], backbone_of(planned.plan.model.variant).sharding),
        args,
        static,
        rows,
        minimum_flops=least,
    )


def with_way(config: Config, name: str, way: Way) -> Config:
    """The experiment with a stage's step computed in this way."""
    model = dataclasses.replace(config.model, remat=way.remat, remat_img=way.remat_img)
    stage = dataclasses.replace(config.stages[name], batch_size=way.batch_size, accumulate=way.accumulate)
    return dataclasses.replace(config, model=model).with_stages({name: stage})


def find_way(config: Config, mesh: Mesh, target: Target, name: str, frozen: Flat) -> Frontier:
    """The ways of computing a stage's step on the target, and the chosen one."""
    planned = abstract_stage(name, config, base_shapes(config, (name,)))
    program = step_program(config, mesh, name)
    candidates = rank_for(config, planned.plan, program.args, mesh=mesh, known=target.device)
    room = int((1 - config.model.memory_reserve) * target.memory) if target.memory is not None else sys.maxsize

    def fitted_of(way: Way) -> fit.Fitted | None:
        found: fit.Fitted | None = None
        with refused():
            found = fit.compile_program(step_program(with_way(config, name, way), mesh, name), target, frozen=frozen)
        told = "is refused by the compiler" if found is None else f"takes {found.peak / GIB:.2f} GiB"
        print(f"{name}: {way} {told}", flush=True)
        return found

    arguments = argument_bytes(program.args, mesh)
    return find_frontier(name, candidates, fitted_of, arguments=arguments, room=room, whole=config.fit.frontier)


def programs(config: Config, mesh: Mesh | None, *, samples: int, new_tokens: int) -> Iterator[fit.Program]:
    """Yields the programs for one image: prefill, answers, and attention maps by the last stage, or by the base."""
    if mesh is not None and mesh.size > 1 and config.model.attention == "splash":
        print("answers and maps: planned with model.attention=blocks; splash cannot compute one image on several.")
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, attention="blocks"))
    model, leaves = _answering_model(config, mesh)
    resolution = get_variant(config.model.variant).at(config.model.resolution).resolution
    prompt = batch_shapes(mesh, 1, resolution, config.data.seq_len - 1)
    yield fit.Program("prefill, 1 image", jax.jit(partial(_prefill, model, new_tokens)), (leaves, prompt), {}, 1)
    options = DecodeConfig(max_new_tokens=new_tokens, samples=samples, temperature=1.0, top_k=40)
    yield fit.Program(
        f"{samples} answers of {new_tokens} tokens, 1 image",
        decode,
        (),
        {"model": model, "params": leaves, "batch": prompt, "key": key_shape(mesh), "config": options},
        1,
        while_turns=new_tokens,
    )
    row = batch_shapes(mesh, 1, resolution, config.data.seq_len)
    yield fit.Program("attention maps, 1 image", jax.jit(partial(_maps, model, new_tokens)), (leaves, row), {}, 1)


def _answering_model(config: Config, mesh: Mesh | None) -> tuple[VisionLanguageModel, Flat]:
    """(model, shapes of its leaves) after the last stage; those of the base if the experiment has no stages."""
    model, leaves = make_model(config.model), base_shapes(config, ())
    if config.stage_names:
        last = abstract_stage(config.stage_names[-1], config, leaves)
        model, leaves = last.plan.model, last.frozen | last.trainable
    rules = backbone_of(model.variant).sharding
    return model, leaves if mesh is None else shaped(leaves, sharding.shard_flat(mesh, leaves, rules))


def _prefill(model: VisionLanguageModel, new_tokens: int, leaves: Flat, batch: Batch) -> Any:
    inputs = batch.image, batch.tokens, batch.mask_ar, batch.mask_input
    return model.apply(variables(leaves), *inputs, new_tokens=new_tokens, method="prefill")


def _maps(model: VisionLanguageModel, new_tokens: int, leaves: Flat, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The arrays that saliency keeps of one image: raw attention of the answer's rows, and rollout to the image."""
    captured = capture(model, leaves, batch, answer_len=new_tokens, rollout=RolloutOptions())
    assert captured.rolled is not None
    maps = rollout_maps(captured.rolled[0], captured.query, num_patches=captured.num_patches)
    return jnp.mean(captured.answer_probs, axis=(0, 2)), maps
