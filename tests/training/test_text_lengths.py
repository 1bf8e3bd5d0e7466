"""Texts padded to one of a few lengths: which lengths are chosen, and that the numbers equal those of the full one."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import LoraConfig
from radvqa_jax.models import lora
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch
from radvqa_jax.training.step import StepOptions, loss_and_grads
from radvqa_jax.training.text_lengths import (
    GAIN,
    MOST,
    check_lengths,
    choose_lengths,
    cut_text,
    which_length,
)

RNG = np.random.default_rng(0)


def mean(longest: Any, lengths: list[int]) -> float:
    return float(np.mean([next(length for length in lengths if length >= n) for n in longest]))


@pytest.mark.parametrize("fixed", [0, 256, 1024])
def test_lengths_hold_every_part_and_each_saves_what_it_costs(fixed: int) -> None:
    longest = np.clip(RNG.lognormal(3.3, 0.6, 500), 8, 120).astype(int)
    shares = choose_lengths(longest.tolist(), limit=121, seq_len=128, fixed=fixed)
    lengths = list(shares)
    assert lengths == sorted(set(lengths)) and lengths[-1] == 128 and len(lengths) <= MOST
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(length * share for length, share in shares.items()) == pytest.approx(mean(longest, lengths))
    for left_out in lengths[:-1]:
        fewer = [length for length in lengths if length != left_out]
        assert mean(longest, fewer) - mean(longest, lengths) >= GAIN * (fixed + mean(longest, fewer)) * 0.9
    assert len(lengths) > 1 or fixed == 1024  # with more image there is less to save


def test_texts_of_one_length_need_one_length() -> None:
    assert choose_lengths([17] * 9, limit=18, seq_len=20, fixed=64) == {20: 1.0}
    assert choose_lengths([30, 31], limit=32, seq_len=128, fixed=64) == {32: 1.0}  # longer texts do not occur


def varied(rows: int, length: int, *, longest: int) -> Batch:
    """Rows of at most `longest` text positions, padded to `length`."""
    batch = Batch.fake(rows, 8, longest, seed=5)
    more = ((0, 0), (0, length - longest))
    texts = {name: np.pad(getattr(batch, name), more) for name in ("tokens", "mask_loss", "mask_input")}
    return batch._replace(mask_ar=np.pad(batch.mask_ar, more, constant_values=1), **texts)


def test_a_part_gets_the_first_length_that_holds_its_longest_row() -> None:
    batch = varied(12, 40, longest=30)
    needed = batch.mask_input.sum(axis=1) - 1
    for parts in (1, 2, 4):
        chosen = which_length(batch, parts, (8, 16, 24, 40))
        for part in range(parts):  # which rows are a part of a step, training/step.py says
            most = needed[part::parts].max()
            assert (8, 16, 24, 40)[chosen[part]] == next(length for length in (8, 16, 24, 40) if length >= most)
    assert cut_text(batch, 24).tokens.shape == (12, 25) and cut_text(batch, 64) is batch


def test_a_row_that_no_length_holds_is_refused() -> None:
    batch = varied(4, 40, longest=30)
    check_lengths(batch, (16, 32), name="stage2")
    longest = int(batch.mask_input.sum(axis=1).max()) - 1
    with pytest.raises(ValueError, match=rf"stage2: row \d of a batch has {longest} text positions.* for 16 at most"):
        check_lengths(batch, (8, 16), name="stage2")


# Patches and lengths in sixteens, as released models have them: a loop over positions has no remainder, which a CPU
# computes without vectors and rounds otherwise.
SMALL = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=32, num_heads=2, patch=2),
    GemmaConfig(width=16, depth=2, mlp_dim=32, num_heads=4, num_kv_heads=1, head_dim=16, vocab_size=64),
    8,
)
PARAMS = fake_params(SMALL)


def results(batch: Batch, options: StepOptions) -> tuple[Any, Any]:
    """(loss, gradients) of the projector and of adapters of both towers, with dropout."""
    targets = ((".*/(query/kernel|q_einsum/w|linear)", "lora"), (".*", "none"))
    adapters = lora.resolve(LoraConfig(rank=2, dropout=0.25, targets=targets), PARAMS, PALIGEMMA.equations)
    assert adapters is not None
    fresh = lora.init(jax.random.key(1), adapters, PARAMS)
    keys = jax.random.split(jax.random.key(2), len(fresh))
    trainable = {n: 0.1 * jax.random.normal(key, x.shape) for key, (n, x) in zip(keys, fresh.items(), strict=True)}
    trainable |= {name: leaf for name, leaf in PARAMS.items() if name.startswith("img/head/")}
    frozen = {name: leaf for name, leaf in PARAMS.items() if name not in trainable}
    run = jax.jit(partial(loss_and_grads, model=PaliGemma(SMALL, adapters), options=options))
    return run(trainable, frozen, batch, jax.random.key(7))


def test_in_float32_the_numbers_are_those_of_the_full_length() -> None:
    """Up to the last bit of the loss and the last bits of gradients: sums over positions are cut into blocks by their
    number, zeros or not (docs/performance.md). Dropout draws the same for a position, whatever the length."""
    batch = varied(4, 32, longest=14)
    loss, grads = results(batch, StepOptions(2, "per_token"))
    found, found_grads = results(batch, StepOptions(2, "per_token", text_lengths=(16,)))
    assert abs(float(found) - float(loss)) <= np.spacing(np.float32(loss))
    for name, grad in grads.items():
        assert np.abs(found_grads[name] - grad).max() <= 1e-5 * np.abs(grad).max(), name
