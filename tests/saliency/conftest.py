"""The golden models, and batches of the golden texts."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import infer_variant
from radvqa_jax.schema import Batch


class Golden(NamedTuple):
    """A tiny model, what big_vision computed with it, and the batch it did that on."""

    model: PaliGemma
    params: dict[str, Any]
    io: dict[str, np.ndarray]
    batch: Batch


def load(folder: Path, name: str) -> Golden:
    with np.load(folder / f"{name}_params.npz", allow_pickle=False) as file:
        params = {key.removeprefix("params/"): jnp.asarray(file[key]) for key in file.files}
    with np.load(folder / f"{name}_io.npz", allow_pickle=False) as file:
        io = {key: file[key] for key in file.files if not key.startswith("grad")}
    real = (
        np.arange(io["text"].shape[1])[None]
        <= io["mask_loss"].shape[1] - 1 - io["mask_loss"][:, ::-1].argmax(1)[:, None]
    )
    batch = Batch(
        image=io["image"],
        tokens=io["text"],
        mask_ar=io["mask_ar"],
        mask_loss=io["mask_loss"],
        mask_input=real.astype(np.int32),
        mask_example=np.ones(len(real), bool),
    )
    return Golden(PaliGemma(infer_variant(params, gemma2=name == "paligemma2")), params, io, batch)


@pytest.fixture(scope="session", params=["paligemma", "paligemma2"])
def either(request: pytest.FixtureRequest, golden: Path) -> Golden:
    """Each golden model in turn."""
    return load(golden, request.param)


@pytest.fixture(scope="session")
def tiny(golden: Path) -> Golden:
    """The golden PaliGemma 1: three rows, 16 patches, 12 text positions, 3 layers, 4 heads."""
    return load(golden, "paligemma")


@pytest.fixture(scope="session")
def worded(tiny: Golden, tokenizer: Tokenizer) -> tuple[PaliGemma, dict[str, Any]]:
    """The golden model with rows for all tokens; it has 320, the tokenizer 512 and its location tokens."""
    name = "llm/embedder/input_embedding"
    table, variant = np.asarray(tiny.params[name]), tiny.model.variant
    room = (tokenizer.vocab_size - len(table), table.shape[1])
    drawn = np.random.default_rng(0).normal(0, 0.02, room).astype(np.float32)
    llm = dataclasses.replace(variant.llm, vocab_size=tokenizer.vocab_size)
    model = PaliGemma(dataclasses.replace(variant, llm=llm))
    return model, {**tiny.params, name: np.concatenate([table, drawn])}


@pytest.fixture(scope="session")
def tokenizer(golden: Path) -> Tokenizer:
    return Tokenizer(golden / "tiny_tokenizer.model")
