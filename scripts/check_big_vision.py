"""Compares this implementation with big_vision's own code, and prints the largest error of each kind.

    python scripts/check_big_vision.py --checkout DIR
    python scripts/check_big_vision.py --checkout DIR --checkpoint runs/export/big_vision/model.npz

DIR is a checkout of google-research/big_vision. Its PaliGemma is built at small sizes, once for each way in which the
released Gemmas differ, and both implementations get the same random weights and inputs. Compared are parameter names
and shapes, image tokens, text logits, and logits of the prefill and of each decoding step for prompts of different
lengths.

With --checkpoint, big_vision's own loader reads that file, an export or any other native npz, into its own model. Every
weight is compared bit by bit with the weight that this project reads, and then the same outputs in float32. It takes
about 1.5 times the memory of the model in float32: 18 GB for a 3B model.

big_vision itself needs TensorFlow to be importable: pip install -e '.[tf]'. Exit code 1 on a failure.
"""

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from check_golden import ABSOLUTE, Check, largest_error, report

from radvqa_jax.backbones import abstract_params, fake_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import Config, ModelConfig
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS, GemmaConfig, Variant, get_variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.resolve import resolve_model
from radvqa_jax.trees import Flat, diff, flatten, unflatten

PALIGEMMA, GEMMA = "big_vision.models.proj.paligemma.paligemma", "big_vision.models.ppp.gemma"
WRAPPER = "big_vision.models.proj.paligemma.gemma_bv"
DUMMY = VARIANTS["dummy"]
LENGTHS, STEPS = (6, 3, 1), 4  # of the prompts, in tokens; decoding steps
GEMMA2 = dataclasses.replace(DUMMY.llm, num_kv_heads=2, attn_softcap=50.0, final_softcap=30.0, post_norms=True)
# big_vision's name of a Gemma -> the same switches at a small size.
KINDS: dict[str, GemmaConfig] = {
    "gemma_2b": DUMMY.llm,  # multi-query
    "gemma_7b": dataclasses.replace(DUMMY.llm, num_kv_heads=DUMMY.llm.num_heads),  # fused query, key and value
    "gemma2_2b": GEMMA2,  # grouped-query
    # scales queries by the width per head; it must differ from head_dim, or the test would not see the difference
    "gemma2_27b": dataclasses.replace(GEMMA2, query_scale=(DUMMY.llm.width / DUMMY.llm.num_heads) ** -0.5),
}


class Inputs(NamedTuple):
    """Random inputs: right-padded rows for the forward pass and as prompts, and the tokens that follow a prompt."""

    image: jax.Array
    tokens: jax.Array
    mask_ar: jax.Array
    mask_input: jax.Array
    answer: jax.Array

    @staticmethod
    def draw(variant: Variant, seed: int) -> "Inputs":
        """Inputs of the sizes of a variant."""
        rng = np.random.default_rng(seed)
        rows, width, resolution = len(LENGTHS), max(LENGTHS), variant.resolution
        image = jnp.asarray(rng.uniform(-1, 1, (rows, resolution, resolution, 3)), jnp.float32)
        tokens = jnp.asarray(rng.integers(0, variant.llm.vocab_size, (rows, width)), jnp.int32)
        start = rng.integers(1, width, (rows, 1))
        mask_ar = jnp.asarray(np.arange(width)[None] >= start, jnp.int32)
        mask_input = jnp.asarray(np.arange(width)[None] < np.array(LENGTHS)[:, None])
        answer = jnp.asarray(rng.integers(0, variant.llm.vocab_size, (rows, STEPS)), jnp.int32)
        return Inputs(image, tokens, mask_ar, mask_input, answer)


def load_modules(checkout: Path) -> dict[str, ModuleType]:
    """big_vision's modules by name, from a checkout.

    Raises:
        ValueError: if the folder is not a checkout, or lacks what big_vision imports; it says what to do.
    """
    file = Path(*PALIGEMMA.split(".")).with_suffix(".py")
    if not (checkout / file).is_file():
        raise ValueError(
            f"--checkout={checkout} is not a checkout of google-research/big_vision: it has no {file}. "
            "Give the folder that contains the folder big_vision."
        )
    sys.path.insert(0, str(checkout.resolve()))
    try:
        modules = {name: importlib.import_module(name) for name in (PALIGEMMA, GEMMA, WRAPPER)}
    except ModuleNotFoundError as error:
        way_out = "pip install -e '.[tf]'" if (error.name or "").startswith("tensorflow") else "Install it first."
        raise ValueError(f"big_vision imports {error.name}, which is not installed. {way_out}") from error
    for name in KINDS:
        try:
            modules[GEMMA].get_config(name)
        except ValueError as error:
            raise ValueError(f"--checkout={checkout} is older than PaliGemma 2 ({error}). Update it.") from error
    return modules


def jitted(model: Any, **options: Any) -> Any:
    """A compiled `model.apply` with these options."""
    return jax.jit(partial(model.apply, **options))


def _config_of(released: Any, sizes: dict[str, Any], variant: str) -> Any:
    """big_vision's configuration of a Gemma with these sizes instead of its own."""
    config = released(variant)
    config.update(sizes)
    return config


def build(modules: dict[str, ModuleType], name: str, variant: Variant) -> tuple[Any, Any]:
    """(big_vision's PaliGemma, a context in which its Gemma has the sizes of `variant`)."""
    img, llm = variant.img, variant.llm
    vision = {"width": img.width, "depth": img.depth, "mlp_dim": img.mlp_dim, "num_heads": img.num_heads}
    vision |= {"patch_size": (img.patch, img.patch), "pool_type": "none", "scan": True}
    text = {"variant": name, "vocab_size": llm.vocab_size, "cache_dtype": "float32"}
    if "final_logits_softcap" in {field.name for field in dataclasses.fields(modules[WRAPPER].Model)}:
        text["final_logits_softcap"] = llm.final_softcap
    keys = ("width", "depth", "mlp_dim", "num_heads", "num_kv_heads", "head_dim")
    small = partial(_config_of, modules[GEMMA].get_config, {key: getattr(llm, key) for key in keys})
    return modules[PALIGEMMA].Model(img=vision, llm=text), mock.patch.object(modules[GEMMA], "get_config", small)


def check_tree(theirs: Any, variant: Variant, inputs: Inputs) -> Check:
    """The number of parameters with another name or shape."""
    shapes = jax.eval_shape(theirs.init, jax.random.key(0), inputs.image, inputs.tokens, inputs.mask_ar)
    found = diff(abstract_params(variant), flatten(shapes["params"]))
    for kind, lines in found.items():
        for line in lines:
            print(f"  {kind}: {line}")
    return Check("parameters (other name or shape)", float(sum(map(len, found.values()))), 0)


def decode_theirs(theirs: Any, weights: dict[str, Any], inputs: Inputs) -> Iterator[Any]:
    """Yields big_vision's logits after the prompt and after each token of the answer."""
    embed = jitted(theirs, method="embed_image_and_text")
    masks = {"input_mask": inputs.mask_input, "mask_ar": 0 * inputs.mask_ar}
    prompt, _ = embed(weights, inputs.image, inputs.tokens, **masks)
    room = prompt[0].shape[1] + STEPS
    logits, cache = jitted(theirs, cache_size=room, method="prefill_cache", mutable=["cache"])(weights, *prompt)
    yield logits[:, 0]
    embed_text = jitted(theirs, method="embed_text")
    extend = jitted(theirs, method="extend_cache", mutable=["cache"])
    for token in inputs.answer.T:
        x, _ = embed_text(weights, token[:, None])
        logits, cache = extend(weights | cache, x)
        yield logits[:, 0]


def decode_ours(ours: PaliGemma, params: Flat, inputs: Inputs) -> Iterator[Any]:
    """Yields our logits after the prompt and after each token of the answer."""
    weights = variables(params)
    prompt = inputs.image, inputs.tokens, 0 * inputs.mask_ar, inputs.mask_input
    logits, state = jitted(ours, new_tokens=STEPS, method="prefill")(weights, *prompt)
    yield logits
    extend = jitted(ours, method="extend")
    for token in inputs.answer.T:
        logits, state = extend(weights, token, state)
        yield logits


def compare(theirs: Any, variant: Variant, params: Flat, inputs: Inputs) -> Iterator[Check]:
    """Yields the differences between the outputs of both implementations with these weights."""
    weights, ours = {"params": unflatten(params)}, PaliGemma(variant)
    text = inputs.image, inputs.tokens, inputs.mask_ar
    logits, out = jitted(theirs)(weights, *text)
    # Small random weights give logits of about one; the error of float32 grows with them.
    limit = ABSOLUTE * max(1.0, float(jnp.std(logits)))
    tokens = out["img/zimg"]
    image_tokens = jitted(ours, method="embed_image")(variables(params), inputs.image)
    yield Check("image tokens", largest_error(image_tokens, tokens), ABSOLUTE * max(1.0, float(jnp.std(tokens))))
    yield Check("text logits", largest_error(jitted(ours)(variables(params), *text), logits), limit)
    both = zip(decode_ours(ours, params, inputs), decode_theirs(theirs, weights, inputs), strict=True)
    prefill, *steps = (largest_error(*pair) for pair in both)
    yield Check("prefill logits", prefill, limit)
    yield Check("step logits", max(steps), limit)


def check_kind(modules: dict[str, ModuleType], name: str, seed: int) -> Iterator[Check]:
    """Yields the comparisons of one Gemma."""
    variant = dataclasses.replace(DUMMY, llm=KINDS[name])
    theirs, small = build(modules, name, variant)
    params, inputs = fake_params(variant, seed=seed), Inputs.draw(variant, seed)
    with small, jax.default_matmul_precision("highest"):
        tree = check_tree(theirs, variant, inputs)
        yield tree
        if tree.holds:
            yield from compare(theirs, variant, params, inputs)


def kind_of(llm: GemmaConfig) -> str:
    """big_vision's name of a Gemma with the same switches."""
    if llm.post_norms:
        return "gemma2_27b" if llm.query_scale not in (0.0, llm.head_dim**-0.5) else "gemma2_2b"
    return "gemma_7b" if llm.num_kv_heads == llm.num_heads else "gemma_2b"


def variant_of_file(path: Path, given: str) -> Variant:
    """The sizes of a native checkpoint.

    Raises:
        FileNotFoundError, ValueError: if there is no such file, or it is not a native checkpoint.
    """
    if not path.is_file() or path.suffix != ".npz":
        raise ValueError(
            f"--checkpoint={path} is not an .npz file, and big_vision reads no other checkpoint here. Write one with "
            "configs/export.py or configs/convert.py and format=big_vision."
        )
    resolved = resolve_model(Config(model=ModelConfig(checkpoint=str(path), variant=given)))
    return get_variant(resolved.model.variant)


def check_file(modules: dict[str, ModuleType], path: Path, variant: Variant, seed: int) -> Iterator[Check]:
    """Yields the comparisons of one checkpoint, as big_vision's loader reads it."""
    name = kind_of(variant.llm)
    theirs, small = build(modules, name, variant)
    inputs = Inputs.draw(variant, seed)
    with small, jax.default_matmul_precision("highest"):
        text = inputs.image, inputs.tokens, inputs.mask_ar
        wanted = jax.eval_shape(theirs.init, jax.random.key(0), *text)["params"]
        llm = {"variant": name, "vocab_size": variant.llm.vocab_size}
        settings = ml_collections.ConfigDict({"img": {"scan": True}, "llm": llm})
        # It raises if a leaf of its model is missing in the file, or the other way round.
        loaded = flatten(modules[PALIGEMMA].load(wanted, str(path.resolve()), settings))
        other = [
            leaf
            for leaf, host in big_vision.iterate(path, abstract_params(variant))
            if np.asarray(loaded[leaf]).tobytes() != host.tobytes()
        ]
        for leaf in other:
            print(f"  other values: {leaf}")
        yield Check("weights (other values)", float(len(other)), 0)
        if not other:  # then one copy serves both
            params = Flat({leaf: jnp.asarray(loaded.pop(leaf), jnp.float32) for leaf in list(loaded)})
            yield from compare(theirs, variant, params, inputs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="folder that contains the folder big_vision")
    parser.add_argument("--checkpoint", type=Path, help="native .npz; compare this file instead of random weights")
    parser.add_argument("--variant", default="", help="of --checkpoint; empty = inferred from its shapes")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and inputs")
    arguments = parser.parse_args()
    try:
        if arguments.checkpoint:
            path = arguments.checkpoint.expanduser()
            variant = variant_of_file(path, arguments.variant)
            modules = load_modules(arguments.checkout)
            return report({path.name: list(check_file(modules, path, variant, arguments.seed))})
        modules = load_modules(arguments.checkout)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    return report({name: list(check_kind(modules, name, arguments.seed)) for name in KINDS})


if __name__ == "__main__":
    run_script(main)
