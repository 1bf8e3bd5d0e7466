"""The same LoRA training step and the same answers by this project and by transformers with peft, on one device.

For benchmark_peers.py and device_day.py; needs `bench`. transformers runs as its users run it: eager, with
scaled-dot-product attention. In bfloat16 its adapters are float32 under autocast, as ours are.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hf_peer
import jax
import jax.numpy as jnp
import numpy as np
import peft  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from radvqa_jax.backbones import PALIGEMMA
from radvqa_jax.config import ATTENTION_WEIGHTS, DecodeConfig, LoraConfig, OptimConfig
from radvqa_jax.decoding.decode import decode
from radvqa_jax.models import lora
from radvqa_jax.models.fused_attention import with_attention
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import Variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.optimizer import make_optimizer
from radvqa_jax.training.step import StepOptions, init_state, train_step
from radvqa_jax.trees import Flat

RANK, ALPHA, RATE = 8, 32, 1e-4
# Largest difference of logits and loss, as a share of the largest logit: rounding explains this much.
AGREE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Job:
    """The work of both sides."""

    variant: Variant
    rows: int  # examples at a time
    accumulate: int  # parts of a step
    text: int  # positions of a row
    dtype: str = "float32"  # of frozen weights and of products
    device: str = "cpu"  # as torch names it
    remat: Remat = "none"
    unroll: int = 1  # layers in one turn of our loop over layers

    def batch(self) -> Batch:
        """Rows of the same length, half question and half answer, without padding."""
        rows, vocab = self.rows * self.accumulate, self.variant.llm.vocab_size - 1
        batch = Batch.fake(rows, self.variant.resolution, self.text, vocab=vocab)
        tokens = np.random.default_rng(1).integers(4, vocab, batch.tokens.shape).astype(np.int32)
        mask_ar = np.broadcast_to(np.arange(self.text + 1) >= self.text // 2, tokens.shape).astype(np.int32)
        return batch._replace(tokens=tokens, mask_ar=mask_ar, mask_loss=mask_ar, mask_input=np.ones_like(tokens))

    def prompt(self) -> Batch:
        """The first half of each row of one part as a prompt."""
        batch = jax.tree.map(lambda x: x[: self.rows], self.batch())
        cut = {n: getattr(batch, n)[:, : self.text // 2] for n in ("tokens", "mask_ar", "mask_loss", "mask_input")}
        return batch._replace(**cut)


class Ours:
    """This project: a step, greedy answers, sampled answers."""

    name = "radvqa_jax"

    def __init__(self, job: Job, weights: Flat) -> None:
        self.job, self.base = job, {name: jnp.asarray(leaf, job.dtype) for name, leaf in weights.items()}
        config = LoraConfig(rank=RANK, alpha=float(ALPHA), targets=((ATTENTION_WEIGHTS, "lora"), (".*", "none")))
        adapters = lora.resolve(config, self.base, PALIGEMMA.equations)
        assert adapters is not None
        dtype = jnp.dtype(job.dtype)
        variant = with_attention(job.variant, "auto", dtype=dtype, text_len=job.text)
        self.model = PaliGemma(variant, adapters, dtype, job.remat, unroll=job.unroll)
        self.adapters = lora.init(jax.random.key(0), adapters, self.base)
        self.tx = make_optimizer(
            OptimConfig(learning_rate=RATE, schedule="constant", warmup_steps=0, weight_decay=0.0),
            dict.fromkeys(self.adapters, "train:lora"),
            1000,
        )
        self.state = init_state(self.adapters, self.tx)
        self.trained = sum(leaf.size for leaf in self.adapters.values())
        self.batch, self.prompt = (jax.tree.map(jnp.asarray, batch) for batch in (job.batch(), job.prompt()))
        self.options = StepOptions(job.accumulate, loss_weighting="per_token")

    def logits(self) -> np.ndarray:
        """Logits of the text positions [B T V] of the first part."""
        batch = jax.tree.map(lambda x: x[: self.job.rows], self.batch)
        tokens, mask_ar = batch.tokens[:, :-1], batch.mask_ar[:, :-1]
        plain = PaliGemma(self.job.variant, dtype=jnp.dtype(self.job.dtype))
        apply = jax.jit(lambda leaves: plain.apply(variables(leaves), batch.image, tokens, mask_ar))
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

    def __init__(self, job: Job, weights: Flat) -> None:
        self.job = job
        base = hf_peer.make_model(job.variant, weights, dtype=job.dtype, device=job.device)
        config = peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=r".*\.(q_proj|k_proj|v_proj|o_proj|out_proj)"
        )
        self.model: Any = peft.get_peft_model(base, config)
        trained = [leaf for leaf in self.model.parameters() if leaf.requires_grad]
        self.trained = sum(leaf.numel() for leaf in trained)
        self.optimizer = torch.optim.Adam(trained, lr=RATE)
        batch, prompt = job.batch(), job.prompt()
        # Part i has the rows i, i + accumulate, … as in ours; rows are equally long, so the loss does not depend on it.
        parts = [jax.tree.map(lambda x, i=i: x[i :: job.accumulate], batch) for i in range(job.accumulate)]
        self.parts = [(self._inputs(part), hf_peer.targets_of(part).to(job.device)) for part in parts]
        self.first = self._inputs(jax.tree.map(lambda x: x[: job.rows], batch))
        longer = prompt._replace(**{n: np.pad(getattr(prompt, n), ((0, 0), (0, 1))) for n in ("tokens", "mask_ar")})
        self.prompt = self._inputs(longer)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        inputs = {name: value.to(self.job.device) for name, value in hf_peer.inputs_of(self.job.variant, batch).items()}
        return inputs | {"pixel_values": inputs["pixel_values"].to(getattr(torch, self.job.dtype))}

    def _autocast(self) -> Any:
        half = self.job.dtype != "float32"
        return torch.autocast(self.job.device.partition(":")[0], getattr(torch, self.job.dtype), enabled=half)

    def logits(self) -> np.ndarray:
        """Logits of the text positions [B T V] of the first part."""
        with torch.inference_mode(), self._autocast():
            logits = self.model(**self.first).logits[:, self.job.variant.num_patches :]
        return logits.float().cpu().numpy()

    def step(self) -> float:
        """Takes one training step and returns the loss before it; computes logits of the text positions only."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.job.device)
        for inputs, targets in self.parts:
            with self._autocast():
                logits = self.model(**inputs, logits_to_keep=self.job.text).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), ignore_index=hf_peer.IGNORED
            )
            (loss / len(self.parts)).backward()
            total += loss.detach() / len(self.parts)
        self.optimizer.step()
        return float(total)

    def answers(self, config: DecodeConfig) -> np.ndarray:
        """The answers' tokens [B k T]."""
        self.model.eval()
        sampled = {"do_sample": True, "top_k": config.top_k} if config.temperature else {"do_sample": False}
        length = {"max_new_tokens": config.max_new_tokens, "min_new_tokens": config.max_new_tokens}
        with torch.inference_mode(), self._autocast():
            out = self.model.generate(**self.prompt, **sampled, **length, num_return_sequences=config.samples)
        return out[:, -config.max_new_tokens :].reshape(self.job.rows, config.samples, -1).cpu().numpy()


def compare(ours: Ours, peer: Peer) -> dict[str, float]:
    """The differences of logits and of the loss before the first step, and the leaves that each side trains.

    Raises:
        ArithmeticError: if the two do not compute the same, so that their times would mean nothing.
    """
    have, want = ours.logits(), peer.logits()
    losses = ours.step(), peer.step()
    said = {
        "logits_apart": float(np.abs(have - want).max()),
        "largest_logit": float(np.abs(want).max()),
        "loss_ours": losses[0],
        "loss_peer": losses[1],
        "trained_ours": ours.trained,
        "trained_peer": peer.trained,
    }
    limit = AGREE[ours.job.dtype] * said["largest_logit"]
    if not max(said["logits_apart"], abs(losses[0] - losses[1])) <= limit or ours.trained != peer.trained:
        raise ArithmeticError(f"The two programs do not compute the same: {said}, limit {limit:.3g}.")
    return said


def race(run: Callable[[Any], Any], sides: Sequence[Any], rounds: int) -> list[list[float]]:
    """Seconds of each program, in turns, the first one changing from round to round."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for index in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            run(sides[index])
            times[index].append(time.perf_counter() - start)
    return [seconds[1:] for seconds in times]  # the first round warms up, and compiles


def tasks(new_tokens: int, samples: int) -> dict[str, Callable[[Any], Any]]:
    """The timed functions, by name; each returns only when its result is on the host."""
    greedy = DecodeConfig(max_new_tokens=new_tokens)
    sampled = DecodeConfig(max_new_tokens=new_tokens, samples=samples, temperature=1.0, top_k=40)
    return {
        "LoRA training step": lambda side: side.step(),
        f"greedy answer of {new_tokens} tokens": lambda side: side.answers(greedy),
        f"{samples} sampled answers of {new_tokens} tokens": lambda side: side.answers(sampled),
    }
