"""Hugging Face files give the same leaves as big_vision's own, whatever names and dtypes they have, or say why not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.backbones import abstract_params
from radvqa_jax.checkpoints import big_vision, layouts, safetensors_files
from radvqa_jax.checkpoints.npz import BFLOAT16
from radvqa_jax.checkpoints.paligemma_layout import LAYOUT
from radvqa_jax.models.hf_config import config_of
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.trees import Flat
from tests.checkpoints.hf_case import DUMMY, GEMMA2, assert_equal, draw, wanted

from .hf_files import STYLES, tensors_of, write_folder

GOLDEN = Path(__file__).parents[1] / "golden"
FUSED = replace(DUMMY, llm=replace(DUMMY.llm, num_kv_heads=4))
MODELS = {"gemma": DUMMY, "gemma2": GEMMA2, "fused": FUSED}


def test_the_layout_of_the_table_is_the_one_of_the_papers(flat: Flat) -> None:
    """Written out by hand: torch's [out, in], heads folded; no helper of the table is used."""
    got = tensors_of(flat)
    layer = "language_model.model.layers.1"
    query = flat["llm/layers/attn/q_einsum/w"][1]  # [N D H]
    heads = np.concatenate([query[n].T for n in range(query.shape[0])])
    np.testing.assert_array_equal(got[f"{layer}.self_attn.q_proj.weight"], heads)
    key, value = flat["llm/layers/attn/kv_einsum/w"][1]
    np.testing.assert_array_equal(got[f"{layer}.self_attn.k_proj.weight"], key[0].T)
    np.testing.assert_array_equal(got[f"{layer}.self_attn.v_proj.weight"], value[0].T)
    out = flat["llm/layers/attn/attn_vec_einsum/w"][1]  # [N H D]
    np.testing.assert_array_equal(got[f"{layer}.self_attn.o_proj.weight"], np.concatenate(list(out)).T)
    np.testing.assert_array_equal(got[f"{layer}.mlp.up_proj.weight"], flat["llm/layers/mlp/gating_einsum"][1, 1].T)
    np.testing.assert_array_equal(
        got[f"{layer}.post_attention_layernorm.weight"], flat["llm/layers/pre_ffw_norm/scale"][1]
    )
    patch = got["vision_tower.vision_model.embeddings.patch_embedding.weight"]  # [D C p p]
    assert patch[3, 1, 2, 0] == flat["img/embedding/kernel"][2, 0, 1, 3]
    np.testing.assert_array_equal(got["multi_modal_projector.linear.weight"], flat["img/head/kernel"].T)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("style", STYLES)
def test_every_name_of_every_version_gives_the_same_leaves(tmp_path: Path, model: str, style: str) -> None:
    flat = draw(MODELS[model])
    write_folder(tmp_path / "hf", tensors_of(flat, style), shards=1 + (style == "5"))
    loaded, report = big_vision.load(tmp_path / "hf", wanted(MODELS[model]))
    assert_equal(loaded, flat)
    assert (report.ignored, report.nonfinite, report.weights) == ((), {}, sum(leaf.size for leaf in flat.values()))


@pytest.mark.parametrize("held", [np.float16, BFLOAT16, np.float32])
@pytest.mark.parametrize("to", [BFLOAT16, np.float32])
def test_every_dtype_loads_into_every_dtype(tmp_path: Path, held: Any, to: Any) -> None:
    flat = draw(DUMMY, held)
    write_folder(tmp_path / "hf", tensors_of(flat))
    loaded, _ = big_vision.load(tmp_path / "hf" / "model.safetensors", wanted(DUMMY, to))
    assert {leaf.dtype for leaf in loaded.values()} == {np.dtype(to)}
    assert_equal(loaded, {name: leaf.astype(to) for name, leaf in flat.items()})


def test_shards_without_an_index_and_the_hash_of_all_files(tmp_path: Path, flat: Flat) -> None:
    folder = write_folder(tmp_path / "hf", tensors_of(flat), shards=3)
    _, indexed = big_vision.load(folder, wanted(DUMMY))
    (folder / "model.safetensors.index.json").unlink()
    loaded, report = big_vision.load(folder, wanted(DUMMY))
    assert_equal(loaded, flat)
    names = sorted(shard.name for shard in folder.glob("model-*"))
    listed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    (tmp_path / "listed").write_bytes(listed)
    assert report.sha256 == indexed.sha256 == files.sha256(tmp_path / "listed")
    write_folder(tmp_path / "one", tensors_of(flat))
    assert big_vision.load(tmp_path / "one", wanted(DUMMY))[1].sha256 == files.sha256(
        tmp_path / "one" / "model.safetensors"
    )


@pytest.mark.parametrize("model", ["paligemma", "paligemma2"])
def test_the_golden_weights_come_back_from_a_folder_of_shards_that_we_wrote(tmp_path: Path, model: str) -> None:
    shapes = big_vision.read_shapes(GOLDEN / f"{model}_params.npz")
    flat, _ = big_vision.load(GOLDEN / f"{model}_params.npz", shapes)
    tensors = tensors_of(flat)
    specs = [safetensors_files.Tensor(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()]
    written = safetensors_files.write_folder(tmp_path, specs, tensors.items(), shard_bytes=200_000)
    assert len(written) > 2 and all(path.stat().st_size < 260_000 for path in written)
    index = files.read_json(tmp_path / "model.safetensors.index.json")
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    loaded, _ = big_vision.load(tmp_path, shapes)
    assert_equal(loaded, {name: np.asarray(leaf) for name, leaf in flat.items()})
    # A smaller model in the same folder leaves nothing of the larger one.
    safetensors_files.write_folder(tmp_path, specs[:1], list(tensors.items())[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path) -> None:
    spec = safetensors_files.Tensor("a", (3,), np.dtype(np.float32))
    safetensors_files.write_file(tmp_path / "x.safetensors", [spec], [("a", np.ones(3, np.float32))])
    before = (tmp_path / "x.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"name='a'.*was to be written, and \(a, \(4,\)"):
        safetensors_files.write_file(tmp_path / "x.safetensors", [spec], [("a", np.ones(4, np.float32))])
    assert (tmp_path / "x.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_head_may_be_stored_under_either_name_or_both_but_must_be_tied(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat)
    table = tensors.pop("language_model.model.embed_tokens.weight")
    both = {"language_model.lm_head.weight": table, "language_model.model.embed_tokens.weight": table}
    for number, names in enumerate([both, {"lm_head.weight": table}]):
        loaded, report = big_vision.load(write_folder(tmp_path / str(number), tensors | names), wanted(DUMMY))
        assert_equal(loaded, flat)
        assert report.ignored == ()
    other = table.copy()
    other[-1, -1] += 1
    write_folder(tmp_path / "untied", tensors | both | {"language_model.lm_head.weight": other})
    with pytest.raises(ValueError, match=r"embed_tokens\.weight and .*lm_head\.weight differ.*tied"):
        big_vision.load(tmp_path / "untied", wanted(DUMMY))
    write_folder(tmp_path / "short", tensors | both | {"language_model.lm_head.weight": other[:-1]})
    with pytest.raises(ValueError, match=r"not tied \(1\):\n  language_model\.lm_head\.weight \(63, 16\)"):
        big_vision.load(tmp_path / "short", wanted(DUMMY))


def test_rows_for_image_and_padding_are_left_out_and_reported(tmp_path: Path, flat: Flat) -> None:
    tensors = tensors_of(flat)
    name = "language_model.model.embed_tokens.weight"
    padded = tensors | {name: np.concatenate([tensors[name], np.ones((64, 16), np.float32)])}
    loaded, report = big_vision.load(write_folder(tmp_path / "hub", padded), wanted(DUMMY))
    assert_equal(loaded, flat)
    assert report.cut == (f"{LAYOUT.token_table}: 64 of 128 rows; the others are <image> and padding",)
    assert report.cut[0] in report.text()
    more = tensors | {name: np.concatenate([tensors[name], np.ones((65, 16), np.float32)])}
    with pytest.raises(ValueError, match=r"misshaped \(1\):\n  llm/embedder/input_embedding: have \(129, 16\)"):
        big_vision.load(write_folder(tmp_path / "more", more), wanted(DUMMY))


def test_another_resolution_is_resampled_as_from_npz(tmp_path: Path, flat: Flat) -> None:
    big_vision.save(tmp_path / "x.npz", flat)
    want = wanted(DUMMY.at(16), BFLOAT16)
    native, _ = big_vision.load(tmp_path / "x.npz", want)
    loaded, report = big_vision.load(write_folder(tmp_path / "hf", tensors_of(flat)), want)
    assert report.resampled == ("img/pos_embedding: grid 2x2 to 4x4",)
    assert_equal(loaded, {name: np.asarray(leaf) for name, leaf in native.items()})


def test_leaves_go_to_the_sharding_of_their_target(tmp_path: Path, flat: Flat) -> None:
    mesh = jax.make_mesh((jax.device_count(),), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    want = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for name, leaf in flat.items()}
    loaded, _ = big_vision.load(write_folder(tmp_path / "hf", tensors_of(flat)), want)
    assert {leaf.sharding for leaf in loaded.values()} == {sharding}
    assert_equal(loaded, flat)


MEASURE = """
import json, sys
import jax, numpy as np
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.backbones import abstract_params
from radvqa_jax.models.variants import get_variant
def resident(field):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(field))
want = {n: jax.ShapeDtypeStruct(l.shape, sys.argv[3]) for n, l in abstract_params(get_variant(sys.argv[2])).items()}
jax.device_put(np.ones(3)).block_until_ready()
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
flat, _ = big_vision.load(sys.argv[1], want, digest=False)
print(json.dumps([resident("VmHWM") - before, sum(leaf.nbytes for leaf in flat.values())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stored", [np.float32, BFLOAT16])
def test_loading_takes_little_more_memory_than_the_weights(tmp_path: Path, stored: Any) -> None:
    img = SiglipConfig(width=256, depth=6, mlp_dim=1024, num_heads=4, patch=14)
    llm = GemmaConfig(width=1024, depth=8, mlp_dim=4096, num_heads=4, num_kv_heads=1, head_dim=128, vocab_size=20_000)
    variant = Variant(img, llm, 56)
    zeros = {name: np.ones(leaf.shape, stored) for name, leaf in abstract_params(variant).items()}
    folder = write_folder(tmp_path / "hf", tensors_of(zeros), shards=2)
    name = "custom" + json.dumps({"img": vars(img), "llm": vars(llm), "resolution": 56})
    command = [sys.executable, "-c", MEASURE, folder, name, "bfloat16"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    peak, held_bytes = json.loads(done.stdout.splitlines()[-1])
    assert held_bytes > 2e8
    assert peak <= 1.25 * held_bytes, f"{peak / held_bytes:.3f} times the weights"


def test_config_json_and_back_for_every_model(tmp_path: Path) -> None:
    for name, variant in MODELS.items():
        config = config_of(variant, image_token=variant.llm.vocab_size, dtype="float32")
        assert config["text_config"]["vocab_size"] == 128 and config["vision_config"]["vision_use_head"] is False
        assert config["text_config"]["model_type"] == ("gemma2" if name == "gemma2" else "gemma")


def test_unknown_leaves_have_no_place() -> None:
    with pytest.raises(ValueError, match=r"no place for the leaves \['img/other'\]"):
        layouts.places(["img/other"])


def test_a_float32_table_is_not_twice_in_memory_while_it_is_read(tmp_path: Path, flat: Flat) -> None:
    write_folder(tmp_path / "hf", tensors_of(flat))
    with big_vision.open_weights(tmp_path / "hf") as weights:
        weights.held(wanted(DUMMY))
        host, bad = weights.read(LAYOUT.token_table, jnp.zeros((64, 16), jnp.bfloat16))
    assert (host.dtype, bad) == (np.dtype(jnp.bfloat16), 0)
    np.testing.assert_array_equal(host, flat[LAYOUT.token_table].astype(BFLOAT16))
