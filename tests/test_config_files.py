"""The files in configs/, fields on the command line, and settings that follow the checkpoint."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

from radvqa_jax.config import (
    EMBEDDED,
    Config,
    default_config,
    follow_checkpoint,
    use_embedded_model,
)
from radvqa_jax.config.check import check_field, from_config_dict
from radvqa_jax.models.variants import get_variant

# ml_collections loads the file in a way that newer Pythons will drop.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
REPO = Path(__file__).resolve().parent.parent
FILES = sorted(path for path in (REPO / "configs").glob("*.py") if path.name != "__init__.py")


def test_both_grids_build() -> None:
    make = load(REPO / "configs" / "ablations.py").get_config
    for base in ("demo", "medm"):
        built = from_config_dict(make(base))
        assert built.ablations.cells[0].name == "reference" and len(built.ablations.cells) > 10
    for base in ("annealing", "annealing_tiny"):
        built = from_config_dict(make(base))
        groups = {cell.group: [source.weight for source in cell.stage_sources] for cell in built.ablations.cells}
        assert groups == {"0%": [1.0], "10%": [0.9, 0.1], "25%": [0.75, 0.25], "50%": [0.5, 0.5], "75%": [0.25, 0.75]}
        assert len(built.ablations.cells) == 15 and built.stages["stage2"].eval_source.split == "validation"
    with pytest.raises(ValueError, match=r"ablations\.py:x is unknown\. Give :demo or :medm"):
        make("x")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_files_in_the_readme_exist() -> None:
    assert {"demo", "medm_stage1", "medm_stage2", "vqa_rad_tiny", "build_data"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_in_configs_builds(path: Path) -> None:
    config = load(path).get_config()
    if config.mode == "compare":
        config.eval.compare_with = "answers.jsonl"
    if config.mode in ("score", "compare"):
        config.eval.predictions = "answers.jsonl"
    if config.mode == "build_data":
        config.dataset = "phantom_rad"
    if config.mode == "ask":
        config.ask.image, config.ask.question = "chest.png", "Is it normal?"
    if config.mode == "fit_scaling":
        config.scaling.table = "losses.csv"
    if config.mode == "fit":
        config.experiment = "configs/medm_stage2.py"
    if config.mode in ("convert", "export"):
        config.model.checkpoint = "model.npz"
    built = from_config_dict(config)
    get_variant(built.model.variant).at(built.model.resolution)
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert f"--config configs/{path.name}" in docstring, "the docstring gives the command"


def test_the_medm_files_have_the_recipe() -> None:
    first, second = (from_config_dict(load(REPO / "configs" / f"medm_stage{n}.py").get_config()) for n in (1, 2))
    assert (first.stage_names, second.stage_names) == (("stage1",), ("stage2",))
    assert [row.dataset for row in first.stages["stage1"].sources] == ["slake"]
    assert [row.builder_config for row in second.stages["stage2"].sources] == ["rocov2_questions", "medpix_2_questions"]
    assert {row.dataset for row in second.stages["stage2"].sources} == {"written"}
    for built in (first, second):
        one = built.stages[built.stage_names[0]]
        assert built.model.variant == "paligemma-3b-448"
        assert (one.batch_size, one.accumulate, one.label_smoothing) == (6, 16, 0.0)
        assert (one.optim.learning_rate, one.optim.schedule, one.optim.weight_decay) == (1e-5, "constant", 0.0)
    assert [label for _, label in first.stages["stage1"].train] == ["train:head", "freeze"]
    assert second.stages["stage2"].lora.rank == 8


def command_line(*arguments: str) -> Config:
    """The configuration of configs/medm_stage2.py with flags, as the entry point reads them."""
    values = flags.FlagValues()
    argv = ["main", f"--config={REPO / 'configs' / 'medm_stage2.py'}", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True, sys_argv=argv)
    values(argv)
    return from_config_dict(values.config)


def test_the_command_line_overrides_fields_of_every_type() -> None:
    built = command_line(
        "--config.seed=7",
        "--config.stages.stage2.optim.learning_rate=3e-4",
        "--config.stages.stage2.optim.clip_norm=0",
        "--config.model.checkpoint=some file.npz",
        "--config.eval.swapped=false",
        "--config.saliency.layers=(1,2)",
        "--config.run_stages=('stage2',)",
        "--config.stages.stage2.sources[0].dataset=pmc_vqa",
        "--config.stages.stage2.sources[1].weight=2",
        "--config.stages.stage2.train=(('.*/lora_b','train:b'),('.*','freeze'))",
    )
    assert built.seed == 7
    assert (built.stages["stage2"].optim.learning_rate, built.stages["stage2"].optim.clip_norm) == (3e-4, 0.0)
    assert isinstance(built.stages["stage2"].optim.clip_norm, float)
    assert built.model.checkpoint == "some file.npz"
    assert built.eval.swapped is False
    assert built.saliency.layers == (1, 2)
    assert built.stage_names == ("stage2",)
    assert [(row.dataset, row.weight) for row in built.stages["stage2"].sources] == [("pmc_vqa", 1.0), ("written", 2.0)]
    assert built.stages["stage2"].train == ((".*/lora_b", "train:b"), (".*", "freeze"))


def test_a_wrong_value_on_the_command_line_is_refused() -> None:
    with pytest.raises(Exception, match="seed"):
        command_line("--config.seed=seven")
    with pytest.raises(ValueError, match=r"stages\.stage2\.batch_size=0 must be at least 1"):
        command_line("--config.stages.stage2.batch_size=0")


@pytest.mark.parametrize(
    "path", ["seed", "stages.stage1.optim.learning_rate", "stages.stage2.sources[0].dataset", "run_stages[0]"]
)
def test_a_field_that_exists_is_found(path: str) -> None:
    check_field(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stages.stage1.optm.learning_rate", r"Unknown config field `stages\.stage1\.optm`\. Did you mean `optim`"),
        (
            "stages.stage2.sources[1].datset",
            r"Unknown config field `stages\.stage2\.sources\[1\]\.datset`\. Did you mean `dataset`",
        ),
        ("seed.value", r"Config field `seed` is a value and has no fields; got `seed\.value`"),
    ],
)
def test_a_field_that_does_not_exist_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_field(path)


def test_the_embedded_model_is_in_the_package() -> None:
    config = default_config()
    use_embedded_model(config)
    assert config.model.variant == "tiny"
    assert Path(config.model.checkpoint).parent == REPO / "radvqa_jax" / "assets" / "tiny"


@pytest.mark.parametrize(
    ("overrides", "variant", "tokenizer"),
    [
        ({"model.checkpoint": "paligemma-3b-pt-448"}, "", ""),
        ({"model.checkpoint": "a/model.safetensors"}, "", ""),
        ({"model.checkpoint": "FOLDER", "model.tokenizer": "own.model"}, "", "own.model"),
        ({"model.checkpoint": "FOLDER", "model.variant": "tiny"}, "tiny", ""),  # set by the user
        ({"model.checkpoint": "merged.npz"}, "tiny", str(EMBEDDED / "tokenizer.model")),
        ({"seed": 3}, "tiny", str(EMBEDDED / "tokenizer.model")),
    ],
)
def test_settings_of_the_embedded_model_are_dropped_with_it(
    overrides: dict[str, Any], variant: str, tokenizer: str
) -> None:
    config = default_config()
    use_embedded_model(config)
    config.update_from_flattened_dict(overrides)
    follow_checkpoint(config, list(overrides))
    assert (config.model.variant, config.model.tokenizer) == (variant, tokenizer)
