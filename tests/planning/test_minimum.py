"""The least arithmetic of a step against a count by hand, and the step that runs against the least; MFU."""

from dataclasses import replace
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import pytest

from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.config import LoraConfig, OptimConfig, StageConfig
from radvqa_jax.models import layers, lora
from radvqa_jax.models.fused_attention import KERNELS
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.planning import minimum, utilisation
from radvqa_jax.planning.devices import Device
from radvqa_jax.planning.flops import count_work
from radvqa_jax.planning.minimum import minimum_step_flops, recomputed_step_flops
from radvqa_jax.schema import Batch
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.optimizer import label_leaves, make_optimizer, make_schedule
from radvqa_jax.training.step import StepOptions, init_state, train_step
from radvqa_jax.trees import split

# Every size is a different number, so that none can be confused with another.
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
    """Floating-point operations: forward, backward to activations, adapters' own gradients; nothing twice."""
    llm = 3 * 2 * (LLM_QUERY_OUT + LLM_KEY_VALUE + 3 * LLM_MLP) * LLM
    attention = 3 * 3 * LLM_PAIRS  # forward, and twice as much backward
    if not adapters:
        img = 2 * (IMG_ATTENTION + 2 * IMG_MLP) * IMG + 2 * IMG_PAIRS  # forward only
        return 2 * (llm + attention + img + (PATCH + 2 * HEAD_WEIGHT) * IMG + 2 * LOGITS)
    img = 2 * 2 * (IMG_ATTENTION + 2 * IMG_MLP) * IMG + 3 * 2 * IMG_PAIRS
    low = 2 * 4 * RANK * (12 + 12) * IMG + 3 * RANK * (24 + 32 + 32 + 24 + 2 * (24 + 8)) * LLM
    return 2 * (llm + attention + img + (PATCH + 2 * HEAD_WEIGHT) * IMG + 3 * low + 2 * LOGITS)


def make(
    adapters: bool, *, dtype: Any = jnp.float32, variant: Variant = VARIANT
) -> tuple[Plan, set[str], dict[str, Any], Any]:
    """(plan, names of what trains, leaves, arguments of the step), as shapes: adapters train, or the head."""
    base = abstract_params(variant)
    config = LoraConfig(rank=RANK if adapters else 0, targets=((ATTENTION, "lora"), (".*", "none")))
    found = lora.resolve(config, base, PALIGEMMA.equations)
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
    return plan, set(trainable), leaves, (state, frozen, Batch.spec(ROWS, variant.resolution, TEXT), key)


@pytest.mark.parametrize("adapters", [False, True])
def test_the_minimum_is_the_count_by_hand(adapters: bool) -> None:
    _, trained, leaves, _ = make(adapters)
    assert minimum_step_flops(VARIANT, leaves, trained, rows=ROWS, seq_len=TEXT) == by_hand(adapters)


# post_norms: Gemma 2. Each trace takes a second, so that not all combinations are looked at.
@pytest.mark.parametrize(
    ("adapters", "post_norms", "kernel"), [(True, True, "blocks"), (True, False, "blocks"), (False, False, "")]
)
def test_every_policy_takes_the_minimum_and_its_stated_recomputation(
    adapters: bool, post_norms: bool, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MLP_TOKENS", LLM // 4)  # so that the MLP works by blocks here too
    monkeypatch.setitem(KERNELS, "blocks", partial(KERNELS["blocks"], block=8))
    monkeypatch.setattr(minimum, "BLOCK", 8)
    img, llm = replace(VARIANT.img, kernel=kernel), replace(VARIANT.llm, kernel=kernel, post_norms=post_norms)
    variant = replace(VARIANT, img=img, llm=llm)
    plan, trained, leaves, args = make(adapters, variant=variant)
    least = minimum_step_flops(variant, leaves, trained, rows=ROWS, seq_len=TEXT)
    found = []
    for remat in get_args(Remat):
        model = replace(plan.model, remat=remat)
        work = count_work(train_step.trace(*args, model=model, tx=plan.tx, options=plan.options))
        ways = {"remat": remat, "remat_img": remat}
        again = recomputed_step_flops(variant, leaves, trained, rows=ROWS, seq_len=TEXT, **ways)
        assert work.flops == pytest.approx(least + again, rel=1e-3), remat
        found.append(again)
    assert found == sorted(found)  # none, products, gate, attention, full, blocks
    assert found[0] < found[1] < found[2] < found[3] < found[4] == found[5]


def test_mfu_and_hfu_are_shares_of_the_peak_and_there_are_none_where_the_peak_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, _, _, args = make(True, dtype=jnp.bfloat16)
    assert utilisation.utilisation(plan, args)(1.0, TEXT) == {}  # a CPU has no known peak
    monkeypatch.setattr(utilisation, "find_kind", lambda kind: Device(kind, "cuda", 1, 1e9, 1.0))
    whole = utilisation.utilisation(plan, args)(0.5, TEXT)
    for name, remat in (("mfu", "none"), ("hfu", plan.model.remat)):
        model = PaliGemma(VARIANT, plan.model.lora, jnp.bfloat16, remat)  # pyright: ignore[reportArgumentType]
        flops = count_work(train_step.trace(*args, model=model, tx=plan.tx, options=plan.options)).flops
        assert whole[name] == pytest.approx(flops / 0.5 / 1e9, rel=1e-3)
    # Texts that are shorter are less work.
    assert utilisation.utilisation(plan, args)(0.5, TEXT / 2)["mfu"] < 0.95 * whole["mfu"]
    assert utilisation.utilisation(make(True)[0], args)(0.5, TEXT) == {}  # the peak is that of bfloat16
