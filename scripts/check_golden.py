"""Compares this implementation with numbers that big_vision computed, and prints the largest error of each kind.

    python scripts/check_golden.py --dir tests/golden

For every pair NAME_params.npz / NAME_io.npz in the folder: image tokens, text logits, loss per example, gradient of
every leaf, attention probabilities, logits of the prefill and of each decoding step, greedy tokens. Sizes come from the
arrays; a NAME that starts with `paligemma2` has soft caps (attention 50, final 30 in decoding steps). If present:
tokenizer.json with tiny_tokenizer.model (ids and packed rows, exactly) and resize.npz. Exit code 1 on a failure.
"""

import argparse
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import DecodeConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import reference_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.files import read_json
from radvqa_jax.models.attention import TAPS
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import infer_variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.loss import example_loss, token_loss
from radvqa_jax.trees import Flat

ABSOLUTE = 2e-4
RELATIVE = 1e-3
# A gradient that is zero in exact arithmetic (attention's key bias: a shift of all logits of a row) is only noise in
# float32. Below this share of the whole gradient's norm a leaf counts as zero, and ours must be as small.
ZERO_SHARE = 1e-6


class Check(NamedTuple):
    """One comparison: it holds if error <= limit."""

    name: str
    error: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the limit; a NaN is not."""
        return bool(self.error <= self.limit)


def largest_error(ours: Any, golden: Any) -> float:
    """Max |ours - golden|; arrays of different shape are a ValueError."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    if ours.shape != golden.shape:
        raise ValueError(f"shape {ours.shape}, golden {golden.shape}")
    return float(np.abs(ours.astype(np.float64) - golden.astype(np.float64)).max())


def _relative(ours: Any, golden: np.ndarray, scale: float) -> float:
    """|ours - golden| over |golden| (norms), or 0 where both are zero by ZERO_SHARE of `scale`."""
    floor = ZERO_SHARE * scale
    if np.linalg.norm(golden) <= floor and np.linalg.norm(ours) <= floor:
        return 0.0
    return float(np.linalg.norm(ours - golden) / max(float(np.linalg.norm(golden)), floor))


def _inputs(io: dict[str, np.ndarray], *names: str) -> list[jax.Array]:
    return [jnp.asarray(io[name]) for name in names]


def check_forward(model: PaliGemma, params: Flat, io: dict[str, np.ndarray]) -> Iterator[Check]:
    """Yields the teacher-forced comparisons."""
    collections = variables(params)
    image, text, mask_ar = _inputs(io, "image", "text", "mask_ar")
    image_tokens = jax.jit(partial(model.apply, method="embed_image"))(collections, image)
    yield Check("image tokens", largest_error(image_tokens, io["zimg"]), ABSOLUTE)
    forward = jax.jit(partial(model.apply, mutable=[TAPS]))
    logits, taps = forward(collections, image, text[:, :-1], mask_ar[:, :-1])
    yield Check("text logits", largest_error(logits, io["text_logits"]), ABSOLUTE)
    probs = taps[TAPS]["llm"]["layers"]["attn"]["attn_probs"]
    yield Check("attention probabilities", largest_error(probs, io["attention_probs"]), ABSOLUTE)


def check_gradients(model: PaliGemma, params: Flat, io: dict[str, np.ndarray]) -> Iterator[Check]:
    """Yields the comparisons of loss and gradients."""
    image, text, mask_ar, mask_loss = _inputs(io, "image", "text", "mask_ar", "mask_loss")

    def loss(leaves: Flat) -> tuple[jax.Array, jax.Array]:
        logits: Any = model.apply(variables(leaves), image, text[:, :-1], mask_ar[:, :-1])
        per_example = example_loss(token_loss(logits, text[:, 1:]), mask_loss[:, 1:])
        return per_example.mean(), per_example

    grads, per_example = jax.jit(jax.grad(loss, has_aux=True))(params)
    yield Check("loss per example", largest_error(per_example, io["per_example_loss"]), ABSOLUTE)
    ours = {name: np.asarray(leaf, np.float64) for name, leaf in grads.items()}
    norms = {name: io[f"grad_norm/{name}"] for name in params}
    scale = float(np.linalg.norm(list(norms.values())))
    worst = max(_relative(np.linalg.norm(ours[name]), norms[name], scale) for name in params)
    yield Check("gradient norms, every leaf (relative)", worst, RELATIVE)
    whole = [_relative(ours[name], io[f"grad/{name}"], scale) for name in params if f"grad/{name}" in io]
    yield Check("gradients, leaves given whole (relative)", max(whole, default=0.0), RELATIVE)


def check_decoding(model: PaliGemma, params: Flat, io: dict[str, np.ndarray]) -> Iterator[Check]:
    """Yields the comparisons of prefill, steps with a cache, and the greedy loop."""
    image, prompt, mask_ar, mask_input = _inputs(io, "image", "prompt", "prompt_mask_ar", "prompt_mask_input")
    golden, steps = io["decode_logits"], io["decode_tokens"].shape[1]
    collections = variables(params)
    prefill = jax.jit(partial(model.apply, new_tokens=steps, method="prefill"))
    extend = jax.jit(partial(model.apply, method="extend"))
    logits, state = prefill(collections, image, prompt, mask_ar, mask_input)
    yield Check("prefill logits", largest_error(logits, golden[:, 0]), ABSOLUTE)
    worst = 0.0
    for step in range(steps):
        logits, state = extend(collections, jnp.asarray(io["decode_tokens"][:, step]), state)
        worst = max(worst, largest_error(logits, golden[:, step + 1]))
    yield Check("step logits", worst, ABSOLUTE)
    batch = Batch(image, prompt, mask_ar, 0 * prompt, mask_input, np.ones(len(prompt), bool))
    config = DecodeConfig(max_new_tokens=steps)
    never = -1  # the golden loop does not stop at EOS
    out = decode(model, params, batch, jax.random.key(0), config=config, eos=never)
    yield Check("greedy tokens (wrong ones)", float((np.asarray(out.tokens[:, 0]) != io["decode_tokens"]).sum()), 0)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; ValueError if it is not one."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file. Give the folder with the files as the reference wrote them.")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def check_model(folder: Path, name: str) -> Iterator[Check]:
    """Yields every comparison of one pair of files."""
    arrays, io = read(folder / f"{name}_params.npz"), read(folder / f"{name}_io.npz")
    params = {key.removeprefix("params/"): jnp.asarray(leaf) for key, leaf in arrays.items()}
    model = PaliGemma(infer_variant(params, gemma2=name.startswith("paligemma2")))
    for part in (check_forward, check_gradients, check_decoding):
        yield from part(model, params, io)


def check_tokenizer(folder: Path) -> Iterator[Check]:
    """Yields the comparisons of token ids, of texts decoded from them, and of packed rows; each counts wrong ones."""
    golden, tokenizer = read_json(folder / "tokenizer.json"), Tokenizer(folder / "tiny_tokenizer.model")
    wrong = {"token ids": 0, "texts": 0, "packed rows": 0}
    for case in golden["cases"]:
        wrong["token ids"] += tokenizer.encode(case["text"]) != case["ids"]
        wrong["token ids"] += tokenizer.encode(case["text"], bos=True, eos=True) != case["ids_bos_eos"]
        wrong["texts"] += tokenizer.decode(case["ids"]) != case["back"]
    for case in golden["packed"]:
        rows = reference_rows(tokenizer, case["prefix"], suffix=case["suffix"], seq_len=case["seq_len"])
        wrong["packed rows"] += any(rows[kind] != case[kind] for kind in ("train", "eval"))
    for name, count in wrong.items():
        yield Check(f"{name} (wrong ones)", float(count), 0)


def check_resize(folder: Path) -> Iterator[Check]:
    """Yields the comparisons of resized images in grey levels."""
    images = read(folder / "resize.npz")
    pairs = [(image, images[key.replace("in_", "out_")]) for key, image in images.items() if key.startswith("in_")]
    largest, unequal = 0.0, 0.0
    for image, golden in pairs:
        levels = np.rint((resize_image(image, golden.shape[0]) - golden) * 127.5)
        largest, unequal = max(largest, float(np.abs(levels).max())), max(unequal, float((levels != 0).mean()))
    yield Check("resize (grey levels)", largest, 1)
    yield Check("resize (share of unequal values)", unequal, 0.002)


def check_folder(folder: Path) -> dict[str, list[Check]]:
    """Every comparison that the files in a folder allow, by the name of the golden file."""
    jobs: dict[str, Callable[[], Iterator[Check]]] = {}
    for path in sorted(folder.glob("*_params.npz")):
        name = path.name.removesuffix("_params.npz")
        if not (folder / f"{name}_io.npz").is_file():
            raise FileNotFoundError(f"{path} has no {name}_io.npz in its folder; both are needed.")
        jobs[name] = lambda name=name: check_model(folder, name)
    if (folder / "tokenizer.json").is_file():
        jobs["tokenizer"] = lambda: check_tokenizer(folder)
    if (folder / "resize.npz").is_file():
        jobs["resize"] = lambda: check_resize(folder)
    if not jobs:
        raise FileNotFoundError(f"{folder} holds no *_params.npz, tokenizer.json or resize.npz. Give another --dir.")
    with jax.default_matmul_precision("highest"):
        return {name: list(job()) for name, job in jobs.items()}


def report(results: dict[str, list[Check]]) -> int:
    """Prints every comparison and how many hold; returns the exit code, 1 if one does not."""
    failed = 0
    for name, checks in results.items():
        print(name)
        for check in checks:
            failed += not check.holds
            print(f"  {'ok  ' if check.holds else 'FAIL'} {check.name:44} {check.error:.3g} (limit {check.limit:g})")
    print(f"{sum(map(len, results.values())) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="folder with golden files")
    return report(check_folder(parser.parse_args().dir))


if __name__ == "__main__":
    run_script(main)
