"""Loads a model of the real size on the CPU, answers, trains one step and computes a rollout; prints time and memory.

    python scripts/make_random_checkpoint.py /tmp/random_3b.npz --variant paligemma-3b-224
    python scripts/full_size_smoke.py /tmp/random_3b.npz --variant paligemma-3b-224      # Linux, 24 GiB, minutes

Everything runs in bfloat16 through the code of a job, with MedM's stage 2 as its configuration. Each part is reported
with the peak memory of the process during it. Reading and loading start with the file outside the system's cache. The
time of a part includes its compilation.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from full_size import begin_stage, forget, read

from radvqa_jax.backbones import make_model
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.decoding.decode import decode
from radvqa_jax.models.variants import VARIANTS, get_variant
from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.rollout import RolloutOptions, rollout_maps
from radvqa_jax.schema import Batch
from radvqa_jax.training.base_leaves import base_shapes
from radvqa_jax.training.step import init_state, train_step
from radvqa_jax.trees import Flat

GIB = 2**30
STAGE2 = Path(__file__).parent.parent / "configs" / "medm_stage2.py"
NEW_TOKENS, TEXT = 8, 32


def resident(kind: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM the peak since its last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def measure(name: str, work: Callable[[], Any]) -> Any:
    """Runs a part, prints its time and peak memory, and returns what it returns."""
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    start = time.perf_counter()
    result = jax.block_until_ready(work())
    seconds = time.perf_counter() - start
    print(f"{name:42s} {seconds:7.1f} s   peak {resident('VmHWM') / GIB:6.2f} GiB", flush=True)
    return result


def configuration(path: Path, variant: str) -> Config:
    """MedM's stage 2 on this checkpoint, with one example a step."""
    config = runpy.run_path(str(STAGE2))["get_config"]()
    config.model.checkpoint, config.model.variant = str(path), variant
    config.data.seq_len = TEXT
    config.stages.stage2.batch_size, config.stages.stage2.accumulate = 1, 1
    return from_config_dict(config)


def train_once(config: Config, base: Flat, batch: Batch) -> Any:
    """The metrics of one step of stage 2; a gradient that is not finite, or zero, is an error."""
    plan, trainable, frozen = begin_stage("stage2", config, base)
    state = init_state(trainable, plan.tx)
    static = {"model": plan.model, "tx": plan.tx, "options": plan.options}
    _, metrics = train_step(state, frozen, batch, jax.random.key(1), **static)
    if not 0 < float(metrics["grad_norm"]) < np.inf:
        raise ArithmeticError(f"the gradient's norm is {float(metrics['grad_norm'])}")
    return metrics


def roll_out(config: Config, base: Flat, batch: Batch) -> jax.Array:
    """The rollout of an answer's attention to the image."""
    model = make_model(config.model)

    def maps(leaves: Flat, batch: Batch) -> jax.Array:
        captured = capture(model, leaves, batch, answer_len=NEW_TOKENS, rollout=RolloutOptions())
        assert captured.rolled is not None
        return rollout_maps(captured.rolled[0], captured.query, num_patches=captured.num_patches)

    return jax.jit(maps)(base, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a native checkpoint, such as make_random_checkpoint.py writes")
    parser.add_argument("--variant", default="paligemma-3b-224", choices=VARIANTS, metavar="NAME")
    args = parser.parse_args()
    config = configuration(args.path, args.variant)
    variant = get_variant(args.variant)
    size = args.path.stat().st_size
    print(f"{args.path}: {size / GIB:.2f} GiB; before anything {resident('VmRSS') / GIB:.2f} GiB", flush=True)
    forget(args.path)
    measure("read the file", partial(read, args.path))
    forget(args.path)
    load = partial(big_vision.load, args.path, base_shapes(config, config.stage_names))
    base = measure("load it, with its sha256", lambda: load()[0])
    batch = jax.tree.map(jnp.asarray, Batch.fake(1, variant.resolution, TEXT, vocab=variant.llm.vocab_size))
    greedy = DecodeConfig(max_new_tokens=NEW_TOKENS)
    model = make_model(config.model)
    prompt = batch._replace(mask_input=batch.mask_input * (1 - batch.mask_ar))
    answer = partial(decode, model, base, prompt, jax.random.key(0), config=greedy, eos=-1)
    decoded = measure(f"an answer of {NEW_TOKENS} tokens", answer)
    assert int(decoded.steps) == NEW_TOKENS
    measure("the same again, compiled", answer)
    metrics = measure("one step of stage 2", partial(train_once, config, base, batch))
    maps = measure("attention rollout", partial(roll_out, config, base, batch))
    finite = bool(jnp.isfinite(maps).all())
    _, tokens, *grid = maps.shape
    print(f"loss {float(metrics['loss']):.3f}; rollout of {tokens} tokens to {grid} patches, finite: {finite}")


if __name__ == "__main__":
    run_script(main)
