"""The required content of every record, for any model."""

import itertools
import re
from dataclasses import replace

import pytest

from radvqa_jax.backbones import BACKBONES, Backbone, abstract_params, backbone_of
from radvqa_jax.checkpoints.layouts import LAYOUTS, layout_of
from radvqa_jax.models.lora import equation_of, is_layered
from radvqa_jax.models.variants import VARIANTS, get_variant
from radvqa_jax.trees import Flat

RECORDS = list(BACKBONES.values())


def leaves_of(record: Backbone) -> Flat:
    """The leaves of the smallest variant, as shapes."""
    sizes = [variant for variant in VARIANTS.values() if variant.backbone == record.name]
    return abstract_params(min(sizes, key=lambda variant: variant.llm.width))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_names_of_a_record_are_in_the_tree(record: Backbone) -> None:
    leaves = leaves_of(record)
    layout, tree = record.layout, record.tree
    assert {layout.token_table, layout.position_embedding, *layout.projector, tree.patch_embedding} <= set(leaves)
    for branch in set(vars(tree).values()) - {tree.patch_embedding}:
        assert any(name.startswith(f"{branch}/") for name in leaves), branch
    assert tree.vision_attention.startswith(f"{tree.vision_layers}/")
    assert tree.language_attention.startswith(f"{tree.language_layers}/")
    assert all(record.is_projector(name) and record.tower_of(name) == "img" for name in layout.projector)
    assert record.tower_of(layout.token_table) == "llm"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_rules_of_a_record_fit_every_leaf(record: Backbone) -> None:
    assert record.sharding[-1] == (r".*", ())
    for name, leaf in leaves_of(record).items():
        axes = next(axes for pattern, axes in record.sharding if re.fullmatch(pattern, name))
        assert len(axes) in (0, leaf.ndim), name
        if equation := equation_of(name, record.equations):
            layered = name.startswith(record.layers_of(record.tower_of(name)))
            assert layered == is_layered(equation, leaf.ndim), name
            assert not layered or any(re.fullmatch(pattern, name) for pattern, _ in record.results), name


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_checkpoint_s_layout_is_found_by_its_leaves(record: Backbone) -> None:
    leaves = leaves_of(record)
    assert layout_of(leaves) is record.layout and record.layout in LAYOUTS
    assert set(record.layout.places(leaves)) == set(leaves)
    assert {name.partition("/")[0] for name in leaves} == set(record.layout.branches)
    assert abstract_params(record.infer(leaves)) == leaves


def test_no_two_backbones_share_the_first_part_of_a_name() -> None:
    branches = list(itertools.chain(*(layout.branches for layout in LAYOUTS)))
    assert len(branches) == len(set(branches)) >= 2
    assert {record.layout for record in RECORDS} == set(LAYOUTS)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ValueError, match=r"backbone 'paligema' is unknown\. Did you mean `paligemma`"):
        backbone_of(replace(get_variant("dummy"), backbone="paligema"))
