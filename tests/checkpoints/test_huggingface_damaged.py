"""Hugging Face folders that are damaged, incomplete or of something else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.checkpoints import big_vision, safetensors_files
from radvqa_jax.trees import Flat
from tests.checkpoints.hf_case import DUMMY, GEMMA2, assert_equal, wanted

from .hf_files import tensors_of, write_folder


def test_weights_that_paligemma_never_uses_are_ignored_and_reported(tmp_path: Path, flat: Flat) -> None:
    extra = {
        "vision_tower.vision_model.head.probe": np.ones((1, 1, 16), np.float32),
        "vision_tower.vision_model.head.attention.out_proj.weight": np.ones((16, 16), np.float32),
        "vision_tower.vision_model.embeddings.position_ids": np.arange(4)[None],
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32),
    }
    loaded, report = big_vision.load(write_folder(tmp_path / "hf", tensors_of(flat) | extra), wanted(DUMMY))
    assert_equal(loaded, flat)
    assert {line.split()[0] for line in report.ignored} == set(extra)


def test_every_leaf_that_does_not_fit_is_listed_before_a_value_is_read(
    tmp_path: Path, flat: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = tensors_of(flat)
    del tensors["multi_modal_projector.linear.bias"]
    del tensors["language_model.model.layers.0.mlp.up_proj.weight"]
    tensors["language_model.model.layers.1.self_attn.q_proj.weight"] = np.ones((24, 16), np.float32)
    tensors["vision_tower.vision_model.encoder.layers.2.layer_norm1.weight"] = np.ones(16, np.float32)
    tensors["language_model.model.norm.weight"] = np.ones(17, np.float32)
    tensors["language_model.model.norm.bias"] = np.ones(16, np.float32)
    monkeypatch.setattr(safetensors_files.SafetensorsReader, "read", lambda *_: pytest.fail("values were read"))
    with pytest.raises(ValueError) as caught:
        big_vision.load(write_folder(tmp_path / "hf", tensors), wanted(DUMMY))
    message = str(caught.value)
    for line in (
        "missing (1):\n  img/head/bias (16,)",
        "extra (1):\n  language_model.model.norm.bias (16,)",
        "llm/final_norm/scale: have (17,), want (16,)",
        "img/Transformer/encoderblock/LayerNorm_0/scale: have (3, 16), want (2, 16)",
        "llm/layers/attn/q_einsum/w: language_model.model.layers.1.self_attn.q_proj.weight has (24, 16), want (32, 16)",
        "incomplete (1):\n  llm/layers/mlp/gating_einsum: the file lacks language_model.model.layers.0.mlp.up_proj",
        "model.allow_missing and model.allow_extra",
    ):
        assert line in message, message
    with pytest.raises(ValueError, match=r"llm/layers/pre_ffw_norm/scale: have|post_ffw_norm"):
        big_vision.load(write_folder(tmp_path / "g1", tensors_of(flat)), wanted(GEMMA2))


def test_a_layer_number_out_of_reach_is_an_error_and_costs_nothing(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat)
    name = "language_model.model.layers.1.input_layernorm.weight"
    tensors[name.replace(".1.", ".999999999999.")] = tensors[name]
    with pytest.raises(ValueError, match=r"incomplete \(1\):\n  llm/layers/pre_attention_norm/scale: the file lacks"):
        big_vision.load(write_folder(tmp_path / "hf", tensors), wanted(DUMMY))


def test_one_layer_of_integers_among_floats_is_refused(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat)
    tensors["language_model.model.layers.1.input_layernorm.weight"] = np.ones(16, np.int32)
    says = r"not float16, bfloat16, float32 or float64 \(1\):\n  llm/layers/pre_attention_norm/scale: int32"
    with pytest.raises(ValueError, match=says):
        big_vision.load(write_folder(tmp_path / "hf", tensors), wanted(DUMMY))


def test_rules_allow_missing_and_extra_leaves(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat) | {"lm_head_2.weight": np.ones(3, np.float32)}
    del tensors["multi_modal_projector.linear.bias"]
    folder = write_folder(tmp_path / "hf", tensors)
    allow = {"allow_missing": ("img/head/bias",), "allow_extra": (r"lm_head_2\..*",)}
    loaded, report = big_vision.load(folder, wanted(DUMMY), **allow)
    assert report.drawn == ("img/head/bias (16,)",) and report.ignored == ("lm_head_2.weight (3,)",)
    assert set(loaded) == set(flat)


def test_one_weight_under_two_names_is_refused(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat)
    tensors["model.language_model.norm.weight"] = tensors["language_model.model.norm.weight"]
    with pytest.raises(ValueError, match="holds the same weight as"):
        big_vision.load(write_folder(tmp_path / "hf", tensors), wanted(DUMMY))


def test_nonfinite_values_are_counted_over_all_tensors_of_a_leaf(tmp_path: Path, flat: Flat) -> None:
    bad = {name: leaf.copy() for name, leaf in flat.items()}
    bad["llm/layers/mlp/linear"][:, 0, 0] = np.nan
    _, report = big_vision.load(write_folder(tmp_path / "hf", tensors_of(bad)), wanted(DUMMY))
    assert report.nonfinite == {"llm/layers/mlp/linear": 2}
    bad["img/head/kernel"][:] = np.inf
    with pytest.raises(ValueError, match="every value of img/head/kernel is NaN, infinite or too large for float32"):
        big_vision.load(write_folder(tmp_path / "hf", tensors_of(bad)), wanted(DUMMY))


def damage(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    return folder


def drop_shard(folder: Path) -> Path:
    (folder / "model-00002-of-00002.safetensors").unlink()
    return folder


def lie_in_index(folder: Path) -> Path:
    index = files.read_json(folder / "model.safetensors.index.json")
    index["weight_map"]["more"] = "model-00001-of-00002.safetensors"
    files.write_json(folder / "model.safetensors.index.json", index)
    return folder


def point_outside(folder: Path) -> Path:
    files.write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "../../etc/passwd"}})
    return folder


def only_pickles(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def lfs_pointer(folder: Path) -> Path:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    return folder


@pytest.mark.parametrize(
    ("change", "shards", "problem"),
    [
        (damage, 1, "is not a safetensors file, or it is cut short or damaged"),
        (drop_shard, 2, r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json names"),
        (lie_in_index, 2, r"they lack \['more'\]"),
        (point_outside, 1, "names files outside its folder"),
        (only_pickles, 1, r"holds pickled weights \(\.bin\), which are never read"),
        (lfs_pointer, 1, "it begins with b'version https"),
    ],
)
def test_folders_without_a_valid_model_are_refused(
    tmp_path: Path, flat: Flat, change: Callable[[Path], Path], shards: int, problem: str
) -> None:
    folder = change(write_folder(tmp_path / "hf", tensors_of(flat), shards=shards))
    with pytest.raises((ValueError, FileNotFoundError), match=f"{problem}(?s:.*)Set model.checkpoint to a whole"):
        big_vision.load(folder, wanted(DUMMY))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter.npz"])
def test_an_adapter_folder_is_not_read_as_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="is an adapter, not a model"):
        big_vision.load(tmp_path, {})
