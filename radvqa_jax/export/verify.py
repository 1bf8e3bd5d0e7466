"""Reads an export again and compares its answers on the same rows: the largest difference of logits."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.backbones import backbone_of
from radvqa_jax.data.packing import pack
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.lora import Lora
from radvqa_jax.models.variants import Variant
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.prompts import vqa_prefix
from radvqa_jax.trees import Flat

# (question, answer) of the rows that are compared; their images are drawn from a fixed seed.
QUESTIONS = (
    ("Is there a fracture?", "no"),
    ("Which organ is shown?", "the left lung"),
    ("What is seen in the image?", "an opacity"),
    ("Where is the lesion?", "right upper lobe"),
)

# Of the spread of the logits (their standard deviation): what the order of additions changes at most, and what rounding
# every weight to 16 bits does to a sound model. A misplaced weight changes several times the spread.
EXACT = 1e-3
ROUNDED = {"float32": 0.0, "bfloat16": 1.0, "float16": 1.0}

LONGEST = 1024  # text tokens of a row; padding is cut off again


class Rows(NamedTuple):
    """Rows to compare models on, as numpy arrays."""

    image: np.ndarray  # float [B h w 3] in [-1, 1]
    tokens: np.ndarray  # int [B T]
    mask_ar: np.ndarray  # int [B T]
    targets: np.ndarray  # bool [B T]: what is compared; padding is not


class Difference(NamedTuple):
    """The difference between two models on the rows."""

    largest: float  # absolute difference of two logits
    spread: float  # standard deviation of the logits
    tolerance: float  # of `largest`
    same_first: int  # positions at which both predict the same token
    positions: int

    def text(self) -> str:
        """The comparison as a sentence."""
        return (
            f"largest difference of logits {self.largest:.3g} (their spread is {self.spread:.3g}; at most "
            f"{self.tolerance:.3g} is rounding); the same token is predicted at {self.same_first} of {self.positions} "
            "positions"
        )


def make_rows(variant: Variant, tokenizer: Tokenizer, *, prompt: str) -> Rows:
    """A few rows in the prompt's wording, with images drawn from a fixed seed."""
    packed = [
        pack(tokenizer, vqa_prefix(question, template=prompt), suffix=answer, seq_len=LONGEST)
        for question, answer in QUESTIONS
    ]
    shape = (len(packed), variant.resolution, variant.resolution, 3)
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    longest = max(int(row["mask_input"].sum()) for row in packed)
    columns = {name: np.stack([row[name][:longest] for row in packed]) for name in packed[0]}
    return Rows(image, columns["tokens"], columns["mask_ar"], columns["mask_input"].astype(bool))


@functools.lru_cache(maxsize=2)
def _jitted(model: VisionLanguageModel) -> Any:
    return jax.jit(model.apply)  # kept: the same model answers before and after the export of an adapter


def logits_of(variant: Variant, lora: Lora | None, leaves: Mapping[str, Any], rows: Rows) -> np.ndarray:
    """float32 logits [B T V], computed in float32 at the highest precision, a row at a time."""
    lora = dataclasses.replace(lora, dropout=0.0) if lora else None
    collections = variables(Flat(leaves))
    with jax.default_matmul_precision("highest"):
        apply = _jitted(backbone_of(variant).model(variant, lora, jnp.float32))  # pyright: ignore[reportArgumentType] flax: hashable
        one = [
            np.asarray(apply(collections, *(jnp.asarray(column[index : index + 1]) for column in rows[:3])))
            for index in range(len(rows.tokens))
        ]
    return np.concatenate(one)


def compare(reference: np.ndarray, other: np.ndarray, rows: Rows, *, rounding: float = 0.0) -> Difference:
    """The difference of two models' logits at the rows' real positions.

    Args:
        reference: float [B T V].
        other: the same of the model that was read again.
        rows: what they answered.
        rounding: how far rounding the weights of the one may put the other.
    """
    a, b = reference[rows.targets], other[rows.targets]
    spread = float(a.std())
    same = int((a.argmax(-1) == b.argmax(-1)).sum())
    return Difference(float(np.abs(a - b).max()), spread, rounding + EXACT * spread, same, len(a))


def check(difference: Difference, *, what: str) -> None:
    """Raises ValueError if two models differ by more than rounding."""
    if not difference.largest <= difference.tolerance:
        raise ValueError(
            f"{what} does not give the model's logits: {difference.text()}. Nothing was put in place. Please report "
            "this with the configuration: an export should never differ."
        )
