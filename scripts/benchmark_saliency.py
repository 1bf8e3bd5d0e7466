"""Measures the cost of capturing attention, relative to the plain forward pass, as ratios with their spread.

    python scripts/benchmark_saliency.py
    python scripts/benchmark_saliency.py --resolution 112 --repeats 5

A PaliGemma of middle size with random weights (vision tower 384 wide and 6 deep, language model 512 and 6, 224 pixels)
answers one question. Every round runs the plain pass and each way of capturing once, in random order. Ratios are taken
within a round, so that other load on the machine affects both; their median and quartiles are printed. The plain pass
computes the same log probabilities of the answer without capturing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from radvqa_jax.backbones import fake_params
from radvqa_jax.command_line.script import run_script
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.saliency.capture import answer_logprobs, capture
from radvqa_jax.saliency.relevancy import relevancy
from radvqa_jax.saliency.rollout import RolloutOptions
from radvqa_jax.schema import Batch

ANSWER_LEN = 8
VOCABULARY = 4096
# Name -> (options of `capture`, highest allowed cost in plain passes; None = no limit).
WAYS: dict[str, tuple[dict[str, Any], float | None]] = {
    "answer rows": ({"rows": "answer"}, 1.15),
    "rollout": ({"rows": "answer", "rollout": RolloutOptions()}, 1.5),
    "rollout, both towers": ({"rows": "answer", "rollout": RolloutOptions(), "vision_rollout": RolloutOptions()}, None),
    "value norms": ({"rows": "answer", "value_norm": True}, None),
    "all rows": ({"rows": "all"}, None),
}


def make_variant(resolution: int) -> Variant:
    """The middle size."""
    img = SiglipConfig(width=384, depth=6, mlp_dim=1536, num_heads=6, patch=14)
    llm = GemmaConfig(width=512, depth=6, mlp_dim=2048, num_heads=8, num_kv_heads=1, head_dim=64, vocab_size=VOCABULARY)
    return Variant(img, llm, resolution)


def measure(ways: dict[str, Callable[[], Any]], *, repeats: int) -> dict[str, list[float]]:
    """The seconds of each way in each round, after one round that compiles."""
    for run in ways.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for _ in range(repeats):
        for name in rng.permutation(list(ways)):
            start = time.perf_counter()
            jax.block_until_ready(ways[name]())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: dict[str, list[float]], limits: dict[str, float | None]) -> list[str]:
    """A line for each way: the ratio to the plain pass of the same round, its quartiles, and the limit."""
    plain = seconds["plain"]
    lines = [f"plain pass: median {statistics.median(plain):.3f} s over {len(plain)} rounds"]
    for name, values in seconds.items():
        if name == "plain":
            continue
        ratios = [value / base for value, base in zip(values, plain, strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        limit = limits.get(name)
        verdict = "" if limit is None else f"  limit {limit}: {'holds' if middle <= limit else 'BROKEN'}"
        lines.append(f"{name:22}{middle:.3f} x plain  [quartiles {low:.3f}, {high:.3f}]{verdict}")
    return lines


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=224, help="pixels, a multiple of 14")
    parser.add_argument("--seq-len", type=int, default=32, help="text tokens")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that are measured")
    parser.add_argument("--relevancy", action="store_true", help="also time gradient-weighted relevancy (minutes)")
    args = parser.parse_args()
    if args.resolution < 14 or args.resolution % 14 or args.repeats < 1 or args.seq_len < 2 * ANSWER_LEN:
        parser.error(
            f"--resolution={args.resolution} must be a multiple of 14, --repeats={args.repeats} at least 1, and "
            f"--seq-len={args.seq_len} at least {2 * ANSWER_LEN}."
        )
    variant = make_variant(args.resolution)
    model, params = PaliGemma(variant), fake_params(variant)
    batch = jax.tree.map(jax.numpy.asarray, Batch.fake(1, args.resolution, args.seq_len, vocab=VOCABULARY))
    ways: dict[str, Callable[[], Any]] = {"plain": lambda: answer_logprobs(model, params, batch, answer_len=ANSWER_LEN)}
    for name, (asked, _) in WAYS.items():
        ways[name] = lambda asked=asked: capture(model, params, batch, answer_len=ANSWER_LEN, **asked)
    if args.relevancy:
        ways["relevancy"] = lambda: relevancy(model, params, batch, answer_len=ANSWER_LEN)
    print(f"{variant.num_patches} patches + {args.seq_len} text tokens, {jax.devices()[0].device_kind}", flush=True)
    limits = {name: limit for name, (_, limit) in WAYS.items()}
    print("\n".join(summary(measure(ways, repeats=args.repeats), limits)))


if __name__ == "__main__":
    run_script(main)
