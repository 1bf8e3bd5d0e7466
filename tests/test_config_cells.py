"""Cells of a grid that contradict themselves or the experiment are refused."""

from typing import Any

import pytest

from radvqa_jax.config import cell, source
from radvqa_jax.config.check import from_config_dict
from tests.config_case import put, valid


@pytest.mark.parametrize(
    ("cells", "changes", "message"),
    [
        ((), {}, r"ablations\.cells is empty\. Take configs/ablations\.py"),
        ((cell("a"), cell("a")), {}, r"cells\[1\]\.name='a' must be a name that no other cell has"),
        ((cell("a", against="b"),), {}, r"cells\[0\] \(a\): against='b' is not a cell"),
        ((cell("a", without=("stage3",)),), {}, r"without=\('stage3',\) may only name stages of"),
        (
            (cell("a", without=("stage1",)),),
            {"stages.stage2.init_from": "x"},
            r"leaves out \('stage1',\), but stages\.stage2\.init_from=x",
        ),
        (
            (cell("a", stage="stage1", stage_steps=3),),
            {"stages.stage2.init_from": "x"},
            r"\(a\) changes stage1, but stages\.stage2\.init_from=x fixes the start of stage2",
        ),
        (
            (cell("a", adapter="x", train_prompt="{question}"),),
            {},
            "names a trained adapter and also changes the training",
        ),
        (
            (cell("a", without=("stage2",), stage_sources=(source(dataset="slake"),)),),
            {},
            "has stage_sources, but does not train stage2",
        ),
        (
            (cell("a", without=("stage1", "stage2"), train_prompt="{question}"),),
            {},
            "train_prompt, but trains no stage",
        ),
        ((cell("a", prompt="why?"),), {}, r"prompt='why\?' must contain \{question\}"),
        ((cell("a", train_prompt="{question} {options}"),), {}, r"train_prompt='.*nothing fills \{options\}"),
        ((cell("a", image="borrowed"),), {}, "image='borrowed' needs a `source` of questions without images"),
        ((cell("a", image="blnk"),), {}, r"`ablations\.cells\[0\]\.image` must be one of .*Did you mean `blank`"),
        ((cell("a", prmpt="{question}"),), {}, r"`ablations\.cells\[0\]\.prmpt`\. Did you mean `prompt`"),
        ((cell("a", seq_len=-1),), {}, r"seq_len=-1 must be in \[0, 8192\]"),
        ((cell("a" * 101),), {}, "of at most 100 characters"),
        ((cell("a", group="g", seed=1), cell("b", group="g", seed=1)), {}, "a and b of group 'g' both have seed=1"),
        ((cell("a", group="g", seed=3), cell("b", group="g")), {"seed": 3}, "both have seed=3"),
        (
            (cell("a", group="g", seed=1), cell("b", group="g", seed=2, prompt="so {question}")),
            {},
            r"cells\[1\] \(b\) and a of group 'g' differ in more than the seed",
        ),
        ((cell("a", group="g", adapter="x"), cell("b", group="g", adapter="x")), {}, "both have adapter=x"),
        (
            tuple(cell(name, group="g", without=("stage1", "stage2")) for name in "ab"),
            {},
            "a and b of group 'g' both have no trained stage",
        ),
        (
            (cell("a", train_prompt="{question}"),),
            {
                "data.prompt": "{history} {question}",
                "data.history": "references",
                "stages.stage2.sources": (source(dataset="slake", limit=5),),
            },
            r"has no \{history\}, so that the `limit` .* would choose other rows",
        ),
        ((cell("a", without=("stage1", "stage2"), seed=1),), {}, "has seed, but trains no stage"),
        ((cell("a", adapter="x", seed=1),), {}, "has seed, but trains no stage"),
        ((cell("a", stage="stage1"),), {}, "has stage='stage1', but neither stage_sources nor stage_steps"),
        ((cell("a", train_source=source(dataset="slake")),), {}, "has train_source, .* but no source"),
    ],
)
def test_an_invalid_cell_is_refused(cells: tuple[Any, ...], changes: dict[str, Any], message: str) -> None:
    config = valid()
    config.mode = "ablations"
    config.eval.source.dataset = config.eval.train_source.dataset = "phantom_rad"
    config.ablations.cells = (cell("a"), cell("b", without=("stage1",), against="a"))
    from_config_dict(config)
    config.ablations.cells = cells
    for path, value in changes.items():
        put(config, path, value)
    with pytest.raises(ValueError, match=message):
        from_config_dict(config)


def test_adapters_of_several_seeds_are_one_group() -> None:
    config = valid()
    config.mode = "ablations"
    config.eval.source.dataset = config.eval.train_source.dataset = "phantom_rad"
    config.ablations.cells = (cell("a"), *(cell(name, group="g", adapter=name) for name in ("x", "y")))
    assert from_config_dict(config).ablations.cells[2].group == "g"
