"""The least arithmetic of a step against a count by hand, and the step that runs against the least; MFU."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from radvqa_jax.config import LoraConfig, OptimConfig, StageConfig
from radvqa_jax.models import gemma, lora
from radvqa_jax.models.paligemma import PaliGemma, abstract_params
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.planning import utilisation
from radvqa_jax.planning.devices import Device
from radvqa_jax.planning.flops import count_work
from radvqa_jax.planning.minimum import minimum_step_flops
from radvqa_jax.schema import Batch
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.optimizer import label_leaves, make_optimizer, make_schedule
from radvqa_jax.training.step import StepOptions, init_state, train_step
from radvqa_jax.trees import split

# Every size is another number, so that none can stand for another.
VARIANT = Variant(
    SiglipConfig(width=12, depth=2, mlp_dim=20, num_heads=2, patch=4),
    GemmaConfig(width=24, depth=3, mlp_dim=40, num_heads=4, num_kv_heads=1, head_dim=8, vocab_size=50),
    12,
)
ROWS, PATCHES, TEXT, RANK = 5, 9, 7, 2
IMG, LLM = ROWS * PATCHES, ROWS * (PATCHES + TEXT)  # tokens
ATTENTION = r"img/.*/(query|key|value|out)/kernel|llm/.*/(q_einsum|kv_einsum|attn_vec_einsum)/w"
HEAD = ((r"img/head/.*", "train:head"), (".*", "freeze"))
ADAPTERS = ((r".*/lora_[ab]", "train:lora"), (".*", "freeze"))

# Multiplications with weights for one token of one layer.
IMG_ATTENTION, IMG_MLP = 4 * 12 * 12, 12 * 20
LLM_QUERY_OUT, LLM_KEY_VALUE, LLM_MLP = 2 * 24 * 32, 2 * 24 * 8, 24 * 40
PATCH, HEAD_WEIGHT = 4 * 4 * 3 * 12, 12 * 24
LOGITS = ROWS * TEXT * 50 * 24
IMG_PAIRS, LLM_PAIRS = 2 * ROWS * 9 * 9 * 12, 2 * ROWS * 16 * 16 * 32  # logits and values of one layer


def by_hand(adapters: bool) -> int:
    """Returns floating-point operations: forward, backward to activations, adapters' own gradients, computed again."""
    llm = 3 * (3 * (LLM_QUERY_OUT + LLM_KEY_VALUE + 2 * LLM_MLP) + 2 * LLM_MLP) * LLM  # the last product is not redone
    attention = 4 * 3 * LLM_PAIRS  # forward, again, and twice as much backward
    if not adapters:
        img = 2 * (IMG_ATTENTION + 2 * IMG_MLP) * IMG + 2 * IMG_PAIRS  # forward only
        return 2 * (llm + attention + img + (PATCH + 2 * HEAD_WEIGHT) * IMG + 2 * LOGITS)
    img = 2 * (3 * IMG_ATTENTION + 3 * IMG_MLP + 2 * IMG_MLP) * IMG + 4 * 2 * IMG_PAIRS
    low = 2 * 4 * RANK * (12 + 12) * IMG + 3 * RANK * (24 + 32 + 32 + 24 + 2 * (24 + 8)) * LLM
    return 2 * (llm + attention + img + (PATCH + 2 * HEAD_WEIGHT) * IMG + 4 * low + 2 * LOGITS)


def make(
    adapters: bool, *, dtype: Any = jnp.float32, variant: Variant = VARIANT
) -> tuple[Plan, dict[str, str], dict[str, Any], Any]:
    """Returns (plan, labels, leaves, arguments of the step), as shapes, of a stage that trains adapters or the head."""
    base = abstract_params(variant)
    config = LoraConfig(rank=RANK if adapters else 0, targets=((ATTENTION, "lora"), (".*", "none")))
    found = lora.resolve(config, base)
    factors = jax.eval_shape(lambda: lora.init(jax.random.key(0), found, base)) if found else {}
    leaves = base | factors
    labels = label_leaves(leaves, StageConfig(train=ADAPTERS if adapters else HEAD))
    trainable, frozen = split(leaves, labels)
    optim = OptimConfig()
    plan = Plan(
        name="stage",
        model=PaliGemma(variant, found, dtype, "blocks"),
        tx=make_optimizer(optim, labels, 10),
        options=StepOptions(),
        schedules={"learning_rate": make_schedule(optim, 10, learning_rate=1.0)},
        total_steps=10,
        log_every=1,
        save_every=1,
    )
    state = jax.eval_shape(lambda t: init_state(t, plan.tx), trainable)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return plan, labels, leaves, (state, frozen, Batch.spec(ROWS, variant.resolution, TEXT), key)


@pytest.mark.parametrize("adapters", [False, True])
def test_the_minimum_is_the_count_by_hand(adapters: bool) -> None:
    _, labels, leaves, _ = make(adapters)
    assert minimum_step_flops(VARIANT, leaves, labels, rows=ROWS, seq_len=TEXT) == by_hand(adapters)


@pytest.mark.parametrize("post_norms", [False, True])  # True: Gemma 2
@pytest.mark.parametrize("adapters", [False, True])
def test_the_step_that_runs_takes_little_more_than_the_minimum(
    adapters: bool, post_norms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemma, "MLP_TOKENS", LLM // 4)  # so that the MLP works by blocks here too
    variant = replace(VARIANT, llm=replace(VARIANT.llm, post_norms=post_norms))
    plan, labels, leaves, args = make(adapters, variant=variant)
    work = count_work(train_step.trace(*args, model=plan.model, tx=plan.tx, options=plan.options))
    least = minimum_step_flops(variant, leaves, labels, rows=ROWS, seq_len=TEXT)
    assert 1 <= work.flops / least < 1.05


def test_mfu_is_the_share_of_the_peak_and_there_is_none_where_the_peak_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, _, _, args = make(True, dtype=jnp.bfloat16)
    assert utilisation.utilisation(plan, args)(1.0) == {}  # of a CPU there is no peak
    monkeypatch.setattr(utilisation, "find_kind", lambda kind: Device(kind, "cuda", 1, 1e9, 1.0))
    model = PaliGemma(VARIANT, plan.model.lora, jnp.bfloat16)  # without what is computed again
    flops = count_work(train_step.trace(*args, model=model, tx=plan.tx, options=plan.options)).flops
    assert utilisation.utilisation(plan, args)(0.5) == {"mfu": pytest.approx(flops / 0.5 / 1e9)}
    assert utilisation.utilisation(make(True)[0], args)(0.5) == {}  # the peak is that of bfloat16
