"""The released sizes, compared with the released checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.backbones import abstract_params
from radvqa_jax.files import read_json
from radvqa_jax.models.variants import VARIANTS, Variant, get_variant, infer_variant
from radvqa_jax.trees import count

DUMMY = VARIANTS["dummy"]
SIX = ["paligemma-3b-224", "paligemma-3b-448", "paligemma-3b-896", "paligemma2-3b-224", "paligemma2-10b-448"]
SIX += ["paligemma2-28b-448"]


@pytest.fixture(scope="module")
def manifest(golden: Path) -> dict[str, Any]:
    return read_json(golden / "manifest.json")


def with_llm(**changes: Any) -> Variant:
    return replace(DUMMY, llm=replace(DUMMY.llm, **changes))


def test_the_manifest_names_six_known_sizes(manifest: dict[str, Any]) -> None:
    assert sorted(manifest) == sorted(SIX)
    assert set(SIX) <= set(VARIANTS)


@pytest.mark.parametrize("name", SIX)
def test_the_parameter_tree_is_the_released_one(name: str, manifest: dict[str, Any]) -> None:
    shapes = abstract_params(get_variant(name))
    assert {f"params/{leaf}": list(shape.shape) for leaf, shape in shapes.items()} == manifest[name]["params"]
    assert count(shapes) == manifest[name]["num_params"]


def test_as_many_key_value_heads_as_heads_use_one_fused_weight() -> None:
    names = abstract_params(with_llm(num_kv_heads=4))
    assert names["llm/layers/attn/qkv_einsum/w"].shape == (2, 3, 4, 16, 8)
    assert not [name for name in names if "/q_einsum/" in name or "/kv_einsum/" in name]
    grouped = abstract_params(with_llm(num_kv_heads=2))
    assert grouped["llm/layers/attn/kv_einsum/w"].shape == (2, 2, 2, 16, 8)
    assert set(grouped) - set(names) == {f"llm/layers/attn/{kind}_einsum/w" for kind in ("q", "kv")}


def test_only_the_largest_size_scales_queries_by_width_per_head() -> None:
    scales = {name: variant.llm.query_scale for name, variant in VARIANTS.items()}
    assert {name for name, scale in scales.items() if scale} == {f"paligemma2-28b-{res}" for res in (224, 448, 896)}
    assert scales["paligemma2-28b-448"] == pytest.approx(144**-0.5)


@pytest.mark.parametrize("name", SIX)
def test_sizes_are_read_off_the_shapes_of_a_released_checkpoint(name: str) -> None:
    variant = get_variant(name)
    final = 30.0 if name.startswith("paligemma2") else 0.0
    found = infer_variant(abstract_params(variant), gemma2=name.startswith("paligemma2"))
    assert found == replace(variant, llm=replace(variant.llm, final_softcap=final))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_sizes_are_read_off_the_shapes_of_any_checkpoint(kv_heads: int) -> None:
    variant = with_llm(num_kv_heads=kv_heads, post_norms=kv_heads == 2)
    assert infer_variant(abstract_params(variant), gemma2=False) == variant


def test_a_file_that_is_not_a_paligemma_is_refused() -> None:
    shapes = abstract_params(DUMMY)
    del shapes["img/pos_embedding"]
    with pytest.raises(ValueError, match="Not a PaliGemma checkpoint: it lacks `img/pos_embedding`"):
        infer_variant(shapes, gemma2=False)


def test_an_unknown_name_gives_the_nearest_one() -> None:
    with pytest.raises(
        ValueError, match=r"model.variant='paligemma-3b-44' is unknown. Did you mean `paligemma-3b-448`"
    ):
        get_variant("paligemma-3b-44")


def test_the_resolution_decides_the_number_of_patches() -> None:
    variant = get_variant("paligemma-3b-224")
    assert [variant.at(res).num_patches for res in (0, 224, 448, 896)] == [256, 256, 1024, 4096]
    assert abstract_params(DUMMY.at(16))["img/pos_embedding"].shape == (1, 16, 16)
    with pytest.raises(ValueError, match="resolution=450 must be a multiple of the patch size 14"):
        variant.at(450)
