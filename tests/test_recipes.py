"""The recipes of the three papers and the plain ones: every variant builds, and has its paper's settings."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.config import Config, LoraConfig, load_experiment
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.models import lora
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.base_leaves import base_shapes
from radvqa_jax.training.stage_plan import abstract_stage

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ADAPTERS = "attention", "attention_mlp", "report", "code"
ABLATIONS = "without_stage1", "without_role", "without_tower", "qlora"
VARIANTS = {
    "medm_stage1": ["en", "zh", "all", "vqa_rad", "captions"],
    "medm_stage2": [
        *("mixed", "rising", "roco", "medpix", "pmc_vqa", "captions", "captions_rising"),
        *(f"roco,{name}" for name in ADAPTERS),
        "roco,attention,vqa_rad",
    ],
    "llama32_med": [
        *("slake", "vqa_rad", "path_vqa", "mixed", "captions"),
        *(f"{data},{name}" for data, name in itertools.product(("slake", "captions"), ABLATIONS[1:])),
        "slake,without_stage1",
    ],
    "med_idefics": ["two_stages", "single_stage", "one_change", "two_stages,7000"],
    "first_run": ["vqa_rad", "slake", "path_vqa", "pmc_vqa"],
}
CELLS = [f"{file}.py:{variant}" for file, variants in VARIANTS.items() for variant in variants]


def build(name: str) -> Config:
    return from_config_dict(load_experiment(str(CONFIGS / name)))


def adapters(config: LoraConfig) -> tuple[set[str], int]:
    """The weights of PaliGemma-3B that have an adapter, and the number of weights of the adapters."""
    base = abstract_params(get_variant("paligemma-3b-448"))
    found = lora.resolve(config, base, PALIGEMMA.equations)
    assert found is not None
    shapes = jax.eval_shape(lambda: lora.init(jax.random.key(0), found, base))
    return set(found.targets), sum(math.prod(leaf.shape) for leaf in shapes.values())


@pytest.mark.parametrize("name", CELLS)
def test_every_recipe_builds(name: str) -> None:
    config = build(name)
    for stage in (config.stages[name] for name in config.stage_names):
        assert stage.sources
        if stage.lora.rank:
            adapters(stage.lora)  # no rule is idle


@pytest.mark.parametrize("name", [*CELLS, "own_data.py"])
def test_every_recipe_can_be_planned_before_its_data_are_there(name: str) -> None:
    """A warm-up does not matter for a plan, though it may be longer than the one step that is planned."""
    config = build(name)
    model = replace(config.model, quantize="none")  # NF4 is an extra
    shapes = base_shapes(replace(config, model=model), config.stage_names)
    for stage in config.stage_names:
        assert abstract_stage(stage, replace(config, model=model), shapes).trainable


@pytest.mark.parametrize("file", VARIANTS)
def test_an_unknown_variant_is_refused_with_the_known_ones(file: str) -> None:
    with pytest.raises(ValueError, match=rf"{file}\.py:nope is unknown\. Give one of {VARIANTS[file][0]}"):
        build(f"{file}.py:nope")
    with pytest.raises(ValueError, match="is unknown"):
        build(f"{file}.py:{VARIANTS[file][0]},nope")


def test_the_adapters_of_medm_s_code_have_the_size_of_those_that_its_authors_saved() -> None:
    # 45.3 MB in float32, of which 11,298,816 weights: MedM's adapter of a ROCO run on the Hub.
    names, weights = adapters(build("medm_stage2.py:roco,code").stages["stage2"].lora)
    assert weights == 11_298_816
    assert not {name for name in names if "out/kernel" in name or "Dense" in name or "head" in name}


def test_the_four_statements_of_medm_are_four_sets_of_adapters() -> None:
    found = {name: adapters(build(f"medm_stage2.py:roco,{name}").stages["stage2"].lora) for name in ADAPTERS}
    assert len({weights for _, weights in found.values()}) == 4
    paper, picture = found["attention"][0], found["attention_mlp"][0]
    assert paper < picture and {"img/head/kernel", "llm/layers/mlp/linear"} <= picture - paper
    assert found["report"][0] == found["code"][0]
    assert found["report"][1] * 8 == found["code"][1] * 12


def test_medm_s_pmc_vqa_is_asked_with_its_options() -> None:
    config = build("medm_stage2.py:pmc_vqa")
    assert "{choices}" in config.data.prompt
    assert (config.eval.source.builder_config, config.eval.source.split) == ("v1_clean", "test")


def test_llama32_med_adapts_every_linear_weight_but_in_one_ablation() -> None:
    whole, without = (build(f"llama32_med.py:slake{ablation}") for ablation in ("", ",without_tower"))
    every = {
        name for name in abstract_params(get_variant("paligemma-3b-448")) if lora.equation_of(name, PALIGEMMA.equations)
    }
    assert adapters(whole.stages["stage1"].lora)[0] == adapters(whole.stages["stage2"].lora)[0] == every
    left = adapters(without.stages["stage2"].lora)[0]
    assert "img/head/kernel" in left
    assert {name for name in every - left} == {name for name in every if name.startswith("img/Transformer")}


def test_llama32_med_s_other_ablations_change_one_thing_each() -> None:
    whole = build("llama32_med.py:slake")
    assert build("llama32_med.py:slake,without_stage1").stage_names == ("stage2",)
    assert build("llama32_med.py:slake,qlora").model.quantize == "nf4"
    plain = build("llama32_med.py:slake,without_role")
    for asked, generic in (
        (whole.data.prompt, plain.data.prompt),
        (whole.stages["stage1"].sources[0].prompt, plain.stages["stage1"].sources[0].prompt),
    ):
        assert "radiologist" in asked and "radiologist" not in generic and generic
    assert [row.dataset for row in build("llama32_med.py:mixed").stages["stage2"].sources] == [
        "slake",
        "vqa_rad",
        "path_vqa",
    ]


def test_med_idefics_leaves_the_vision_tower_alone() -> None:
    config = build("med_idefics.py:two_stages")
    names, _ = adapters(config.stages["stage2"].lora)
    assert "img/head/kernel" in names and not {name for name in names if name.startswith("img/Transformer")}
    assert (
        config.stages["stage2"].lora.rank,
        config.stages["stage2"].lora.alpha,
        config.stages["stage2"].lora.dropout,
    ) == (8, 8.0, 0.1)
    assert config.stages["stage1"].lora == config.stages["stage2"].lora  # stage 2 continues with them
    assert build("med_idefics.py:two_stages,7000").stages["stage1"].sources[0].limit == 7000


def test_med_idefics_one_change_only_leaves_out_stage_1() -> None:
    two, one = build("med_idefics.py:two_stages"), build("med_idefics.py:one_change")
    assert (two.stages["stage2"], two.data) == (one.stages["stage2"], one.data) and one.stage_names == ("stage2",)


def test_the_first_run_on_vqa_rad_has_the_strict_split_and_accepts_no_leak() -> None:
    config = build("first_run.py:vqa_rad")
    assert config.mode == "job" and config.audit.accept == ()
    assert config.stages["stage2"].sources[0].builder_config == "strict"
