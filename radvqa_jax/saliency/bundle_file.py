"""The layout of a case's bundle as arrays: what an .npz file or a viewer holds; no entry needs pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.checkpoints.npz import NpzReader
from radvqa_jax.files import atomic_write
from radvqa_jax.saliency.bundle import CaseBundle, Words
from radvqa_jax.saliency.methods import METHODS
from radvqa_jax.saliency.passes import PassOptions

FORMAT = 3
KIND = "the .npz of a saliency case"
REMEDY = "Make it again with mode=saliency or Model.saliency."
# What reading arrays of other kinds and shapes raises.
DAMAGE = (KeyError, TypeError, ValueError, IndexError, RecursionError, AttributeError, OverflowError)
MOST_BYTES = 4 << 30  # a 10B model at 896 px with three methods by head and 64 answer tokens has about 1 GiB
PARTS = {
    "image": "",
    "text": "_text",
    "prompt": "_prompt",
    "layers": "_layers",
}  # field of CaseBundle -> end of the key


# Axes by their letters in `to_arrays`; S = U + A, and V is W of the prompt.
SHAPES = {
    "token_ids": "A",
    "logprobs": "A",
    "words": "W",
    "word_of_token": "A",
    "prompt_ids": "U",
    "prompt_words": "V",
    "word_of_prompt_token": "U",
    "vision_rollout": "PP",
    "lens_ids": "LP",
}
LEAD = {"layers, heads": "LN", "layers": "L", "residuals": "R", "": ""}  # of Method.axes
INDICES = {"word_of_token": "W", "word_of_prompt_token": "V"}
for _name, _method in METHODS.items():
    SHAPES |= {
        f"{_name}{end}": LEAD[_method.axes] + axes for end, axes in (("", "AP"), ("_text", "AS"), ("_prompt", "UP"))
    }
    SHAPES[f"{_name}_layers"] = "LAP"


class Rule(NamedTuple):
    """The values that an array may hold; NaN is outside all bounds."""

    kinds: str  # of numpy's dtypes
    words: str
    least: float = -inf
    most: float = inf
    single: bool = False  # one value without axes


ROUNDING = 1e-3  # of float16, above one
IDS = Rule("iu", "whole numbers from 0 on", least=0)
SHARES = Rule("f", "shares from 0 to 1", least=0, most=1 + ROUNDING)
# float16 ends at 65,504, and a relevancy has no bound: a larger one is written as infinite.
SIZES = Rule("f", "numbers from 0 on", least=0)
SIGNED = Rule("f", "numbers")
RULES = {
    "token_ids": IDS,
    "prompt_ids": IDS,
    "lens_ids": IDS,
    "word_of_token": IDS,
    "word_of_prompt_token": IDS,
    "logprobs": Rule("f", "finite numbers of at most 0", least=float(np.finfo(np.float32).min), most=ROUNDING),
    "vision_rollout": SHARES,
    "words": Rule("U", "texts"),
    "prompt_words": Rule("U", "texts"),
    "answer": Rule("U", "a text", single=True),
    "other": Rule("U", "a text", single=True),
    "ended": Rule("b", "True or False", single=True),
    "grid": Rule("iu", "a whole number from 1 on", least=1, single=True),
    "log_ratio": Rule("f", "a number", single=True),
}
for _name, _method in METHODS.items():
    RULES |= {
        f"{_name}{end}": SIGNED if _method.signed else SHARES if _method.share else SIZES for end in PARTS.values()
    }


def _word_arrays(words: Words, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(words, the index of the word to which each token belongs)."""
    of_token = np.empty(count, np.int32)
    for index, (_, positions) in enumerate(words):
        of_token[positions] = index
    return np.array([word for word, _ in words]), of_token


def to_arrays(bundle: CaseBundle) -> dict[str, np.ndarray]:
    """The arrays of a bundle.

    L layers, N heads, A answer tokens with EOS, U prompt tokens, P patches row by row from the upper left, R residuals,
    W words. Row a is the state that predicted answer token a. `lead` is what the method has: L N for raw, scores and
    value_norm, R for rollout, L for lens, nothing for the others. float16 unless said otherwise: its relative error of
    5e-4 is below what a picture shows.

    | key | what |
    |---|---|
    | `<method>` [lead A P] | response to image; units are in saliency/methods.py |
    | `<method>_text` [lead A U+A] | response to question, and to the earlier answer |
    | `<method>_prompt` [lead U P] | the state at a prompt token to the image |
    | `<method>_layers` [L A P] | of all heads of a layer, where that is not their mean (value_norm) |
    | `contrast` [A P], `other`, `log_ratio` | for the answer (> 0) or for `other` (< 0), the same for every token |
    | `lens_ids` [L P] | int32, the token that each image token reads as; with method lens |
    | `vision_rollout` [P P] | float32; a map m [P] through the vision tower is m @ vision_rollout |
    | `token_ids` [A], `prompt_ids` [U] | int32 |
    | `words` [W], `word_of_token` [A] | text, int32; duplicates are words of their own |
    | `prompt_words` [W], `word_of_prompt_token` [U] | the same for BOS, question and separator |
    | `logprobs` [A] | float32, log p of each answer token |
    | `answer`, `ended`, `grid`, `options`, `format` | text, bool, int, JSON, int |
    """
    words, word_of_token = _word_arrays(bundle.words, len(bundle.token_ids))
    prompt_words, word_of_prompt_token = _word_arrays(bundle.prompt_words, len(bundle.prompt_ids))
    arrays = {
        "format": np.array(FORMAT),
        "answer": np.array(bundle.answer),
        "other": np.array(bundle.other),
        "ended": np.array(bundle.ended),
        "grid": np.array(bundle.grid),
        "log_ratio": np.array(bundle.log_ratio, np.float32),
        "options": np.array(json.dumps(asdict(bundle.options))),
        "token_ids": bundle.token_ids,
        "prompt_ids": bundle.prompt_ids,
        "logprobs": bundle.logprobs,
        "words": words,
        "word_of_token": word_of_token,
        "prompt_words": prompt_words,
        "word_of_prompt_token": word_of_prompt_token,
        "vision_rollout": bundle.vision_rollout,
    }
    if bundle.lens_ids is not None:
        arrays["lens_ids"] = bundle.lens_ids.astype(np.int32)
    for part, end in PARTS.items():
        arrays |= {f"{name}{end}": values.astype(np.float16) for name, values in getattr(bundle, part).items()}
    return arrays


def _words(words: np.ndarray, of_token: np.ndarray) -> Words:
    return [(str(word), np.flatnonzero(of_token == index).tolist()) for index, word in enumerate(words)]


def _check_shapes(arrays: Mapping[str, np.ndarray], *, residuals: int) -> None:
    """Raises ValueError if arrays contradict each other."""
    answer, prompt = arrays["token_ids"].size, arrays["prompt_ids"].size
    sizes = {"A": answer, "U": prompt, "S": answer + prompt, "P": int(arrays["grid"]) ** 2, "R": residuals}
    for name, axes in SHAPES.items():
        if name not in arrays:
            continue
        shape = arrays[name].shape
        known = {axis: sizes.setdefault(axis, size) for axis, size in zip(axes, shape, strict=False)}
        if 0 in shape:
            raise ValueError(f"{name} has the shape {shape}, so that it is empty")
        if len(shape) != len(axes) or shape != tuple(known[axis] for axis in axes):
            raise ValueError(f"{name} has the shape {shape}, which contradicts the other arrays ({axes}, {known})")
    for name, axis in INDICES.items():
        if not np.isin(arrays[name], np.arange(sizes[axis])).all():
            raise ValueError(f"{name} must hold indices of {sizes[axis]} words")


def _check_values(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError if an array holds what `to_arrays` never writes."""
    for name, rule in RULES.items():
        if name not in arrays:
            continue
        values = arrays[name]
        if rule.single and values.shape:
            raise ValueError(f"{name} has the shape {values.shape} and must be {rule.words}")
        must = f"and must {'be' if rule.single else 'hold'} {rule.words}"
        does = "is" if rule.single else "holds"
        if values.dtype.kind not in rule.kinds:
            found = f"{values.flat[0].item()!r}, " if values.size else ""
            raise ValueError(f"{name} {does} {found}of the type {values.dtype}, {must}")
        if values.size and values.dtype.kind in "iuf":
            low, high = values.min().item(), values.max().item()  # both are NaN if any value is
            if not (rule.least <= low and high <= rule.most):
                raise ValueError(f"{name} {does} {high if low >= rule.least else low} {must}")


def _read_options(text: str) -> PassOptions:
    """The options that `to_arrays` wrote as JSON."""
    written: dict[str, Any] = json.loads(text)
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}
    weights: Any = given.get("residuals", PassOptions.residuals)
    numbers = isinstance(weights, tuple) and all(isinstance(weight, int | float) for weight in weights)
    if not (numbers and weights and all(0 <= weight <= 1 for weight in weights)):
        raise ValueError(f"options has residuals={weights!r}, which must be numbers from 0 to 1, at least one")
    return PassOptions(**given)


def from_arrays(arrays: Mapping[str, np.ndarray]) -> CaseBundle:
    """The bundle that `to_arrays` wrote, in float32.

    Raises:
        ValueError: for another layout, for values that no bundle has, or if arrays contradict each other.
    """
    if "format" not in arrays or int(arrays["format"]) != FORMAT:
        found = arrays.get("format", "none")
        raise ValueError(f"A case bundle has format={FORMAT}; this one has {found}. Make it again.")
    options = _read_options(str(arrays["options"]))
    _check_values(arrays)
    _check_shapes(arrays, residuals=len(options.residuals))
    parts = {
        part: {name: arrays[name + end].astype(np.float32) for name in METHODS if name + end in arrays}
        for part, end in PARTS.items()
    }
    return CaseBundle(
        answer=str(arrays["answer"]),
        other=str(arrays["other"]),
        log_ratio=float(arrays["log_ratio"]),
        lens_ids=arrays.get("lens_ids"),
        token_ids=arrays["token_ids"],
        logprobs=arrays["logprobs"],
        words=_words(arrays["words"], arrays["word_of_token"]),
        prompt_ids=arrays["prompt_ids"],
        prompt_words=_words(arrays["prompt_words"], arrays["word_of_prompt_token"]),
        ended=bool(arrays["ended"]),
        vision_rollout=arrays["vision_rollout"],
        options=options,
        **parts,
    )


def save_bundle(path: Path, bundle: CaseBundle) -> None:
    """Writes a bundle as .npz, whole or not at all."""
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **to_arrays(bundle))


def load_bundle(path: Path) -> CaseBundle:
    """The bundle of an .npz file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a bundle, is damaged, or its arrays would need far more memory than a bundle's.
    """
    with NpzReader(path, kind=KIND, remedy=REMEDY, most_bytes=MOST_BYTES) as reader:
        arrays = {name: reader.read(name) for name in reader.shapes}
    try:
        return from_arrays(arrays)
    except DAMAGE as error:
        raise ValueError(f"{path} is not {KIND}: {type(error).__name__}: {error}. {REMEDY}") from error
