"""Part 1 of device_day.py: checks that this device computes correct results, and the same ones each time."""

import os
import re
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from check_golden import check_folder
from day_parts import SAMPLES, Form, Wrong
from full_size import begin_stage, draw_base

from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding.decode import decode
from radvqa_jax.device_check import check_device
from radvqa_jax.models.attention import attended, attention_probs
from radvqa_jax.models.fused_attention import KERNELS, PROBE_TOLERANCE
from radvqa_jax.models.variants import get_variant
from radvqa_jax.runners.fit import read_experiment
from radvqa_jax.schema import Batch
from radvqa_jax.training.step import init_state, train_step

REPO = Path(__file__).resolve().parent.parent
CONFIGS = REPO / "configs"


def device(form: Form, folder: Path) -> dict[str, Any]:
    """The check that every run makes first (radvqa_jax/device_check.py); a wrong result is an error."""
    errors = check_device(cache=folder / "device", fresh=True)
    return {"errors": errors, "figures": {"programs right": str(len(errors))}}


def goldens(form: Form, folder: Path) -> dict[str, Any]:
    """Comparisons with numbers that big_vision computed; Wrong if one fails."""
    checks = check_folder(REPO / "tests" / "golden")
    found = {kind: [check._asdict() | {"holds": check.holds} for check in kinds] for kind, kinds in checks.items()}
    wrong = [f"{kind}: {check}" for kind, kinds in checks.items() for check in kinds if not check.holds]
    if wrong:
        raise Wrong(f"{len(wrong)} golden comparisons fail: {'; '.join(wrong)}", {"checks": found})
    return {"checks": found, "figures": {"comparisons hold": str(sum(map(len, checks.values())))}}


def _plain(query: Any, key: Any, value: Any, mask: Any) -> jax.Array:
    return attended(attention_probs(query, key, mask), value)


def _both(kernel: Any, arrays: list[Any], mask: Any) -> Any:
    """(attended values, their gradients)."""
    out, pull = jax.vjp(lambda *a: kernel(*a, mask), *arrays)
    return out, pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape).astype(out.dtype))


def kernels(form: Form, folder: Path) -> dict[str, Any]:
    """Attention of each tower by each kernel, values and gradients in bfloat16, compared with plain float32 attention.

    Raises:
        Wrong: if a kernel does not run, or differs by more than rounding explains.
    """
    variant = get_variant(form.variant)
    img, llm, patches = variant.img, variant.llm, variant.num_patches
    towers = {
        "img": (patches, img.num_heads, img.num_heads, img.width // img.num_heads, False),
        "llm": (patches + form.seq_len, llm.num_heads, llm.num_kv_heads, llm.head_dim, True),
    }
    found: dict[str, Any] = {}
    for tower, sizes in towers.items():
        arrays, mask = _attention_inputs(*sizes)
        with jax.default_matmul_precision("highest"):
            want = jax.jit(partial(_both, _plain))([x.astype(jnp.float32) for x in arrays], mask)
        for name in dict.fromkeys((*form.attention, "blocks", "xla")):
            try:
                found[f"{tower} {name}"] = _compare(name, arrays, mask, want, form.quick_rounds)
            except Exception as error:  # drivers and compilers raise anything; the other kernels must still be compared
                found[f"{tower} {name}"] = {"worst": float("inf"), "error": str(error)[:1000]}
    told = {
        name: one.get("error") or f"off by {one['worst']:.2g}, {1e3 * statistics.median(one['samples']):.2f} ms"
        for name, one in found.items()
    }
    wrong = [f"{name}: {told[name]}" for name, one in found.items() if not one["worst"] < PROBE_TOLERANCE]
    result = {"kernels": {name: one | {"worst": str(one["worst"])} for name, one in found.items()}, "figures": told}
    if wrong:
        raise Wrong(f"a kernel fails, or is off by {PROBE_TOLERANCE} of the largest value: {'; '.join(wrong)}", result)
    return result


def _attention_inputs(length: int, heads: int, kv_heads: int, head_dim: int, masked: bool) -> tuple[list[Any], Any]:
    """(query, key and value of one row, mask or None)."""
    sizes = zip(jax.random.split(jax.random.key(0), 3), (heads, kv_heads, kv_heads), strict=True)
    arrays = [jax.random.normal(key, (1, length, n, head_dim), jnp.bfloat16) for key, n in sizes]
    arrays[0] = arrays[0] * head_dim**-0.5
    return arrays, jnp.tril(jnp.ones((1, length, length), bool), length // 2) if masked else None


def _compare(name: str, arrays: list[Any], mask: Any, want: Any, rounds: int) -> dict[str, Any]:
    """Errors of one kernel as shares of the largest value, and seconds of forward and backward."""
    run = jax.jit(partial(_both, KERNELS.get(name, _plain)))
    have = jax.block_until_ready(run(arrays, mask))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(run(arrays, mask))
        seconds.append(time.perf_counter() - start)
    pairs = zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True)
    errors = [float(jnp.abs(x.astype(jnp.float32) - y).max() / jnp.abs(y).max()) for x, y in pairs]
    return {"out, dq, dk, dv": [str(error) for error in errors], "worst": float(np.max(errors)), "samples": seconds}


def same_bits(one: Any, other: Any) -> bool:
    """Whether two trees have the same bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def determinism(form: Form, folder: Path) -> dict[str, Any]:
    """Runs three steps of stage 2 and sampled answers of the tiny model twice; Wrong if bits differ.

    Attention is the last kernel of the form. Steps at full size are compared with each kernel (day_full_size.py).
    """
    fields = (
        f"model.attention={form.attention[-1]!r}",
        "model.variant='tiny'",
        "data.seq_len=16",
        "stages.stage2.batch_size=2",
        "stages.stage2.accumulate=2",
    )
    config = read_experiment(str(CONFIGS / "medm_stage2.py"), fields)
    base = draw_base(config, ("stage2",))
    plan, trainable, frozen = begin_stage("stage2", config, base)
    variant = plan.model.variant
    batch = jax.tree.map(jnp.asarray, Batch.fake(4, variant.resolution, 16, vocab=variant.llm.vocab_size))
    options = DecodeConfig(max_new_tokens=8, samples=SAMPLES, temperature=1.0, top_k=40)
    static = {"model": plan.model, "tx": plan.tx, "options": plan.options}

    def once() -> Any:
        state = init_state(trainable, plan.tx)
        for _ in range(3):
            state, _ = train_step(state, frozen, batch, jax.random.key(1), **static)
        prompt = batch._replace(mask_input=batch.mask_input * (1 - batch.mask_ar))
        leaves = frozen | state.trainable
        answers = decode(plan.model, leaves, prompt, jax.random.key(2), config=options, eos=-1)
        return state, answers

    (state, answers), (again, answers_again) = once(), once()
    same = {"training": same_bits(state, again), "answers": same_bits(answers, answers_again)}
    if not all(same.values()):
        raise Wrong(f"Two runs with the same seed differ in bits: {same}.", {"same_bits": same})
    return {"same_bits": same, "figures": {"bit-identical": "3 steps, answers"}}


def gpu_tests(form: Form, folder: Path) -> dict[str, Any]:
    """Runs the tests marked `gpu` in a separate process; on the CPU they must be reported as skipped.

    Raises:
        RuntimeError: with the end of pytest's output, if a test fails or errs, if none passed on a GPU, or if none was
            skipped on a CPU.
    """
    marked = [p for p in sorted((REPO / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text(encoding="utf-8")]
    on_gpu = jax.default_backend() == "gpu"
    env = os.environ | ({"RADVQA_GPU": "1"} if on_gpu else {})
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs", "-p", "no:cacheprovider", *map(str, marked)]
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped|failed|errors?)", said)}
    if done.returncode or not counts.get("passed" if on_gpu else "skipped"):
        raise RuntimeError(f"pytest ended with {done.returncode}: {said[-1500:]}")
    return {"counts": counts, "output": said[-4000:], "figures": {k: str(v) for k, v in counts.items()}}
