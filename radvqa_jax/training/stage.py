"""One training stage as a whole: its start, its trainable leaves, and the adapter that it writes."""

import hashlib
import json
import logging
import re
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from radvqa_jax import runtime, trees
from radvqa_jax.backbones import configured_backbone, make_model
from radvqa_jax.backbones.record import Backbone
from radvqa_jax.checkpoints.adapter import check_base, save_adapter
from radvqa_jax.checkpoints.adapter_formats import load_any_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta, read_meta
from radvqa_jax.checkpoints.step_folders import read_fingerprint
from radvqa_jax.config import Config, LoraConfig, SourceConfig, StageConfig
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.lora import Equations
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.training.base_leaves import adapter_shapes, quantize_frozen
from radvqa_jax.training.base_use import caption_prompt_of, check_use, make_use
from radvqa_jax.training.loop import CHECKPOINTS, WAY, BatchStream, Plan, Speed, train
from radvqa_jax.training.optimizer import label_leaves
from radvqa_jax.training.stage_plan import plan_stage
from radvqa_jax.training.text_lengths import describe_lengths
from radvqa_jax.training.way import AUTO, Choose, Chosen, Way, configured_way, from_record, plan_with, to_record
from radvqa_jax.trees import Flat

log = logging.getLogger(__name__)


class Base(NamedTuple):
    """The base checkpoint in memory, and its identity."""

    params: Flat  # leaves that a stage of the run trains are in float32, also where other stages freeze them
    name: str
    sha256: str
    tokenizer_sha256: str = "0" * 64  # of its tokenizer


class Trained(NamedTuple):
    """The leaves that differ from the base (trained base leaves and adapters), and the rank and scale of adapters."""

    leaves: Flat
    lora: LoraConfig
    caption_prompt: str | None = None  # of its training captions (see AdapterMeta)

    @staticmethod
    def nothing() -> "Trained":
        """Nothing trained: the base model alone."""
        return Trained({}, LoraConfig())

    def sha256(self) -> str:
        """A hash of everything that differs from the base: names, values, and the scale of adapters."""
        lora = replace(self.lora, dropout=0.0, targets=()) if self.lora.rank else None
        digest = hashlib.sha256(repr(lora).encode())
        for name in sorted(self.leaves):
            digest.update(name.encode())
            for values in jax.tree.leaves(jax.device_get(self.leaves[name])):  # a quantised leaf has several
                digest.update(values.tobytes())
        return digest.hexdigest()

    def tower(self, backbone: Backbone) -> str:
        """Hashes the trained leaves of vision tower and projector, which with the base determine image tokens."""
        own = {name: leaf for name, leaf in self.leaves.items() if backbone.tower_of(name) == "img"}
        adapted = any(name.endswith("/lora_a") for name in own)
        return Trained(own, self.lora if adapted else LoraConfig()).sha256()


def load_trained(
    path: str, base: Base, config: Config, *, training: bool = False, accept: tuple[str, ...] = ()
) -> Trained:
    """Loads the result of a stage from `path`.

    Args:
        path: adapter.npz, or its folder, or a PEFT folder.
        base: the base checkpoint for which it was trained.
        config: the use of the base in this run.
        training: whether a stage continues from it.
        accept: fields that may differ from its training, in addition to those of `config.adapter_accept`.

    Raises:
        FileNotFoundError, ValueError: as `load_adapter`; or if it belongs to another base checkpoint, does not fit it,
            or was trained with another use of the base (see base_use.py).
    """

    def check(shapes: Flat, meta: AdapterMeta) -> None:
        check_base(meta, base.sha256, name=base.name)
        now, may = make_use(config, base.tokenizer_sha256), config.adapter_accept + accept
        for line in check_use(meta.base_use, now, adapter=path, accept=may, training=training):
            log.warning(line)
        check_fits(config, base.params, shapes, meta.lora)

    leaves, meta = load_any_adapter(path, base.params, check=check)
    return Trained({name: jnp.asarray(leaf) for name, leaf in leaves.items()}, meta.lora, meta.caption_prompt)


def check_fits(config: Config, params: Flat, leaves: Flat, lora: LoraConfig) -> lora_lib.Lora | None:
    """The adapters of leaves (arrays or shapes) that were trained on a base with these leaves.

    Raises:
        ValueError: if a trained leaf does not belong to this model, or an adapter is missing.
    """
    adapters = lora_lib.resolve(lora, params, configured_backbone(config.model).equations)
    want = adapter_shapes(adapters, params) | {name: leaf for name, leaf in params.items() if name in leaves}
    if problems := [f"{kind} {lines[:3]}" for kind, lines in trees.diff(leaves, want).items() if lines]:
        raise ValueError(
            f"The trained leaves do not fit {config.model.variant}: {'; '.join(problems)}. Give the model.variant and "
            "model.resolution of their training."
        )
    return adapters


def assemble(
    config: Config, base: Base, trained: Trained, *, trains: Collection[str] = ()
) -> tuple[VisionLanguageModel, Flat]:
    """(model, flat tree of all its leaves) of the base with the trained leaves.

    With `model.quantize`, the linear weights are quantised but for the trained leaves and those that it `trains`.

    Raises:
        ValueError: if a trained leaf does not belong to this model, or an adapter is missing.
    """
    adapters = check_fits(config, base.params, trained.leaves, trained.lora)
    params = quantize_frozen(config, base.params, trains=[*trained.leaves, *trains])
    return make_model(config.model, adapters), params | trained.leaves


def _start(stage: StageConfig, start: Trained, base: Base, key: jax.Array, equations: Equations) -> Trained:
    """The start of the stage: the result of the stage before, with new adapters if it needs some and there are none.

    Existing adapters stay, with the stage's own dropout, whether or not its rules train them.
    """
    if start.lora.rank == 0:
        adapters = lora_lib.resolve(stage.lora, base.params, equations)
        new = lora_lib.init(key, adapters, base.params) if adapters else {}
        return Trained(start.leaves | new, stage.lora)
    kept = replace(start.lora, dropout=stage.lora.dropout)
    if stage.lora.rank > 0 and stage.lora != kept:
        raise ValueError(
            f"The stage continues adapters made with {start.lora}, but its own lora is {stage.lora}. Give the same "
            "rank, alpha, rslora and targets (dropout may differ), or start from a stage without adapters."
        )
    return Trained(start.leaves, kept)


def stage_number(name: str) -> int:
    """The number that, with the seed, decides on the random draws of a stage: N of `stageN`, else the name's CRC-32.

    It depends on the name alone, so that a stage draws the same with and without the stages before it.
    """
    match = re.fullmatch(r"stage(\d{1,9})", name)
    return int(match[1]) if match else zlib.crc32(name.encode())


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# Fields of the model that change numbers only by rounding.
SAME_NUMBERS: dict[str, Any] = {
    "remat": "none",
    "remat_img": "",
    "memory_reserve": 0.0,
    "unroll": 1,
    "attention": "auto",
}


def identify(config: Config, base: Base) -> dict[str, Any]:
    """The settings that determine the numbers of training and answers: not paths, nor savings of memory or time."""
    model = asdict(replace(config.model, checkpoint="", tokenizer="", **SAME_NUMBERS))
    text = {"prompt": config.data.prompt, "seq_len": config.data.seq_len, "overlong": config.data.overlong}
    if config.data.history != "none":
        text["history"] = config.data.history
    return {"seed": config.seed, "base": base.sha256, "model": model, "text": text}


def make_fingerprint(
    config: Config, stage: StageConfig, base: Base, *, start: Trained, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that must be equal for a stage to continue."""
    decides = asdict(replace(stage, init_from="", log_every=1, save_every=1, eval_every=1, eval_source=SourceConfig()))
    return identify(config, base) | {"stage": decides, "start": start.sha256(), "data": dict(data)}


def _take_way(
    config: Config,
    plan: Plan,
    trainable: Flat,
    frozen: Flat,
    *,
    folder: Path,
    text_lengths: Callable[[int], Mapping[int, float]],
    choose: Choose | None,
) -> tuple[Way, Plan]:
    """(the way of computing the step, the plan with it).

    With `model.remat=auto`, a run that continues on the same kind of devices keeps its way; for any other run a way is
    chosen.
    """
    stage = config.stages[plan.name]

    def plan_at(way: Way) -> Plan:
        return plan_with(plan, way, tuple(text_lengths(way.accumulate)))

    chosen = Chosen(configured_way(config, plan.name))
    if config.model.remat == AUTO:
        record = read_fingerprint(folder / CHECKPOINTS).get(WAY)
        began = from_record(record, plan.mesh, rows=stage.batch_size * stage.accumulate)
        if began is not None:
            print(f"{plan.name}: computes its step as it began: {began}", flush=True)
            chosen = Chosen(began)
        elif choose is not None:
            chosen = choose(plan, plan_at, trainable, frozen)
    if lengths := text_lengths(chosen.way.accumulate):
        print(f"{plan.name}: {describe_lengths(lengths, config.data.seq_len)}", flush=True)
    return chosen.way, plan_at(chosen.way)._replace(compiled=chosen.step)


def _is_kept(folder: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Whether the folder has the adapter of this very stage, but no checkpoints: they were removed to save space.

    Raises:
        ValueError: if the adapter is another stage's. With checkpoints, the same is checked when training continues.
    """
    path = folder / "adapter.json"
    if not path.exists() or read_fingerprint(folder / CHECKPOINTS):
        return False
    if read_meta(path).meta.config_sha256 != _hash(fingerprint):
        raise ValueError(
            f"{path} describes the adapter of another configuration, data, base or start, and it would be replaced. "
            f"Give another --workdir, or move {folder} away."
        )
    return True


def run_stage(
    name: str,
    config: Config,
    *,
    base: Base,
    start: Trained,
    batches: BatchStream,
    rows_per_epoch: int,
    data: Mapping[str, Any],
    folder: Path,
    speed: Speed | None = None,
    validate: Callable[[VisionLanguageModel, Flat], dict[str, float]] | None = None,
    text_lengths: Callable[[int], Mapping[int, float]] = lambda parts: {},
    choose: Choose | None = None,
) -> Trained:
    """Trains a stage; returns the trained leaves, and writes them as `folder/adapter.npz` and `adapter.json`.

    Prints the tables of adapters and of parameters with their labels before step 1.

    Args:
        name: of the stage, on which `stage_number` depends.
        config: the whole experiment.
        base: the base checkpoint.
        start: the result of the stage before.
        batches: `accumulate * batch_size` rows each.
        rows_per_epoch: of the data, for `epochs`.
        data: the data behind the batches, as JSON values; a run on other data is not continued.
        folder: of the stage.
        speed: computes further scalars from the time of a step (see loop.Speed).
        validate: gives the losses on held-out rows, every `eval_every` steps.
        text_lengths: gives, for a number of parts of a batch, the lengths to which their texts are padded, and the
            share of the parts of each length (see text_lengths.choose_lengths); none = the lengths of the batches.
        choose: chooses how the step is computed if `model.remat=auto`; None = with the least memory.
    """
    stage = config.stages[name]
    key = jax.random.fold_in(jax.random.key(config.seed), stage_number(name))
    init_key, train_key = jax.random.split(key)
    equations = configured_backbone(config.model).equations
    begin = _start(stage, start, base, init_key, equations)
    labels = label_leaves(base.params | begin.leaves, stage, what=f"stages.{name}.train")
    trains = [leaf for leaf, label in labels.items() if trees.is_trained(label)]
    model, leaves = assemble(config, base, begin, trains=trains)
    print(lora_lib.table(model.lora, base.params, equations))
    print(trees.table(leaves, labels), flush=True)
    trainable, frozen = trees.split(leaves, labels)
    plan = plan_stage(name, config, model, labels, rows_per_epoch=rows_per_epoch)
    plan = plan._replace(speed=speed, validate=validate)
    fingerprint = make_fingerprint(config, stage, base, start=start, data=data)
    if _is_kept(folder, fingerprint):
        print(f"{name}: is finished, and its checkpoints were removed; {folder / 'adapter.npz'} is taken", flush=True)
        batches.set_state({"batches_drawn": plan.total_steps})
        return load_trained(str(folder), base, config)
    way, plan = _take_way(config, plan, trainable, frozen, folder=folder, text_lengths=text_lengths, choose=choose)
    kept = fingerprint | {WAY: to_record(way, plan.mesh)}
    trained = train(plan, trainable, frozen, batches, key=train_key, folder=folder, fingerprint=kept)
    prompt = caption_prompt_of(stage, start.caption_prompt)
    done = Trained(begin.leaves | trained, begin.lora, prompt)
    use = make_use(config, base.tokenizer_sha256)
    meta = AdapterMeta(name, plan.total_steps, done.lora, base.name, base.sha256, _hash(fingerprint), use, prompt)
    if runtime.is_first():
        save_adapter(folder, done.leaves, meta)
    return done
