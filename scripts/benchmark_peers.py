"""Times a LoRA training step and decoding against Hugging Face's transformers and peft: same weights, same batch.

    pip install -e '.[bench]'
    python scripts/benchmark_peers.py            # a quarter of an hour on two idle cores

Both programs live in one process, compute in float32 on the same cores, and take turns; the result is the ratio of
their times, pair by pair: its median, and the lowest and highest. First their logits and losses must agree. Peak memory
is that of a process of its own for each program, above what it held before the model was made. transformers runs as
its users run it: eager, with scaled-dot-product attention; neither side computes anything again to save memory.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import ATTENTION_WEIGHTS, DecodeConfig, LoraConfig, OptimConfig
from radvqa_jax.decoding.decode import decode
from radvqa_jax.models import lora
from radvqa_jax.models.fused_attention import with_attention
from radvqa_jax.models.paligemma import PaliGemma, abstract_params, variables
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch
from radvqa_jax.training.optimizer import make_optimizer
from radvqa_jax.training.step import StepOptions, init_state, train_step
from radvqa_jax.trees import Flat

try:
    import hf_peer
    import peft  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as absent:
    sys.exit(f"error: {absent}: the peers are in the extra `bench`. Install it: pip install -e '.[bench]'")


VARIANT = Variant(
    SiglipConfig(width=384, depth=6, mlp_dim=1536, num_heads=6, patch=14),
    GemmaConfig(width=512, depth=6, mlp_dim=2048, num_heads=8, num_kv_heads=1, head_dim=64, vocab_size=32_000),
    224,
)
ROWS, TEXT, NEW_TOKENS, SAMPLES = 4, 64, 16, 5
RANK, ALPHA, RATE = 8, 32, 1e-4
AGREE = 1e-3  # of logits


def make_weights() -> Flat:
    """Random leaves; norms and biases too."""
    rng = np.random.default_rng(0)
    return {
        name: (0.04 * rng.standard_normal(leaf.shape)).astype(np.float32)
        for name, leaf in abstract_params(VARIANT).items()
    }


def make_batch() -> Batch:
    """Rows of the same length, half question and half answer, without padding."""
    batch = Batch.fake(ROWS, VARIANT.resolution, TEXT, vocab=VARIANT.llm.vocab_size - 1)
    tokens = np.random.default_rng(1).integers(4, VARIANT.llm.vocab_size - 1, batch.tokens.shape).astype(np.int32)
    mask_ar = np.broadcast_to(np.arange(TEXT + 1) >= TEXT // 2, tokens.shape).astype(np.int32)
    return batch._replace(tokens=tokens, mask_ar=mask_ar, mask_loss=mask_ar, mask_input=np.ones_like(tokens))


def make_prompt(batch: Batch) -> Batch:
    """The first half of each row as a prompt."""
    cut = {name: getattr(batch, name)[:, : TEXT // 2] for name in ("tokens", "mask_ar", "mask_loss", "mask_input")}
    return batch._replace(**cut)


class Ours:
    """This project: a step, greedy answers, sampled answers."""

    name = "radvqa_jax"

    def __init__(self, weights: Flat, batch: Batch) -> None:
        base = {name: jnp.asarray(leaf) for name, leaf in weights.items()}
        config = LoraConfig(rank=RANK, alpha=float(ALPHA), targets=((ATTENTION_WEIGHTS, "lora"), (".*", "none")))
        adapters = lora.resolve(config, base)
        assert adapters is not None
        variant = with_attention(VARIANT, "auto", dtype=jnp.float32)
        self.model, self.base = PaliGemma(variant, adapters, unroll=VARIANT.llm.depth), base
        self.adapters = lora.init(jax.random.key(0), adapters, base)
        self.tx = make_optimizer(
            OptimConfig(learning_rate=RATE, schedule="constant", warmup_steps=0, weight_decay=0.0),
            dict.fromkeys(self.adapters, "train:lora"),
            1000,
        )
        self.state = init_state(self.adapters, self.tx)
        self.batch = jax.tree.map(jnp.asarray, batch)
        self.prompt = jax.tree.map(jnp.asarray, make_prompt(batch))
        self.options = StepOptions(loss_weighting="per_token")

    def logits(self) -> np.ndarray:
        """Logits of the text positions [B T V]."""
        tokens, mask_ar = self.batch.tokens[:, :-1], self.batch.mask_ar[:, :-1]
        apply = jax.jit(lambda leaves: PaliGemma(VARIANT).apply(variables(leaves), self.batch.image, tokens, mask_ar))
        return np.asarray(apply(self.base))

    def step(self) -> float:
        """Takes one training step and returns the loss before it."""
        static = {"model": self.model, "tx": self.tx, "options": self.options}
        self.state, metrics = train_step(self.state, self.base, self.batch, jax.random.key(0), **static)
        return float(metrics["loss"])

    def answers(self, config: DecodeConfig) -> np.ndarray:
        """The answers' tokens [B k T]."""
        leaves = self.base | self.state.trainable
        return np.asarray(decode(self.model, leaves, self.prompt, jax.random.key(0), config=config, eos=-1).tokens)


class Peer:
    """transformers with peft: the same."""

    name = "transformers + peft"

    def __init__(self, weights: Flat, batch: Batch) -> None:
        base = hf_peer.make_model(VARIANT, weights)
        config = peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=r".*\.(q_proj|k_proj|v_proj|o_proj|out_proj)"
        )
        self.model: Any = peft.get_peft_model(base, config)
        trained = [leaf for leaf in self.model.parameters() if leaf.requires_grad]
        self.trained = sum(leaf.numel() for leaf in trained)
        self.optimizer = torch.optim.Adam(trained, lr=RATE)
        self.inputs, self.targets = hf_peer.inputs_of(VARIANT, batch), hf_peer.targets_of(batch)
        prompt = make_prompt(batch)
        longer = prompt._replace(**{n: np.pad(getattr(prompt, n), ((0, 0), (0, 1))) for n in ("tokens", "mask_ar")})
        self.prompt = hf_peer.inputs_of(VARIANT, longer)

    def logits(self) -> np.ndarray:
        """Logits of the text positions [B T V]."""
        with torch.inference_mode():
            return self.model(**self.inputs).logits[:, VARIANT.num_patches :].numpy()

    def step(self) -> float:
        """Takes one training step and returns the loss before it; logits are made of the text positions only."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(**self.inputs, logits_to_keep=TEXT).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), self.targets.flatten(), ignore_index=hf_peer.IGNORED
        )
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def answers(self, config: DecodeConfig) -> np.ndarray:
        """The answers' tokens [B k T]."""
        self.model.eval()
        sampled = {"do_sample": True, "top_k": config.top_k} if config.temperature else {"do_sample": False}
        length = {"max_new_tokens": config.max_new_tokens, "min_new_tokens": config.max_new_tokens}
        with torch.inference_mode():
            out = self.model.generate(**self.prompt, **sampled, **length, num_return_sequences=config.samples)
        return out[:, -config.max_new_tokens :].reshape(ROWS, config.samples, -1).numpy()


GREEDY = DecodeConfig(max_new_tokens=NEW_TOKENS)
SAMPLED = DecodeConfig(max_new_tokens=NEW_TOKENS, samples=SAMPLES, temperature=1.0, top_k=40)
TASKS: dict[str, Callable[[Any], Any]] = {
    "LoRA training step": lambda side: side.step(),
    f"greedy answer of {NEW_TOKENS} tokens": lambda side: side.answers(GREEDY),
    f"{SAMPLES} sampled answers of {NEW_TOKENS} tokens": lambda side: side.answers(SAMPLED),
}


def resident(kind: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def told_memory(side: str) -> None:
    """Takes three steps with one program and prints how far memory rose above that of the libraries."""
    before = resident("VmRSS")
    weights, batch = make_weights(), make_batch()
    program = (Ours if side == "ours" else Peer)(weights, batch)
    for _ in range(3):
        program.step()
    print(resident("VmHWM") - before)


def peak(side: str) -> int:
    """Bytes that a process of its own takes for training with one program."""
    done = subprocess.run([sys.executable, __file__, "--memory", side], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def check(ours: Ours, peer: Peer) -> None:
    """Prints how far logits and losses are apart; ends the script if that is too far."""
    have, want = ours.logits(), peer.logits()
    apart = float(np.abs(have - want).max())
    losses = ours.step(), peer.step()
    trained = sum(leaf.size for leaf in ours.adapters.values()), peer.trained
    print(f"logits: largest difference {apart:.2g} of values up to {np.abs(want).max():.3g}")
    print(f"loss before the first step: {losses[0]:.6f} and {losses[1]:.6f}; trained weights {trained[0]:,} each")
    if apart > AGREE or abs(losses[0] - losses[1]) > AGREE or trained[0] != trained[1]:
        sys.exit(f"The two programs do not compute the same (trained weights {trained}): the times mean nothing.")


def race(run: Callable[[Any], Any], sides: Sequence[Any], rounds: int) -> list[list[float]]:
    """Seconds of each program, in turns, the first one changing from round to round."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for index in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            run(sides[index])
            times[index].append(time.perf_counter() - start)
    return [seconds[1:] for seconds in times]  # the first round warms up, and compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="of torch; JAX takes the cores that are there")
    parser.add_argument("--memory", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        return told_memory(args.memory)
    weights, batch = make_weights(), make_batch()
    sides = Ours(weights, batch), Peer(weights, batch)
    check(*sides)
    for name, run in TASKS.items():
        ours, peer = race(run, sides, args.rounds)
        ratios = [b / a for a, b in zip(ours, peer, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        seconds = f"{statistics.median(ours):.3f} s and {statistics.median(peer):.3f} s"
        print(f"{name}: {spread} times as fast; {seconds}", flush=True)
        if name.startswith("LoRA"):
            tokens = ROWS * (VARIANT.num_patches + TEXT)
            speeds = [tokens / statistics.median(side) for side in (ours, peer)]
            print(f"  tokens a second, image tokens included: {speeds[0]:,.0f} and {speeds[1]:,.0f}")
    sizes = [peak(side) / 2**20 for side in ("ours", "peer")]
    print(f"peak memory of training above the libraries': {sizes[0]:,.0f} MiB and {sizes[1]:,.0f} MiB")


if __name__ == "__main__":
    run_script(main)
