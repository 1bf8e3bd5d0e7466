"""PEFT folders are written and read exactly; ranks and scales are translated; other settings are refused by name."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from radvqa_jax import files
from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.checkpoints.adapter_formats import inspect_any_adapter, load_any_adapter
from radvqa_jax.checkpoints.peft import load_peft, save_peft
from radvqa_jax.checkpoints.peft_config import target_modules
from radvqa_jax.config import LoraConfig
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import get_variant
from radvqa_jax.trees import Flat

DUMMY = get_variant("dummy")
SHAPES = abstract_params(DUMMY)
EVERY = LoraConfig(rank=3, alpha=7.0, targets=((".*", "lora"),))
# The other entries that peft 0.21.2 writes, at their defaults.
AS_PEFT_SAVES = {
    "auto_mapping": None, "bias": "none", "corda_config": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "layer_replication": None, "loftq_config": {}, "lora_bias": False, "lora_dropout": 0.0,
    "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None, "peft_version": "0.21.2",
    "qalora_group_size": 16, "rank_pattern": {}, "alpha_pattern": {}, "target_modules": ["q_proj", "v_proj", "fc"],
    "target_parameters": None, "task_type": None, "trainable_token_indices": None, "use_dora": False,
    "use_qalora": False, "use_rslora": False,
}  # fmt: skip
QUERY = "base_model.model.model.language_model.layers.{}.self_attn.q_proj"


def draw(config: LoraConfig, shapes: Flat = SHAPES) -> Flat:
    lora, rng = lora_lib.resolve(config, shapes, PALIGEMMA.equations), np.random.default_rng(0)
    assert lora is not None
    factors: Flat = {}
    for name in sorted(lora.targets):
        a, b = lora_lib._factor_shapes(lora.equation_of(name), tuple(shapes[name].shape), lora.rank)
        factors[f"{name}/lora_a"] = rng.normal(size=a).astype(np.float32)
        factors[f"{name}/lora_b"] = rng.normal(size=b).astype(np.float32)
    return factors


def deltas(leaves: Flat, config: LoraConfig) -> Flat:
    lora = lora_lib.resolve(config, SHAPES, PALIGEMMA.equations)
    assert lora is not None
    factors = {name: jnp.asarray(leaf) for name, leaf in leaves.items()}
    return {
        name: np.asarray(
            lora_lib.delta(
                lora.equation_of(name), factors[f"{name}/lora_a"], factors[f"{name}/lora_b"], scale=lora.scale
            )
        )
        for name in lora.targets
    }


def write(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base", **AS_PEFT_SAVES}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config))  # other programs write NaN
    return folder


def pair(module: str, rank: int, *, into: int = 16, out: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"{module}.lora_A.weight": rng.normal(size=(rank, into)).astype(np.float32),
        f"{module}.lora_B.weight": rng.normal(size=(out, rank)).astype(np.float32),
    }


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("rslora", [False, True])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, kv_heads: int, rslora: bool) -> None:
    variant = replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=kv_heads))
    shapes = abstract_params(variant)
    config = replace(EVERY, rslora=rslora, dropout=0.1)
    leaves = draw(config, shapes)
    save_peft(tmp_path / "peft", leaves, config, base_name="google/paligemma")
    read, meta = load_peft(tmp_path / "peft", shapes)
    assert set(read) == set(leaves)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(read[name], leaf, err_msg=name)
    assert (meta.lora.rank, meta.lora.rslora, meta.lora.dropout) == (3, rslora, 0.1)
    assert meta.lora.alpha == pytest.approx(7.0) and meta.base_name == "google/paligemma" and meta.base_use is None
    mine, theirs = (
        lora_lib.resolve(config, shapes, PALIGEMMA.equations),
        lora_lib.resolve(meta.lora, shapes, PALIGEMMA.equations),
    )
    assert mine is not None and theirs is not None
    assert mine.targets == theirs.targets and theirs.scale == pytest.approx(mine.scale)


def test_the_files_have_the_form_of_peft(tmp_path: Path) -> None:
    leaves = draw(EVERY)
    save_peft(tmp_path / "peft", leaves, EVERY, base_name="base")
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    # B A of PEFT, [out, in], is the change of torch's weight.
    a, b = (tensors[f"{QUERY.format(1)}.lora_{which}.weight"] for which in "AB")
    change = deltas(leaves, EVERY)["llm/layers/attn/q_einsum/w"][1]  # [N D H]
    want = np.concatenate([change[head].T for head in range(len(change))])
    np.testing.assert_allclose(7 / 3 * b @ a, want, atol=1e-5)
    v = "base_model.model.model.language_model.layers.0.self_attn.v_proj.lora_A.weight"
    np.testing.assert_array_equal(tensors[v], leaves["llm/layers/attn/kv_einsum/w/lora_a"][0, 1].T)
    prefix = "base_model.model.model.vision_tower.vision_model.encoder.layers.0.self_attn.out_proj"
    assert tensors[f"{prefix}.lora_A.weight"].shape == (3, 16) == tensors[f"{prefix}.lora_B.weight"].shape[::-1]
    config = files.read_json(tmp_path / "peft" / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["use_rslora"], config["modules_to_save"]) == (3, 7.0, False, None)


def test_targets_name_both_versions_modules_and_no_others() -> None:
    import re

    pattern = target_modules(
        [
            "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
            "model.language_model.layers.11.mlp.up_proj",
        ]
    )
    assert isinstance(pattern, str)
    for name in (
        "model.vision_tower.vision_model.encoder.layers.3.self_attn.q_proj",
        "model.vision_tower.encoder.layers.3.self_attn.q_proj",
        "base_model.model.model.language_model.layers.0.mlp.up_proj",
    ):
        assert re.fullmatch(pattern, name)
    for name in ("model.language_model.layers.0.self_attn.q_proj", "model.vision_tower.encoder.layers.3.mlp.up_proj"):
        assert not re.fullmatch(pattern, name)


@pytest.mark.parametrize(
    "prefix",
    [
        "base_model.model.language_model.model.layers.0",
        "base_model.model.model.language_model.layers.0",
        "language_model.layers.0",
    ],
)
def test_names_of_every_version_are_read(tmp_path: Path, prefix: str) -> None:
    tensors = pair(f"{prefix}.self_attn.q_proj", 2)
    leaves, _ = load_peft(write(tmp_path / "p", tensors), SHAPES)
    a = leaves["llm/layers/attn/q_einsum/w/lora_a"]
    np.testing.assert_array_equal(a[0].T, tensors[f"{prefix}.self_attn.q_proj.lora_A.weight"])
    assert not a[1].any() and set(leaves) == {f"llm/layers/attn/q_einsum/w/lora_{f}" for f in "ab"}


def test_patterns_of_rank_and_alpha_are_translated_exactly(tmp_path: Path) -> None:
    first, second = (QUERY.format(layer) for layer in (0, 1))
    tensors = pair(first, 2) | pair(second, 4, seed=1)
    folder = write(
        tmp_path / "p",
        tensors,
        rank_pattern={"language_model.layers.1.self_attn.q_proj": 4},
        alpha_pattern={"layers.1.self_attn.q_proj": 10},
    )
    leaves, meta = load_peft(folder, SHAPES)
    change = deltas(leaves, meta.lora)["llm/layers/attn/q_einsum/w"]
    assert meta.lora.rank == 4
    for layer, (name, scale) in enumerate(((first, 4 / 2), (second, 10 / 4))):
        want = scale * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        got = np.concatenate([change[layer, head].T for head in range(change.shape[1])])
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_modules_left_out_of_a_stacked_weight_add_nothing(tmp_path: Path) -> None:
    module = "base_model.model.model.language_model.layers.1.self_attn.v_proj"
    leaves, meta = load_peft(write(tmp_path / "p", pair(module, 2, out=8)), SHAPES)
    change = deltas(leaves, meta.lora)["llm/layers/attn/kv_einsum/w"]  # [L C K D H]
    assert change[1, 1].any() and not change[0].any() and not change[1, 0].any()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_dora": True}, "use_dora=True: DoRA rescales"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]: whole modules were trained"),
        ({"modules_to_save": ["multi_modal_projector"]}, "modules_to_save="),
        ({"bias": "lora_only"}, "bias='lora_only': biases of the base"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, "this initialisation changes the base"),
        ({"a_setting_of_2031": 3}, "a_setting_of_2031=3: this setting is not known here"),
        ({"peft_type": "IA3"}, "peft_type='IA3'; only LORA"),
        ({"r": 0}, "field `r` must be greater than or equal to 1; got 0"),
        ({"r": True}, "field `r` must be an integer"),
        ({"lora_alpha": float("nan")}, "field `lora_alpha` must be a finite number"),
        ({"lora_alpha": float("inf")}, "field `lora_alpha` must be a finite number"),
        ({"lora_alpha": True}, "field `lora_alpha` must be a number"),
        ({"lora_alpha": 1e30}, "field `lora_alpha` must be less than or equal to 1000000"),
        ({"alpha_pattern": {"q_proj": "16"}}, r"field `alpha_pattern.q_proj` must be a number"),
        ({"alpha_pattern": {"q_proj": -5}}, r"field `alpha_pattern.q_proj` must be greater than 0"),
        ({"alpha_pattern": {"q_proj": None}}, r"field `alpha_pattern.q_proj` must be a number"),
        ({"alpha_pattern": ["q_proj"]}, r"field `alpha_pattern` must be a JSON object"),
        ({"alpha_pattern": "q_proj"}, r"field `alpha_pattern` must be a JSON object"),
        ({"alpha_pattern": {"(": 4}}, r"adapter_config\.json, alpha_pattern: .*is not a regular expression"),
        ({"rank_pattern": {"q_proj": 2.7}}, r"field `rank_pattern.q_proj` must be an integer"),
        ({"rank_pattern": {"q_proj": float("inf")}}, r"field `rank_pattern.q_proj`"),
        ({"use_rslora": "no"}, "field `use_rslora` must be true or false"),
        ({"use_rslora": 1}, "field `use_rslora` must be true or false"),
        ({"lora_dropout": 5.0}, "field `lora_dropout` must be less than 1"),
        ({"lora_dropout": "much"}, "field `lora_dropout` must be a number"),
        ({"lora_dropout": [0.1]}, "field `lora_dropout` must be a number"),
        ({"r": 3}, "gives rank 3"),
    ],
)
def test_settings_without_an_equivalent_are_refused_by_name(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    folder = write(tmp_path / "p", pair(QUERY.format(0), 2), **config)
    with pytest.raises(ValueError, match=why):
        load_any_adapter(folder, SHAPES)


def test_a_pattern_of_a_folder_from_elsewhere_cannot_hang(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", pair(QUERY.format(0), 2), rank_pattern={"(([a-z_.0-9]+)+)+!": 4})
    start = time.process_time()
    assert load_peft(folder, SHAPES)[1].lora.rank == 2
    assert time.process_time() - start < 2


def test_null_counts_as_absent(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("rank_pattern", "alpha_pattern", "lora_dropout", "use_rslora"))
    folder = write(tmp_path / "p", pair(QUERY.format(0), 2), **nothing)
    assert load_peft(folder, SHAPES)[1].lora.dropout == 0


def test_modules_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    tensors = pair(QUERY.format(0), 2, out=31) | pair(QUERY.format(7), 2) | pair("base_model.model.other.fc", 2)
    with pytest.raises(ValueError) as caught:
        load_peft(write(tmp_path / "p", tensors), SHAPES)
    for line in (
        "layers.0.self_attn.q_proj.weight: (31, 16), the model has (32, 16)",
        "layers.7.self_attn",
        "other.fc",
    ):
        assert line in str(caught.value)
    lone = {name: value for name, value in pair(QUERY.format(0), 2).items() if "lora_A" in name}
    with pytest.raises(ValueError, match="holds only lora_A of"):
        load_peft(write(tmp_path / "lone", lone), SHAPES)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors holds no factors, so that the model"):
        load_peft(write(tmp_path / "none", {}), SHAPES)
    bad = pair(QUERY.format(0), 2)
    bad[f"{QUERY.format(0)}.lora_A.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="has 1 NaN or infinite values"):
        load_peft(write(tmp_path / "nan", bad), SHAPES)
    dora = pair(QUERY.format(0), 2) | {f"{QUERY.format(0)}.lora_magnitude_vector": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match="lora_magnitude_vector, which is no LoRA factor"):
        load_peft(write(tmp_path / "dora", dora), SHAPES)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target_modules": ["v_proj"]}, "target_modules"),
        ({"exclude_modules": ["layers.1.self_attn.q_proj"]}, "exclude_modules"),
        ({"layers_to_transform": 0}, "layers_to_transform"),
        ({"layers_to_transform": [0, 2]}, "layers_to_transform"),
    ],
)
def test_factors_that_peft_would_ignore_are_refused(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    tensors = pair(QUERY.format(0), 2) | pair(QUERY.format(1), 2)
    with pytest.raises(ValueError, match=rf"adapter_config\.json: {named} leaves out .*q_proj.*PEFT would ignore"):
        load_peft(write(tmp_path / "p", tensors, **settings), SHAPES)
    for same in ({"target_modules": ["q_proj", "fc1"]}, {"layers_to_transform": [0, 1]}, {"exclude_modules": ["fc1"]}):
        assert load_peft(write(tmp_path / str(len(str(same))), tensors, **same), SHAPES)


def test_a_pickle_is_named_and_never_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", pair(QUERY.format(0), 2))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.bin is a pickle and is never read"):
        inspect_any_adapter(folder, SHAPES)


def test_leaves_that_peft_cannot_hold_are_refused_with_the_way_out(tmp_path: Path) -> None:
    leaves = draw(EVERY) | {"llm/final_norm/scale": np.ones(16, np.float32)}
    with pytest.raises(ValueError, match=r"llm/final_norm/scale.*export\.format=huggingface or big_vision"):
        save_peft(tmp_path / "p", leaves, EVERY, base_name="base")


def test_a_projector_that_was_trained_whole_is_written_and_read(tmp_path: Path) -> None:
    config = LoraConfig(rank=2, alpha=4.0, targets=(("llm/.*/q_einsum/w", "lora"), (".*", "none")))
    head = {name: np.random.default_rng(1).normal(size=SHAPES[name].shape).astype(np.float32)
            for name in ("img/head/kernel", "img/head/bias")}  # fmt: skip
    leaves = draw(config) | head
    folder = save_peft(tmp_path / "p", leaves, config, base_name="base")
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.multi_modal_projector.linear.weight"
    np.testing.assert_array_equal(tensors[name], head["img/head/kernel"].T)
    read, _ = load_peft(folder, SHAPES, own=True)
    assert set(read) == set(leaves)
    np.testing.assert_array_equal(read["img/head/bias"], head["img/head/bias"])
    with pytest.raises(ValueError, match="modules_to_save"):
        load_peft(folder, SHAPES)
