"""Part 2 of device_day.py: speed and memory of PaliGemma's full size, with random weights made on the device.

Steps, answers and attention maps are the programs that `mode=train` and `mode=fit` compile. Each is compiled once, and
the estimates of `fit` (memory, arithmetic, roofline) are compared with the measurements on the device.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from day_correctness import CONFIGS, same_bits
from day_parts import SAMPLES, Form, Wrong
from full_size import begin_stage, draw_base, forget, read

from radvqa_jax import runtime
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.planning import fit
from radvqa_jax.planning.choosing_here import argument_bytes, choose_here
from radvqa_jax.planning.devices import GIB
from radvqa_jax.planning.memory import working_bytes
from radvqa_jax.planning.step_program import refused, step_shapes
from radvqa_jax.planning.targets import open_target
from radvqa_jax.planning.utilisation import utilisation
from radvqa_jax.runners.fit import programs, read_experiment, step_program
from radvqa_jax.schema import Batch
from radvqa_jax.training.base_leaves import base_shapes, loaded_shapes
from radvqa_jax.training.step import init_state, step_on
from radvqa_jax.training.way import AUTO, Chosen, configured_way, plan_with
from radvqa_jax.trees import Flat

STATIC = ("model", "tx", "options", "config", "eos")  # arguments of programs that are not arrays
STEP = 8  # rows; the search for the largest batch tries multiples of it


def experiment(form: Form, stage: str, *, kernel: int, quantize: str, **model: Any) -> Config:
    """MedM's stage at the size of the form."""
    attention = form.attention[kernel]
    fields = {
        "model.variant": form.variant,
        "data.seq_len": form.seq_len,
        f"stages.{stage}.batch_size": form.batch_size,
    }
    fields |= {f"stages.{stage}.accumulate": form.accumulate, "model.attention": attention, "model.quantize": quantize}
    fields |= {f"model.{name}": value for name, value in model.items()}
    return read_experiment(str(CONFIGS / f"medm_{stage}.py"), tuple(f"{k}={v!r}" for k, v in fields.items()))


def peak_now() -> int | None:
    """The peak of this process's bytes on the device; None if the device does not report it."""
    statistics_ = jax.local_devices()[0].memory_stats()
    return None if statistics_ is None else statistics_["peak_bytes_in_use"]


def timed(work: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each run; the caller has run it once before."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return seconds


def training_step(
    form: Form, folder: Path, *, stage: str, kernel: int, quantize: str = "none", rows: int = 0
) -> dict[str, Any]:
    """Steps of a stage: the first one twice, to see whether the two agree in every bit, then the timed ones.

    Args:
        form: sizes.
        folder: unused.
        stage: stage1 or stage2.
        kernel: index of the attention kernel in `form.attention`.
        quantize: quantisation of the base.
        rows: examples of a step, all in one pass and with `remat=blocks`; 0 = those of the form, computed in the way
            that `remat=auto` chooses.

    Raises:
        Wrong: if loss or gradient are not finite, or the gradient is zero.
    """
    config = experiment(form, stage, kernel=kernel, quantize=quantize, **({"remat": "blocks"} if rows else {}))
    if rows:
        whole = dataclasses.replace(config.stages[stage], batch_size=rows, accumulate=1)
        config = config.with_stages({stage: whole})
    rows = config.stages[stage].batch_size * config.stages[stage].accumulate
    start = time.perf_counter()
    plan, trainable, frozen = begin_stage(stage, config, draw_base(config, (stage,)))
    made = time.perf_counter() - start
    args = step_shapes(plan, trainable, frozen, None, rows=rows, seq_len=form.seq_len)
    chosen = compile_step(config, plan, trainable, frozen, args)
    compiled = time.perf_counter() - start - made
    plan = plan_with(plan, chosen.way, ())
    variant = plan.model.variant
    batch = Batch.fake(rows, variant.resolution, form.seq_len, vocab=variant.llm.vocab_size)
    batch = jax.tree.map(jnp.asarray, batch)
    peak_before, key = peak_now(), jax.random.key(1)
    (state, metrics), (again, _) = (chosen.step(init_state(trainable, plan.tx), frozen, batch, key) for _ in range(2))
    same = same_bits(state, again)
    del again
    seconds = []
    for _ in range(form.rounds):
        begin = time.perf_counter()
        state, metrics = jax.block_until_ready(chosen.step(state, frozen, batch, key))
        seconds.append(time.perf_counter() - begin)
    loss, norm = float(metrics["loss"]), float(metrics["grad_norm"])
    median = statistics.median(seconds)
    positions = variant.num_patches + form.seq_len
    found = {
        "way": str(chosen.way),
        "attention": {"img": variant.img.kernel or "xla", "llm": variant.llm.kernel or "xla"},
        "rows": rows,
        "positions": positions,
        "samples": seconds,
        "examples_per_second": rows / median,
        "tokens_per_second": rows * positions / median,
        **utilisation(plan, args)(median, form.seq_len),
        "fit_peak": runtime.peak_bytes(chosen.step.memory_analysis()),
        "peak": peak_now(),
        "peak_before": peak_before,
        "seconds_to_make": made,
        "seconds_to_compile": compiled,
        "loss": str(loss),
        "grad_norm": str(norm),
        "same_bits": same,
    }
    found["figures"] = step_figures(found)
    if not (np.isfinite(loss) and 0 < norm < np.inf):
        raise Wrong(f"loss {loss}, norm of the gradient {norm}", found)
    return found


def compile_step(config: Config, plan: Any, trainable: Flat, frozen: Flat, args: Any) -> Chosen:
    """The compiled step, in the way that training would take."""
    if config.model.remat == AUTO:
        return choose_here(config, plan, lambda way: plan_with(plan, way, ()), trainable, frozen)
    way = configured_way(config, plan.name)
    planned = plan_with(plan, way, ())
    static = {"model": planned.model, "tx": planned.tx, "options": planned.options}
    return Chosen(way, step_on(None, args[0], ()).lower(*args, **static).compile())


def step_figures(found: dict[str, Any]) -> dict[str, str]:
    """The figures of a step for the table."""
    times = found["samples"]
    told = {
        "step": f"{statistics.median(times):.3f} s [{min(times):.3f}, {max(times):.3f}]",
        "of": f"{found['way']}, attention {found['attention']['llm']}",
        "examples/s": f"{found['examples_per_second']:.2f}",
        "tokens/s": f"{found['tokens_per_second']:,.0f}",
        "MFU": f"{found['mfu']:.3f}" if "mfu" in found else "unknown: no peak rate of this device",
        "fit's peak": f"{found['fit_peak'] / GIB:.2f} GiB",
        "two runs": "bit-identical" if found["same_bits"] else "differ in bits",
    }
    if found["peak"] is not None:
        # If making the weights took more memory than the step, the step's own peak is unknown.
        bound = "at most " if found["peak"] == found["peak_before"] else ""
        told["peak"] = f"{bound}{found['peak'] / GIB:.2f} GiB"
    return told


def largest(form: Form, folder: Path, *, stage: str = "stage2") -> dict[str, Any]:
    """The largest batch that fits, all examples in one pass, found by the search of `fit`; and its step.

    Raises:
        MemoryError: if not even the smallest batch fits.
    """
    config = experiment(form, stage, kernel=0, quantize="none", remat="blocks")
    target = open_target("local")
    assert target.memory is not None
    room, tried = int(target.memory * (1 - config.model.memory_reserve)), {}

    def program(rows: int) -> fit.Program:
        whole = dataclasses.replace(config.stages[stage], batch_size=rows, accumulate=1)
        return step_program(config.with_stages({stage: whole}), None, stage)

    def peak_of(rows: int) -> int:
        tried[rows] = sys.maxsize
        with refused():
            tried[rows] = fit.compile_program(program(rows), target).peak
        return tried[rows]

    step = min(STEP, form.most_rows // 4)
    smallest = program(step)
    model: PaliGemma = smallest.kwargs["model"]
    each = working_bytes(model.variant, rows=step, seq_len=form.seq_len, itemsize=2, remat="blocks", remat_img="blocks")
    guess = int((room - argument_bytes(smallest.args, None)) / each * step)
    rows, peak = fit.largest_batch(peak_of, room, step=step, most=form.most_rows, first=guess)
    if not rows:
        raise MemoryError(f"{step} examples take {peak / GIB:.2f} GiB, and only {room / GIB:.2f} GiB may be used.")
    found = training_step(form, folder, stage=stage, kernel=0, rows=rows)
    found["figures"]["largest"] = f"{rows} examples in {room / GIB:.2f} GiB"
    return found | {"room": room, "tried": tried}


def to_arrays(program: fit.Program, leaves: Flat, *, answer_len: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a program about one image as arrays: these leaves, a key, and a row without padding.

    The last `answer_len` tokens of the row are an answer; 0 = all of it is a prompt.
    """

    def filled(value: Any) -> Any:
        if isinstance(value, Batch):
            return jax.tree.map(jnp.asarray, _row(value, answer_len))
        return leaves if isinstance(value, dict) else jax.random.key(0)

    kwargs = {name: filled(value) for name, value in program.kwargs.items() if name not in STATIC}
    return tuple(filled(value) for value in program.args), kwargs


def _row(shapes: Batch, answer_len: int) -> Batch:
    rows, width = shapes.tokens.shape
    batch = Batch.fake(rows, shapes.image.shape[1], width - 1)
    tokens = np.random.default_rng(0).integers(4, 64, (rows, width)).astype(np.int32)
    answer = np.broadcast_to((np.arange(width) >= width - answer_len) * bool(answer_len), tokens.shape)
    answer = answer.astype(np.int32)
    return batch._replace(tokens=tokens, mask_ar=answer, mask_loss=answer, mask_input=np.ones_like(tokens))


def image_programs(config: Config, form: Form) -> dict[str, fit.Program]:
    """The programs for one image: prefill, greedy and sampled answers, attention maps."""
    prefill, sampled, maps = programs(config, None, samples=SAMPLES, new_tokens=form.new_tokens)
    greedy = DecodeConfig(max_new_tokens=form.new_tokens)
    return {
        "prefill": prefill,
        "greedy": sampled._replace(name="greedy answer", kwargs=sampled.kwargs | {"config": greedy, "eos": -1}),
        "sampled": sampled._replace(kwargs=sampled.kwargs | {"eos": -1}),
        "maps": maps,
    }


def one_image(form: Form, folder: Path, *, which: tuple[str, ...], quantize: str = "none") -> dict[str, Any]:
    """Times of prefill, answers and attention maps (`which` of them) for one image, compared with their rooflines.

    The share of decoding alone is (roofline less prefill's) / (time less prefill's). It reads the weights once a token.

    Raises:
        ArithmeticError: if an answer ends before its last token, or a map is not finite.
    """
    config = experiment(form, "stage2", kernel=0, quantize=quantize)
    shapes = base_shapes(config, ())
    _, trainable, frozen = begin_stage("stage2", config, draw_base(config, ()))
    leaves, target, found = frozen | trainable, open_target("local"), {}
    for name, program in image_programs(config, form).items():
        if name not in which:
            continue
        fitted, run = fit.compile_to_run(program, target, frozen=shapes)
        args, kwargs = to_arrays(program, leaves, answer_len=form.new_tokens if name == "maps" else 0)
        out = jax.block_until_ready(run(*args, **kwargs))
        if name in ("greedy", "sampled") and int(out.steps) != form.new_tokens:
            raise ArithmeticError(f"{name}: {int(out.steps)} of {form.new_tokens} tokens were computed.")
        if name == "maps" and not all(bool(jnp.isfinite(leaf).all()) for leaf in out):
            raise ArithmeticError("An attention map is not finite.")
        seconds = timed(lambda run=run, args=args, kwargs=kwargs: run(*args, **kwargs), form.quick_rounds)
        found[name] = {"samples": seconds, "seconds": statistics.median(seconds), "fit": fitted.to_json()}
        found[name] |= {"peak": peak_now()}
    return {"programs": found, "figures": answer_figures(found, form.new_tokens)}


def answer_figures(found: dict[str, Any], new_tokens: int) -> dict[str, str]:
    """The figures of answers for the table, with shares of the roofline if the device's peak rates are known."""
    told = {}
    for name, one in found.items():
        seconds, best = one["seconds"], one["fit"]["roofline_seconds"]
        told[name] = f"{1e3 * seconds:.1f} ms"
        if name in ("greedy", "sampled"):
            tokens = new_tokens * (SAMPLES if name == "sampled" else 1)
            told[name] += f", {tokens / seconds:,.0f} tokens/s"
        if best:
            told[name] += f", {best / seconds:.2f} of the roofline"
            if name in ("greedy", "sampled"):
                before = found["prefill"]
                own = (best - before["fit"]["roofline_seconds"]) / max(seconds - before["seconds"], 1e-9)
                told[name] += f" ({own:.2f} without prefill)"
    return told


def loading(form: Form, folder: Path) -> dict[str, Any]:
    """Times writing a checkpoint of this size, reading it, and loading it onto the device with its hash."""
    config = experiment(form, "stage2", kernel=0, quantize="none")
    seconds: dict[str, float] = {}
    leaves = {name: np.asarray(leaf) for name, leaf in draw_base(config, ()).items()}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "random.npz"
        seconds["write"] = _once(lambda: big_vision.save(path, leaves))
        size = path.stat().st_size
        leaves.clear()
        forget(path)
        seconds["read"] = _once(lambda: read(path))
        forget(path)
        loaded: list[Any] = []
        shapes = loaded_shapes(config, ())
        seconds["load"] = _once(lambda: loaded.append(jax.block_until_ready(big_vision.load(path, shapes)[0])))
        if not all(bool(jnp.isfinite(leaf.astype(jnp.float32).sum())) for leaf in loaded[0].values()):
            raise ArithmeticError("A loaded leaf is not finite.")
    told = {name: f"{value:.1f} s, {size / value / 1e9:.2f} GB/s" for name, value in seconds.items()}
    return {"bytes": size, "samples": seconds, "figures": {"size": f"{size / GIB:.2f} GiB"} | told}


def _once(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
