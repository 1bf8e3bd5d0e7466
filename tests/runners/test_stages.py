"""Recipes of any number of stages with names of their own: three of them, trained, continued and reported in order."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.config import CellConfig, Config, SourceConfig, StageConfig, SynthesisConfig
from radvqa_jax.config.check import check_field
from radvqa_jax.config.rules import check
from radvqa_jax.config.stage_rules import OTHER_IMAGES, RUNS
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.evaluation.report import BLIND_LABELS
from radvqa_jax.evaluation.score_types import BEFORE, UNSEEN
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.ablations import chain_of
from radvqa_jax.runners.job import job_steps
from radvqa_jax.training.stage import stage_number
from tests.runners.shared import MakeConfig, contents

NAMES = ("head", "captions", "questions")


def three_stages(config: Config, **fields: Any) -> Config:
    """Trains the projector, adapters on captions, then the same adapters on questions."""
    first, second = config.stages["stage1"], config.stages["stage2"]
    captions = dataclasses.replace(
        second, sources=tuple(dataclasses.replace(s, task="caption") for s in second.sources)
    )
    stages = dict(zip(NAMES, (first, captions, second), strict=True))
    stages = {name: dataclasses.replace(stage, save_every=1) for name, stage in stages.items()}
    made = dataclasses.replace(config, stages=stages, run_stages=NAMES, **fields)
    check(made)
    return made


@pytest.fixture(scope="module")
def job(micro_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """(configuration, workdir) of a job of three stages that ran once."""
    fields = {"eval.blank": False, "eval.swapped": False, "eval.source.limit": 4, "saliency.methods": ("raw",)}
    config, workdir = three_stages(micro_config(fields)), tmp_path_factory.mktemp("job")
    RUNNERS["job"](config, workdir)
    return config, workdir


@pytest.mark.slow
def test_a_job_of_three_stages_reports_each_by_its_name(job: tuple[Config, Path]) -> None:
    config, workdir = job
    steps = [step for step in job_steps(config) if any(name in step for name in NAMES)]
    assert steps == [step for name in NAMES for step in (f"train {name}", f"answers of {name}")]
    scores = read_json(workdir / "scores.json")
    assert list(scores["runs"]) == [BEFORE, *NAMES] and list(scores["losses"]) == list(NAMES)
    table, page = (workdir / "table.txt").read_text(), (workdir / "report.html").read_text()
    for name in NAMES:
        assert name in table and name in page
        assert {r.run for r in read_records(workdir / "predictions" / f"{name}.jsonl")} == {name}
        assert load_adapter(workdir / name)[1].stage == name
        assert [row["step"] for row in read_jsonl(workdir / name / "losses.jsonl")] == [1, 2]
    assert len(set(contents(workdir, "*/adapter.npz").values())) == 3


@pytest.mark.slow
def test_three_stages_continue_bit_for_bit(job: tuple[Config, Path], tmp_path: Path) -> None:
    config, workdir = job
    for name in NAMES[:2]:
        shutil.copytree(workdir / name, tmp_path / name)
    (tmp_path / "captions" / "adapter.npz").unlink()  # as after an interruption in the second stage
    shutil.rmtree(tmp_path / "captions" / "checkpoints" / "2")
    RUNNERS["train"](dataclasses.replace(config, mode="train"), tmp_path)
    assert contents(tmp_path, "*/adapter.npz") == contents(workdir, "*/adapter.npz")
    assert contents(tmp_path, "*/adapter.json") == contents(workdir, "*/adapter.json")


def test_draws_follow_the_name_and_not_the_place() -> None:
    assert [stage_number(name) for name in ("stage1", "stage2", "stage12")] == [1, 2, 12]  # as earlier versions drew
    assert len({stage_number(name) for name in (*NAMES, "stage1", "stage2")}) == 5
    assert all(0 <= stage_number(name) < 2**32 for name in NAMES)


def trained(names: tuple[str, ...], **fields: Any) -> Config:
    stage = StageConfig(sources=(SourceConfig(dataset="phantom_rad"),), total_steps=3)
    return Config(stages=dict.fromkeys(names, stage), **fields)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (trained(()), r"mode=train needs a stage, and stages is empty\. Add one in the config file"),
        (
            trained(("a", "b")),
            r"There are several stages: a, b\. Name those to run, in order, such as --config\.run_s",
        ),
        (
            trained(("head", "b"), run_stages=("haed",)),
            r"run_stages\[0\]='haed' is not a stage\. Did you mean `head`\?",
        ),
        (trained(("a", "b"), run_stages=("b", "a", "b")), r"run_stages=\('b', 'a', 'b'\) names 'b' twice"),
        (trained(("A b",)), r"stages has the name 'A b'\. A name has at most 40 lower-case letters"),
        (trained(("../x",)), r"stages has the name '\.\./x'"),
        (trained(("x" * 41,)), r"at most 40 lower-case letters"),
        (trained(("base",)), r"stages has the name 'base', which a job uses for its own files"),
        (trained(("saliency",)), "'saliency', which a job uses"),
        (trained(("questions",), synthesis=SynthesisConfig(name="x")), "'questions', which a job uses"),
        (trained(("a_swapped",)), "'a_swapped', which a job uses"),
        (
            trained(("a",)).with_stages({"b": StageConfig(batch_size=0)}),
            r"stages\.b\.batch_size=0 must be at least 1",
        ),
        (trained(("a", "b"), run_stages=("b",)).with_stages({"b": StageConfig()}), r"stages\.b\.sources is empty"),
    ],
)
def test_an_invalid_recipe_is_refused_before_the_first_step(config: Config, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(config)


def test_stages_cannot_have_the_names_of_blind_runs() -> None:
    assert {BEFORE, *BLIND_LABELS} <= set(RUNS) and {f"_{kind}" for kind in UNSEEN} <= set(OTHER_IMAGES)
    assert "_blank_prompts" in OTHER_IMAGES  # runners/evaluate.py: the prompts that go with blank images


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("stage2.total_steps", r"Unknown config field `stage2`\. The fields of this stage are in `stages\.stage2`"),
        ("stages", r"`stages` must hold one group of fields for each stage.*give run_stages"),
        (
            "stages.captions.optim.lerning_rate",
            r"`stages\.captions\.optim\.lerning_rate`\. Did you mean `learning_rate`",
        ),
    ],
)
def test_fields_of_former_versions_name_the_new_ones(field: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_field(field)


def test_a_cell_changes_the_stage_that_it_names() -> None:
    config = trained(NAMES, run_stages=NAMES)
    other = (SourceConfig(dataset="slake"),)
    for name, want in (("", "questions"), ("captions", "captions")):
        chain = chain_of(CellConfig("a", stage=name, stage_sources=other, stage_steps=7), config)
        assert [(n, s.total_steps, s.sources == other) for n, s in chain] == [
            (n, 7 if n == want else 3, n == want) for n in NAMES
        ]
