"""The training loop: draws batches, steps, logs, saves, and stops on NaN or on a signal with nothing lost."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from radvqa_jax import runtime
from radvqa_jax.backbones import backbone_of
from radvqa_jax.checkpoints.train_state import Checkpointer
from radvqa_jax.config import WandbConfig
from radvqa_jax.files import write_jsonl
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.schema import Batch, TrainState
from radvqa_jax.training import sharding
from radvqa_jax.training.hooks import LOSSES, Progress, Scalars, StopSignal, read_losses
from radvqa_jax.training.step import StepOptions, init_state, step_on
from radvqa_jax.training.text_lengths import check_lengths
from radvqa_jax.training.wandb_run import WandbRun
from radvqa_jax.trees import Flat


@runtime_checkable
class BatchStream(Protocol):
    """An endless iterator of batches whose position can be saved."""

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


# (plan, arguments of the step) -> function from (seconds a step, mean text positions of a row) to scalars to log, such
# as the share of peak arithmetic.
Speed = Callable[[Any, tuple[Any, ...]], Callable[[float, float], dict[str, float]]]

CHECKPOINTS = "checkpoints"  # the folder of a stage's saved steps
WAY = "way"  # the part of a fingerprint that changes numbers only by rounding


class Plan(NamedTuple):
    """The part of a stage that the loop needs."""

    name: str
    model: VisionLanguageModel
    tx: optax.GradientTransformation
    options: StepOptions
    schedules: Mapping[str, optax.Schedule]  # of the learning rates that are logged, by the scalar's name
    total_steps: int
    log_every: int
    save_every: int
    mesh: Mesh | None = None  # None = the one default device
    speed: Speed | None = None
    validate: Callable[[VisionLanguageModel, Flat], dict[str, float]] | None = None  # losses on held-out rows
    eval_every: int = 1
    wandb: WandbConfig = WandbConfig()
    compiled: Any = None  # the step, if choosing how to compute it has already compiled it


class Diverged(RuntimeError):
    """The loss or the gradient is not a number."""


class TrainingStopped(SystemExit):
    """A signal ended the run after its state was saved."""


def _scalars(metrics: dict[str, jax.Array], plan: Plan, step: int) -> dict[str, float]:
    rates: dict[str, Any] = {name: schedule(step - 1) for name, schedule in plan.schedules.items()}
    return {name: float(value) for name, value in (metrics | rates).items()}


def _check_finite(metrics: dict[str, jax.Array], step: int, plan: Plan, checkpointer: Checkpointer) -> None:
    bad = [name for name, value in metrics.items() if not np.isfinite(float(value))]
    if not bad:
        return
    saved = checkpointer.latest_step()
    kept = f"Step {saved} is saved in {checkpointer.folder}" if saved is not None else "No step was saved before it"
    raise Diverged(
        f"{plan.name}: {', '.join(bad)} is not finite at step {step}. {kept}; nothing after it was kept. "
        "Start again in another --workdir with a lower learning rate, a clipped gradient (optim.clip_norm) or float32."
    )


def train(
    plan: Plan,
    trainable: Flat,
    frozen: Flat,
    batches: BatchStream,
    *,
    key: PRNGKeyArray,
    folder: Path,
    fingerprint: dict[str, Any],
) -> Flat:
    """The trained leaves, float32, after `plan.total_steps` optimizer steps.

    A run that was interrupted continues from its newest checkpoint, with the batches it would have seen. Checkpoints
    are in `folder/checkpoints`, scalars in `folder/losses.jsonl` and `folder/tensorboard`.

    Raises:
        Diverged: if a loss or gradient norm is not finite; names the step and the last saved one.
        TrainingStopped: after SIGTERM or Ctrl-C, once the state is saved.
        ValueError: if the folder holds a run of another configuration (see Checkpointer).
    """
    state = init_state(trainable, plan.tx)
    rules = backbone_of(plan.model.variant).sharding
    if plan.mesh is not None:
        state = sharding.put(state, sharding.shard_state(plan.mesh, state, rules))
        frozen = sharding.put(frozen, sharding.shard_flat(plan.mesh, frozen, rules))
        key = sharding.put(key, sharding.replicated(plan.mesh))
    with Checkpointer(
        folder / CHECKPOINTS, fingerprint=fingerprint, save_every=plan.save_every, may_differ=(WAY,)
    ) as checkpointer:
        start = checkpointer.latest_step() or 0
        if start:
            state, position = checkpointer.restore(state)
            batches.set_state(position)
            print(f"{plan.name}: continues after step {start} of {plan.total_steps}", flush=True)
            for line in checkpointer.changed:
                print(f"{plan.name}: {line}; numbers agree to rounding", flush=True)
            _evaluate_missing(plan, state, frozen, folder=folder, step=start)
        if start == plan.total_steps:
            return _whole(plan, state)
        first = runtime.is_first()
        run = WandbRun(plan.wandb, folder, stage=plan.name) if first and plan.wandb.project else None
        progress = Progress(plan.name, start_step=start, total_steps=plan.total_steps, show=first)
        with contextlib.closing(progress), Scalars(folder, start_step=start, write=first, also=run) as scalars:
            state = _steps(
                plan,
                state,
                frozen=frozen,
                batches=batches,
                key=key,
                start=start,
                checkpointer=checkpointer,
                scalars=scalars,
                progress=progress,
            )
    return _whole(plan, state)


def _is_evaluated(plan: Plan, step: int) -> bool:
    return plan.validate is not None and (step % plan.eval_every == 0 or step == plan.total_steps)


def _evaluate_missing(plan: Plan, state: TrainState, frozen: Flat, *, folder: Path, step: int) -> None:
    """Adds the held-out losses of a saved step to its row, if the evaluation at that step failed."""
    if plan.validate is None or not _is_evaluated(plan, step) or jax.process_count() > 1:
        return
    rows = read_losses(folder)
    found = [row for row in rows if row["step"] == step and not any(name.startswith("eval/") for name in row)]
    if found:
        found[0] |= plan.validate(plan.model, state.trainable | frozen)
        write_jsonl(folder / LOSSES, rows, private=False)


def _whole(plan: Plan, state: TrainState) -> Flat:
    return state.trainable if plan.mesh is None else sharding.whole(plan.mesh, state.trainable)


def _compile(plan: Plan, args: tuple[Any, ...]) -> Any:
    """The step compiled for exactly these shapes, so that nothing compiles during training."""
    if plan.compiled is not None:
        return plan.compiled
    since = time.perf_counter()
    static = {"model": plan.model, "tx": plan.tx, "options": plan.options}
    step = step_on(plan.mesh, args[0], backbone_of(plan.model.variant).sharding).lower(*args, **static).compile()
    needed = step.memory_analysis()
    peak = f"; it takes {runtime.peak_bytes(needed) / 2**20:,.0f} MiB of each device" if needed is not None else ""
    print(f"{plan.name}: the step compiled in {time.perf_counter() - since:.1f} s{peak}", flush=True)
    return step


def _agreed(signum: int) -> int:
    """The signal that any process of the run received, 0 if none; all processes ask at the same step."""
    if jax.process_count() == 1:
        return signum
    return int(multihost_utils.process_allgather(np.int32(signum)).max())


def _check_same(batch: Batch, first: tuple[Any, ...], plan: Plan) -> None:
    """Raises ValueError if a batch would make the step compile again; a short last batch must be padded."""
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in batch)
    if shapes != first:
        raise ValueError(
            f"{plan.name}: a batch has the shapes {[shape for shape, _ in shapes]}, the first one had "
            f"{[shape for shape, _ in first]}. Fill a short batch up with rows whose mask_example is False."
        )


def _stop(plan: Plan, checkpointer: Checkpointer, step: int, signum: int) -> NoReturn:
    print(
        f"{plan.name}: stopped by signal {signum} after step {step}, which is saved in {checkpointer.folder}. The same "
        "command continues from there.",
        flush=True,
    )
    raise TrainingStopped(128 + signum)


def _no_rates(_: float, __: float) -> dict[str, float]:
    return {}


def _steps(
    plan: Plan,
    state: TrainState,
    *,
    frozen: Flat,
    batches: BatchStream,
    key: PRNGKeyArray,
    start: int,
    checkpointer: Checkpointer,
    scalars: Scalars,
    progress: Progress,
) -> TrainState:
    """Runs the steps after `start`. The metrics of a step are read while the next one computes."""
    pending: tuple[int, dict[str, jax.Array]] | None = None
    waited, since, examples, steps = 0.0, time.perf_counter(), 0, 0
    run_step: Any = None
    first: tuple[Any, ...] = ()
    rates: Callable[[float, float], dict[str, float]] = _no_rates
    positions: list[jax.Array] = []  # text positions of a row, step by step
    with StopSignal() as stop:
        for step in range(start + 1, plan.total_steps + 1):
            before = time.perf_counter()
            try:
                batch = next(batches)
            except (RuntimeError, ValueError):  # a worker was killed, or a row is bad; the trained state is intact
                if pending is not None and jax.process_count() == 1:
                    _check_finite(pending[1], pending[0], plan, checkpointer)
                    checkpointer.save(pending[0], state, batches.get_state(), force=True)
                    checkpointer.wait()
                    if stop.signum:  # also sent to the workers
                        _stop(plan, checkpointer, pending[0], stop.signum)
                raise
            waited += time.perf_counter() - before
            check_lengths(batch, plan.options.text_lengths, name=plan.name)
            if plan.mesh is not None:
                batch = sharding.put_batch(plan.mesh, batch, accumulate=plan.options.accumulate)
            examples += len(batch.tokens)
            if run_step is None:
                first = tuple((leaf.shape, leaf.dtype) for leaf in batch)
                rates = plan.speed(plan, (state, frozen, batch, key)) if plan.speed else rates
                began = time.perf_counter()
                run_step = _compile(plan, (state, frozen, batch, key))
                since += time.perf_counter() - began  # the first row shows the speed of a step, not of the compiler
            _check_same(batch, first, plan)
            state, metrics = run_step(state, frozen, batch, key)
            steps += 1
            positions.append(metrics["text_positions"])
            if pending is not None:
                _check_finite(pending[1], pending[0], plan, checkpointer)
            pending = (step, metrics)
            progress.step()
            checkpointer.check()
            last = step == plan.total_steps
            evaluated = _is_evaluated(plan, step)
            logged = step % plan.log_every == 0 or last or step == 1 or evaluated
            due = step % plan.save_every == 0 or last
            if logged:
                _check_finite(metrics, step, plan, checkpointer)
                passed = time.perf_counter() - since
                speed = {"examples_per_s": examples / passed, "data_wait_share": waited / passed}
                speed["text_positions"] = float(np.mean(positions))
                row = _scalars(metrics, plan, step) | speed | rates(passed / steps, speed["text_positions"])
                if evaluated and plan.validate is not None:
                    try:
                        row |= plan.validate(plan.model, state.trainable | frozen)
                    except (OSError, RuntimeError, ValueError, MemoryError):  # the state is intact
                        if jax.process_count() == 1:
                            scalars(step, row)
                            checkpointer.save(step, state, batches.get_state(), force=True)
                            checkpointer.wait()
                        raise
                scalars(step, row)
                progress(step, row)
                waited, since, examples, steps = 0.0, time.perf_counter(), 0, 0
                positions.clear()
            # Read once, so that the message matches what is saved. Several processes agree at a point where they wait
            # anyway.
            signum = _agreed(stop.signum) if logged or due or jax.process_count() == 1 else 0
            if due or signum:
                _check_finite(metrics, step, plan, checkpointer)  # a diverged state is never saved
                checkpointer.save(step, state, batches.get_state(), force=True)
            if signum:
                checkpointer.wait()
                _stop(plan, checkpointer, step, signum)
    return state
