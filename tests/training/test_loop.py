"""The loop: an interrupted run gives the same result, a diverged one keeps its checkpoints, other runs are refused."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.checkpoints.train_state import Checkpointer
from radvqa_jax.config import OptimConfig
from radvqa_jax.data.loader import LoaderError
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.lora import Lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import get_variant
from radvqa_jax.schema import Batch, TrainState
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.loop import Diverged, Plan, TrainingStopped, train
from radvqa_jax.training.optimizer import make_optimizer, make_schedule
from radvqa_jax.training.step import StepOptions, init_state
from radvqa_jax.trees import Flat

from .conftest import Batches, Crash, assert_same, crash_at

TOTAL = 6
FINGERPRINT = {"seed": 0, "stage": {"optim": {"learning_rate": 0.01}}}
WEIGHT = "llm/layers/attn/q_einsum/w"


def signal_at(number: int, signum: int = signal.SIGTERM) -> Callable[[int], None]:
    return lambda drawn: os.kill(os.getpid(), signum) if drawn == number else None


def make_plan(**changed: Any) -> tuple[Plan, Flat, Flat]:
    """(plan, trainable, frozen) of the dummy model with the projector, an adapter with dropout, and Adam."""
    variant = get_variant("dummy")
    base = fake_params(variant)
    lora = Lora(rank=2, scale=2.0, dropout=0.25, targets=frozenset({WEIGHT}), equations=PALIGEMMA.equations)
    adapters = lora_lib.init(jax.random.key(1), lora, base)
    trainable = {name: leaf for name, leaf in base.items() if name.startswith("img/head/")} | adapters
    optim = OptimConfig(learning_rate=changed.pop("learning_rate", 0.01), schedule="cosine", warmup_steps=2)
    plan = Plan(
        name="stage2",
        model=PaliGemma(variant, lora),
        tx=make_optimizer(optim, {name: "train:all" for name in trainable}, TOTAL),
        options=StepOptions(accumulate=2),
        schedules={"learning_rate": make_schedule(optim, TOTAL, learning_rate=optim.learning_rate)},
        total_steps=TOTAL,
        log_every=2,
        save_every=2,
    )
    return plan._replace(**changed), trainable, {name: leaf for name, leaf in base.items() if name not in trainable}


PLAN, TRAINABLE, FROZEN = make_plan()  # once: a plan is static, so another one would be compiled again


def run(folder: Path, batches: Batches, *, plan: Plan = PLAN, fingerprint: dict[str, Any] = FINGERPRINT) -> Flat:
    return train(plan, TRAINABLE, FROZEN, batches, key=jax.random.key(3), folder=folder, fingerprint=fingerprint)


def saved(folder: Path) -> tuple[TrainState, dict[str, Any]]:
    with Checkpointer(folder / "checkpoints", fingerprint=FINGERPRINT) as checkpointer:
        return checkpointer.restore(jax.eval_shape(lambda: init_state(TRAINABLE, PLAN.tx)))


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def losses(folder: Path) -> list[dict[str, Any]]:
    """The rows without the times since the last row, which a restart changes."""
    timed = {"examples_per_s", "data_wait_share", "text_positions"}
    return [{name: value for name, value in row.items() if name not in timed} for row in read_losses(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Flat]:
    """(folder, trained leaves) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, Batches())


def assert_is_whole(folder: Path, trained: Flat, whole: tuple[Path, Flat]) -> None:
    """Raises if a run does not end as the uninterrupted one, bit for bit."""
    assert_same(trained, whole[1])
    (state, position), (want, want_position) = saved(folder), saved(whole[0])
    assert int(state.step) == TOTAL
    assert_same(state, want)
    assert position == want_position == {"batches_drawn": TOTAL}
    assert losses(folder) == losses(whole[0])


def test_training_changes_every_trained_leaf_and_logs_what_it_did(whole: tuple[Path, Flat]) -> None:
    folder, trained = whole
    assert set(trained) == set(TRAINABLE)
    same = [name for name, leaf in trained.items() if np.array_equal(leaf, TRAINABLE[name])]
    assert same == []
    rows = losses(folder)
    assert [row["step"] for row in rows] == [1, 2, 4, 6]
    # Linear from 0 over two steps, then a cosine over four: the rate that each logged step used.
    np.testing.assert_allclose(
        [row["learning_rate"] for row in rows], [0, 0.005, 0.01 * (1 + 0.5**0.5) / 2, 0.01 * (1 - 0.5**0.5) / 2], 1e-5
    )
    assert all(set(row) == {"step", "loss", "grad_norm", "update_norm", "learning_rate"} for row in rows)
    assert saved_steps(folder) == [4, 6]


@pytest.mark.parametrize("at", [1, 3, 5, 6])
def test_a_crash_and_a_restart_give_the_same_run(at: int, whole: tuple[Path, Flat], tmp_path: Path) -> None:
    with pytest.raises(Crash):
        run(tmp_path, Batches(crash_at(at)))
    drawn: list[int] = []
    trained = run(tmp_path, Batches(drawn.append))
    assert drawn == list(range((at - 1) // 2 * 2 + 1, TOTAL + 1))  # what was saved is not computed again
    assert_is_whole(tmp_path, trained, whole)


@pytest.mark.parametrize(("at", "signum"), [(1, signal.SIGTERM), (3, signal.SIGINT), (TOTAL, signal.SIGTERM)])
def test_a_signal_saves_the_step_and_the_same_call_continues(
    at: int, signum: int, whole: tuple[Path, Flat], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingStopped) as stopped:
        run(tmp_path, Batches(signal_at(at, signum)))
    assert stopped.value.code == 128 + signum
    assert f"stopped by signal {int(signum)} after step {at}, which is saved in {tmp_path}" in capsys.readouterr().out
    assert saved_steps(tmp_path)[-1] == at
    assert_is_whole(tmp_path, run(tmp_path, Batches()), whole)


@pytest.mark.parametrize("signum", [0, signal.SIGINT])
def test_a_worker_that_was_killed_costs_no_step(
    signum: int, whole: tuple[Path, Flat], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches every process of a terminal: a dead worker's missing batch must not cost the earlier steps."""

    def die(drawn: int) -> None:
        if drawn == 4:
            if signum:
                os.kill(os.getpid(), signum)
            raise LoaderError("A worker process ended.")

    with pytest.raises(TrainingStopped if signum else LoaderError):
        run(tmp_path, Batches(die))
    assert saved_steps(tmp_path)[-1] == 3  # save_every is 2
    assert ("stopped by signal 2 after step 3" in capsys.readouterr().out) == bool(signum)
    assert_is_whole(tmp_path, run(tmp_path, Batches()), whole)


@pytest.mark.parametrize("at", [2, TOTAL])
def test_an_evaluation_that_fails_costs_no_step(at: int, whole: tuple[Path, Flat], tmp_path: Path) -> None:
    def fail(*_: Any) -> dict[str, float]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(tmp_path, Batches(), plan=PLAN._replace(validate=fail, eval_every=at, save_every=100))
    assert saved_steps(tmp_path) == [at]
    trained = run(tmp_path, Batches())
    assert_is_whole(tmp_path, trained, whole)
    plan = PLAN._replace(validate=lambda *_: {"eval/loss": 0.5}, eval_every=TOTAL)
    assert_same(run(tmp_path, Batches(), plan=plan), trained)  # no step is left
    assert losses(tmp_path)[-1] == losses(whole[0])[-1] | {"eval/loss": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 1, "loss": NaN}', "line 1"),
        ('{"step": 1, "loss": "low"}', r"line 1: field `loss` must be a number"),
        ('{"loss": 1.0}', r"line 1: field `step` must be a number of steps; got none"),
        ('{"step": 1.5, "loss": 1.0}', r"field `step` must be a number of steps; got 1\.5"),
        ('{"step": -1, "loss": 1.0}', r"field `step` must be a number of steps; got -1"),
        ("[1]", "line 1"),
        ('{"step": 1}\n{"step": null}', "line 2: field `step`"),
        ("[" * 50_000, "line 1"),
    ],
)
def test_scalars_that_somebody_edited_are_checked(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").write_text(f"{text}\n")
    with pytest.raises(ValueError, match=message) as caught:
        read_losses(tmp_path)
    assert "losses.jsonl" in str(caught.value)


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    assert read_losses(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_finished_run_computes_nothing_again(whole: tuple[Path, Flat]) -> None:
    folder, trained = whole
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert_same(run(folder, Batches(crash_at(TOTAL + 1))), trained)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_key_gives_another_run(whole: tuple[Path, Flat], tmp_path: Path) -> None:
    """The dropout of the adapter is drawn from the key; without that, restarts would prove little."""
    plan = PLAN._replace(save_every=100)
    other = train(plan, TRAINABLE, FROZEN, Batches(), key=jax.random.key(4), folder=tmp_path, fingerprint=FINGERPRINT)
    assert not np.array_equal(other[f"{WEIGHT}/lora_b"], whole[1][f"{WEIGHT}/lora_b"])
    assert saved_steps(tmp_path) == [TOTAL]  # the last step is saved, whatever save_every


@pytest.mark.parametrize("log_every", [1, 100])
@pytest.mark.parametrize(("nan_at", "kept"), [(3, 2), (4, 2), (5, 4), (6, 4)])
def test_nan_stops_the_run_with_the_step_and_what_was_saved(
    nan_at: int, kept: int, log_every: int, whole: tuple[Path, Flat], tmp_path: Path
) -> None:
    with pytest.raises(Diverged) as diverged:
        run(tmp_path, Batches(nan_at=nan_at), plan=PLAN._replace(log_every=log_every))
    message = str(diverged.value)
    assert f"stage2: grad_norm, loss, update_norm is not finite at step {nan_at}." in message
    assert f"Step {kept} is saved in {tmp_path / 'checkpoints'}" in message
    assert saved_steps(tmp_path)[-1] == kept
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved(tmp_path)[0]))
    assert max(row["step"] for row in losses(tmp_path)) < nan_at
    # Without the cause, the run continues from there.
    assert_same(run(tmp_path, Batches()), whole[1])


def test_nan_in_the_first_step_says_that_nothing_was_saved(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 1\. No step was saved before it; .* another --workdir"):
        run(tmp_path, Batches(nan_at=1))
    assert saved_steps(tmp_path) == []
    assert losses(tmp_path) == []


def test_a_rate_that_overflows_is_found_in_the_update(tmp_path: Path) -> None:
    plan, _, _ = make_plan(learning_rate=1e30, log_every=100, save_every=1)
    with pytest.raises(Diverged, match=r"update_norm is not finite at step 2"):
        run(tmp_path, Batches(), plan=plan)
    assert saved_steps(tmp_path) == [1]  # the first step of the warm-up has rate 0


def test_an_infinite_frozen_leaf_is_found(tmp_path: Path) -> None:
    frozen = FROZEN | {"llm/final_norm/scale": FROZEN["llm/final_norm/scale"] + np.float32(np.inf)}
    with pytest.raises(Diverged, match=r"grad_norm, loss, update_norm is not finite at step 1"):
        train(PLAN, TRAINABLE, frozen, Batches(), key=jax.random.key(3), folder=tmp_path, fingerprint=FINGERPRINT)


def test_the_folder_of_another_configuration_is_refused_and_left_alone(whole: tuple[Path, Flat]) -> None:
    folder, _ = whole
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = {"seed": 1, "stage": {"optim": {"learning_rate": 0.02}}}
    named = (
        r"(?s)seed: 0 in the checkpoint, now 1.*optim.learning_rate: 0.01 in the checkpoint, now 0.02.*another workdir"
    )
    with pytest.raises(ValueError, match=named):
        run(folder, Batches(crash_at(1)), fingerprint=other)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


class Texts(Batches):
    """Batches whose texts are long up to the third, and short, but for the fifth, from then on."""

    def __next__(self) -> Batch:
        batch = super().__next__()
        if self.drawn <= 3 or self.drawn == 5:
            return batch
        short = (np.arange(9) <= 4).astype(np.int32)
        cut = {name: getattr(batch, name) * short for name in ("tokens", "mask_loss", "mask_input")}
        return batch._replace(**cut)


def test_a_text_length_that_comes_late_compiles_nothing_and_a_restart_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLAN._replace(options=PLAN.options._replace(text_lengths=(4, 8)))
    seen, at = [0], []

    def compiled(event: str, *_: Any, **__: Any) -> None:
        seen[0] += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(compiled)
    whole = run(tmp_path / "whole", Texts(lambda _: at.append(seen[0])), plan=plan)
    jax.monitoring.unregister_event_duration_listener(compiled)
    assert at[0] < at[2] == at[3] == at[4] == at[5] == seen[0]  # drawn before each step; the short ones come last
    with pytest.raises(Crash):
        run(tmp_path / "other", Texts(crash_at(5)), plan=plan)
    assert_same(run(tmp_path / "other", Texts(), plan=plan), whole)
    assert losses(tmp_path / "other") == losses(tmp_path / "whole")
    assert capsys.readouterr().out.count("the step compiled in") == 3
    full = run(tmp_path / "full", Texts())
    for name, leaf in full.items():
        np.testing.assert_allclose(whole[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(ValueError, match=r"stage2: row \d of a batch has \d text positions, .* compiled for 4 at most"):
        run(tmp_path / "short", Texts(), plan=PLAN._replace(options=PLAN.options._replace(text_lengths=(4,))))


@pytest.mark.parametrize("remat", [name for name in get_args(Remat) if name != PLAN.model.remat])
def test_a_run_continues_bit_for_bit_whatever_a_layer_stores(remat: Remat, tmp_path: Path) -> None:
    plan = PLAN._replace(model=PLAN.model.clone(remat=remat))
    whole = run(tmp_path / "whole", Batches(), plan=plan)
    with pytest.raises(Crash):
        run(tmp_path / "other", Batches(crash_at(4)), plan=plan)
    assert_same(run(tmp_path / "other", Batches(), plan=plan), whole)
