"""Times a LoRA training step and decoding against Hugging Face's transformers and peft: same weights, same batch.

    pip install -e '.[bench]'
    python scripts/benchmark_peers.py            # a quarter of an hour on two idle cores

Both programs run in one process, compute in float32 on the same cores, and take turns. The result is the ratio of their
times, pair by pair: median, lowest and highest. First their logits and losses must agree. Peak memory is measured in a
separate process for each program, as the rise above what it held before the model was made. transformers runs as its
users run it: eager, with scaled-dot-product attention. Neither side rematerialises activations.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from radvqa_jax.backbones import abstract_params
from radvqa_jax.command_line.script import run_script
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.trees import Flat

try:
    import torch  # pyright: ignore[reportMissingImports]
    from peer_sides import Job, Ours, Peer, compare, race, tasks
except ModuleNotFoundError as absent:
    sys.exit(f"error: {absent}. The extra `bench` has torch, transformers and peft: pip install -e '.[bench]'")


VARIANT = Variant(
    SiglipConfig(width=384, depth=6, mlp_dim=1536, num_heads=6, patch=14),
    GemmaConfig(width=512, depth=6, mlp_dim=2048, num_heads=8, num_kv_heads=1, head_dim=64, vocab_size=32_000),
    224,
)
JOB = Job(VARIANT, rows=4, accumulate=1, text=64, unroll=VARIANT.llm.depth)
NEW_TOKENS, SAMPLES = 16, 5


def make_weights() -> Flat:
    """Random leaves; norms and biases too."""
    rng = np.random.default_rng(0)
    return {
        name: (0.04 * rng.standard_normal(leaf.shape)).astype(np.float32)
        for name, leaf in abstract_params(VARIANT).items()
    }


def resident(kind: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def told_memory(side: str) -> None:
    """Takes three steps with one program and prints how far memory rose above that of the imported libraries."""
    before = resident("VmRSS")
    program = (Ours if side == "ours" else Peer)(JOB, make_weights())
    for _ in range(3):
        program.step()
    print(resident("VmHWM") - before)


def peak(side: str) -> int:
    """Peak bytes of a separate process that trains with one program."""
    done = subprocess.run([sys.executable, __file__, "--memory", side], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def check(ours: Ours, peer: Peer) -> None:
    """Prints how much logits and losses differ; an ArithmeticError ends the script if they differ too much."""
    said = compare(ours, peer)
    print(f"logits: largest difference {said['logits_apart']:.2g}, with values up to {said['largest_logit']:.3g}")
    losses = f"{said['loss_ours']:.6f} and {said['loss_peer']:.6f}"
    print(f"loss before the first step: {losses}; trained weights {ours.trained:,} each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch; JAX uses all cores")
    parser.add_argument("--memory", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        return told_memory(args.memory)
    weights = make_weights()
    sides = Ours(JOB, weights), Peer(JOB, weights)
    check(*sides)
    for name, run in tasks(NEW_TOKENS, SAMPLES).items():
        ours, peer = race(run, sides, args.rounds)
        ratios = [b / a for a, b in zip(ours, peer, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        seconds = f"{statistics.median(ours):.3f} s and {statistics.median(peer):.3f} s"
        print(f"{name}: {spread} times as fast; {seconds}", flush=True)
        if name.startswith("LoRA"):
            tokens = JOB.rows * (VARIANT.num_patches + JOB.text)
            speeds = [tokens / statistics.median(side) for side in (ours, peer)]
            print(f"  tokens a second, image tokens included: {speeds[0]:,.0f} and {speeds[1]:,.0f}")
    sizes = [peak(side) / 2**20 for side in ("ours", "peer")]
    print(f"peak memory of training above the libraries': {sizes[0]:,.0f} MiB and {sizes[1]:,.0f} MiB")


if __name__ == "__main__":
    run_script(main)
