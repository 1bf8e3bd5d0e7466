"""Every mode from end to end on a random model and 40 phantoms, and what is checked before anything is loaded."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import AdapterMeta, save_adapter
from radvqa_jax.config import Config, LoraConfig, SourceConfig
from radvqa_jax.data.sources import load_rows
from radvqa_jax.evaluation import predict
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json, read_jsonl, write_jsonl
from radvqa_jax.runners import RUNNERS
from radvqa_jax.schema import Record
from radvqa_jax.training import loop
from radvqa_jax.training.stage import Trained

MakeConfig = Callable[..., Config]
RUNS = ("base", "stage1", "stage2")


@pytest.fixture(scope="module")
def job(micro_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """Returns (configuration, workdir) of a job that ran once."""
    config, workdir = micro_config(), tmp_path_factory.mktemp("job")
    RUNNERS["job"](config, workdir)
    return config, workdir


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("this must not be called")


def replace_in_runners(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Puts `value` in the place of what every runner imported as `name`."""
    modules = [module for path, module in sys.modules.items() if path.startswith("radvqa_jax.runners.")]
    found = [module for module in modules if hasattr(module, name)]
    assert found, f"no runner uses {name}"
    for module in found:
        monkeypatch.setattr(module, name, value)


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file()}


@pytest.mark.slow
def test_the_job_leaves_every_file(job: tuple[Config, Path]) -> None:
    _, workdir = job
    for run in RUNS:
        ends = ("", "_swapped", "_blank")
        own, swapped, blank = (read_records(workdir / "predictions" / f"{run}{end}.jsonl") for end in ends)
        asked = [[r.question_id for r in records] for records in (own, swapped, blank)]
        assert asked[0] == asked[1] == asked[2] and len(own) == 10
        assert {r.run for r in (*own, *swapped, *blank)} == {run} and {r.image_used for r in blank} == {"blank"}
        prompts = read_records(workdir / "predictions" / f"{run}_blank_prompts.jsonl")
        assert {r.prompt: r.predictions for r in prompts} == {r.prompt: r.predictions for r in blank}
        assert len({r.prompt for r in prompts}) == len(prompts)
        assert all(r.image_used == r.image_id for r in own)
        assert all(r.image_used != r.image_id for r in swapped)
    for name in ("question_only", "majority"):
        guesses = read_records(workdir / "predictions" / f"{name}.jsonl")
        assert [r.question_id for r in guesses] == [r.question_id for r in own] and guesses[0].run == name
    for stage in ("stage1", "stage2"):
        assert {"adapter.npz", "adapter.json", "losses.jsonl", "data.json"} <= {
            p.name for p in (workdir / stage).iterdir()
        }
        assert [row["step"] for row in read_jsonl(workdir / stage / "losses.jsonl")] == [1, 2]
        assert read_json(workdir / stage / "data.json")[0]["kept"] == 142
    assert "<html" in (workdir / "report.html").read_text()
    assert len(contents(workdir, "saliency/*.png")) >= 1 and len(contents(workdir, "saliency/*.npz")) == 1


@pytest.mark.slow
def test_the_job_says_what_it_found(job: tuple[Config, Path]) -> None:
    config, workdir = job
    scores = read_json(workdir / "scores.json")
    assert tuple(scores["runs"]) == RUNS
    assert all(
        {"overall", "swapped", "blank", "over_question_only", "over_swapped", "over_blank", "published", "samples"}
        <= set(run)
        for run in scores["runs"].values()
    )
    assert all(run["overall"]["n"] == run["swapped"]["overall"]["n"] == 10 for run in scores["runs"].values())
    assert {name: found["overall"]["n"] for name, found in scores["baselines"].items()} == {
        "question_only": 10,
        "majority": 10,
    }
    assert {name: len(rows) for name, rows in scores["losses"].items()} == {"stage1": 2, "stage2": 2}
    assert scores["synthetic"] is True
    provenance = scores["provenance"]
    assert provenance["checkpoint"]["name"] == "micro.npz" and len(provenance["checkpoint"]["sha256"]) == 64
    assert provenance["evaluated_on"]["n"] == 10
    audit = read_json(workdir / "audit.json")
    # Whole splits are compared, whatever part of them is used.
    assert {name: split["rows"] for name, split in audit["splits"].items()} == {
        "phantom_rad/tiny:train": 142,
        "phantom_rad/tiny:test": 47,
    }
    assert audit["clean"] is True
    assert config.eval.source.limit == 10


@pytest.mark.slow
def test_a_job_that_is_done_computes_nothing_again(
    job: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, workdir = job
    kept = ("predictions/*", "stage?/*", "stage?/checkpoints/**/*", "*.json", "table.txt", "saliency/*")
    before = {pattern: contents(workdir, pattern) for pattern in kept}
    monkeypatch.setattr(loop, "step_on", refuse)
    monkeypatch.setattr(predict, "decode", refuse)
    RUNNERS["job"](config, workdir)
    assert {pattern: contents(workdir, pattern) for pattern in kept} == before
    out = capsys.readouterr().out
    table = (workdir / "table.txt").read_text()
    assert table in out and f"The report is {workdir / 'report.html'}" in out
    lines = [line.split("  ")[0] for line in table.splitlines()]
    assert {"before", "after stage 1", "after stage 2", "question only (no image)"} <= set(lines)


@pytest.mark.slow
def test_a_job_that_was_interrupted_ends_as_if_it_was_not(
    job: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = job
    real, seen = predict.append_jsonl, []

    def crash(path: Path, rows: list[dict[str, Any]]) -> None:
        seen.append(path)
        if len([name for name in seen if name.name == "stage1.jsonl"]) == 2:  # within the answers after stage 1
            raise KeyboardInterrupt
        real(path, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(predict, "append_jsonl", crash)
        RUNNERS["job"](config, tmp_path)
    assert not (tmp_path / "stage2").exists()
    RUNNERS["job"](config, tmp_path)
    for pattern in ("predictions/*", "stage?/adapter.npz", "table.txt"):
        assert contents(tmp_path, pattern) == contents(workdir, pattern)


@pytest.mark.slow
def test_training_alone_and_stage_by_stage_gives_what_the_job_trained(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, workdir = job
    RUNNERS["train"](micro_config({"mode": "train", "stages": ("stage1",)}), tmp_path)
    out = capsys.readouterr().out
    assert "The first training row:" in out and "stage1: phantom_rad:train 142 rows kept, rejected {}" in out
    assert out.index("img/head/kernel") < out.index("stage1 step 1/2")
    assert f"What was trained is in {tmp_path / 'stage1' / 'adapter.npz'}" in out
    after = {"mode": "train", "stages": ("stage2",), "stage2.init_from": str(tmp_path / "stage1")}
    RUNNERS["train"](micro_config(after), tmp_path)
    for stage in ("stage1", "stage2"):
        assert contents(tmp_path / stage, "adapter.npz") == contents(workdir / stage, "adapter.npz")
    assert not (tmp_path / "predictions").exists()


@pytest.mark.slow
def test_an_adapter_answers_as_it_did_in_the_job(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path
) -> None:
    _, workdir = job
    RUNNERS["predict"](micro_config({"mode": "predict", "adapter": str(workdir / "stage2")}), tmp_path)
    found = read_records(tmp_path / "predictions" / "predictions.jsonl")
    assert {record.run for record in found} == {"adapted"}
    want = read_records(workdir / "predictions" / "stage2.jsonl")
    assert [record._replace(run="stage2") for record in found] == want
    assert [r.logprobs for r in want] != [r.logprobs for r in read_records(workdir / "predictions" / "base.jsonl")]
    # The same folder does not take answers of another model, size, wording or length.
    for changed, named in (
        ({}, "trained"),
        ({"model.resolution": 42}, "model/resolution"),
        ({"model.compute_dtype": "bfloat16"}, "model/compute_dtype"),
        ({"data.prompt": "{question}"}, "text/prompt"),
        ({"decode.max_new_tokens": 5}, "decode/max_new_tokens"),
        ({"eval.source.limit": 9}, "data/n"),
    ):
        adapter = str(workdir / "stage2") if changed else str(workdir / "stage1")
        with pytest.raises(ValueError, match=rf"these differ: {named}\."):
            RUNNERS["predict"](micro_config({"mode": "predict", "adapter": adapter} | changed), tmp_path)


@pytest.mark.slow
def test_saliency_of_an_adapter_writes_its_maps(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path
) -> None:
    RUNNERS["saliency"](micro_config({"mode": "saliency", "adapter": str(job[1] / "stage2")}), tmp_path)
    assert contents(tmp_path, "saliency/*.png") == contents(job[1], "saliency/*.png") != {}


@pytest.mark.slow
def test_scoring_the_jobs_answers_gives_the_jobs_numbers(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workdir = job
    replace_in_runners(monkeypatch, "load_ground", refuse)  # no model is needed
    file = workdir / "predictions" / "stage2.jsonl"
    RUNNERS["score"](micro_config({"mode": "score", "eval.predictions": str(file)}), tmp_path)
    scores, want = read_json(tmp_path / "scores.json"), read_json(workdir / "scores.json")
    assert list(scores["runs"]) == ["stage2"]
    assert scores["runs"]["stage2"]["overall"] == want["runs"]["stage2"]["overall"]
    assert scores["runs"]["stage2"]["over_question_only"] == want["runs"]["stage2"]["over_question_only"]
    assert scores["baselines"] == want["baselines"]
    assert (tmp_path / "table.txt").is_file() and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_two_runs_are_compared_without_a_model(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_ground", refuse)
    a, b = (str(job[1] / "predictions" / f"{run}.jsonl") for run in ("stage2", "base"))
    RUNNERS["compare"](micro_config({"mode": "compare", "eval.predictions": a, "eval.compare_with": b}), tmp_path)
    found, want = read_json(tmp_path / "compare.json"), read_json(job[1] / "scores.json")["runs"]
    assert (found["a"]["run"], found["b"]["run"], found["overall"]["n"]) == ("stage2", "base", 10)
    assert found["overall"]["a"]["value"] == want["stage2"]["overall"]["value"]
    assert found["overall"]["difference"]["value"] == pytest.approx(
        want["stage2"]["overall"]["value"] - want["base"]["overall"]["value"]
    )
    assert (tmp_path / "compare.txt").read_text().startswith(f"A: stage2 ({a})\nB: base ({b})\n")


# From here on nothing is trained.


def test_a_comparison_needs_one_run_a_file(micro_config: MakeConfig, tmp_path: Path) -> None:
    rows = [Record("0", "i", "q", "yes", ["no"], [], run=run) for run in ("base", "stage1")]
    write_jsonl(tmp_path / "two.jsonl", [row.to_json() for row in rows])
    write_jsonl(tmp_path / "one.jsonl", [rows[0].to_json()])
    paths = {"eval.predictions": str(tmp_path / "one.jsonl"), "eval.compare_with": str(tmp_path / "two.jsonl")}
    with pytest.raises(
        ValueError, match=r"two.jsonl holds the runs \['base', 'stage1'\]; a comparison needs exactly one"
    ):
        RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)
    assert not (tmp_path / "compare.json").exists()


def test_data_are_built_and_described(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = str(tmp_path / "data")
    fields = {"mode": "build_data", "dataset": "phantom_rad", "builder_config": "tiny", "data.data_dir": data_dir}
    config = micro_config(fields)
    RUNNERS["build_data"](config, tmp_path)
    built = read_json(tmp_path / "data.json")
    assert built["splits"] == {"train": 142, "validation": 45, "test": 47}
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""])) == built
    source = SourceConfig(dataset="phantom_rad", builder_config="tiny", split="validation")
    assert len(load_rows(source, config.data)) == 45


@pytest.mark.parametrize("mode", ["train", "predict", "saliency"])
def test_data_are_missed_before_the_checkpoint_is_loaded(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_ground", refuse)
    with pytest.raises(ValueError, match=r"phantom_rad is not prepared.*configs/build_data.py"):
        RUNNERS[mode](micro_config({"mode": mode, "data.data_dir": str(tmp_path)}), tmp_path)


@pytest.mark.parametrize("mode", ["train", "job"])
def test_a_source_of_the_last_stage_is_missed_before_the_first_trains(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_ground", refuse)
    replace_in_runners(monkeypatch, "prepare", refuse)
    config = micro_config({"mode": mode})
    config = dataclasses.replace(
        config, stage2=dataclasses.replace(config.stage2, sources=(SourceConfig(dataset="slak"),))
    )
    with pytest.raises(ValueError, match=r"no data set 'slak'\. Did you mean `slake`\?"):
        RUNNERS[mode](config, tmp_path)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"model.checkpoint": "nowhere.npz"}, FileNotFoundError, r"nowhere\.npz"),
        ({"model.checkpoint": ""}, ValueError, r"native big_vision .npz checkpoint.* is empty\. Set model.checkpoint"),
        ({"model.tokenizer": "nowhere.model"}, FileNotFoundError, r"no tokenizer at model.tokenizer='nowhere.model'"),
        ({"model.variant": "mikro"}, ValueError, r"model.variant='mikro' is unknown. Did you mean `micro`"),
        ({"model.variant": "dummy"}, ValueError, r"has 1664 tokens, but dummy embeds 64"),
        ({"model.resolution": 30}, ValueError, r"model.resolution=30 must be a multiple of the patch size 14"),
        ({"stage2.init_from": "nowhere/adapter.npz"}, FileNotFoundError, r"nowhere/adapter\.npz"),
        ({"stage2.train": ((".*lora_c", "train:lora"), (".*", "freeze"))}, ValueError, r"stage2.train: the rules"),
        ({"stage2.lora.targets": ((".*", "none"),)}, ValueError, r"lora.targets chooses no weight"),
    ],
)
def test_files_and_rules_are_checked_before_data_are_made_or_weights_loaded(
    changed: dict[str, Any],
    error: type[Exception],
    message: str,
    micro_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace_in_runners(monkeypatch, "prepare", refuse)
    monkeypatch.setattr(big_vision, "load", refuse)
    with pytest.raises(error, match=message):
        RUNNERS["job"](micro_config(changed), tmp_path)


class Stages:
    """Stands in for run_stage: notes what each stage is given, and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, dict[str, Any]] = {}
        replace_in_runners(monkeypatch, "run_stage", self.run)

    def run(self, name: str, config: Config, *, batches: Any, folder: Path, **others: Any) -> Trained:
        self.given[name] = others | {"position": batches.get_state(), "batch": next(batches)}
        folder.mkdir()
        return Trained({f"made by {name}": np.zeros(1)}, LoraConfig())


def test_a_stage_is_given_its_data_from_the_beginning_and_the_stage_before(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    RUNNERS["train"](micro_config({"mode": "train", "data.overlong": "error"}), tmp_path)
    first, second = stages.given["stage1"], stages.given["stage2"]
    assert first["position"] == second["position"] == {"batches_drawn": 0}  # though a row of it was shown
    assert (len(first["batch"].tokens), len(second["batch"].tokens)) == (8, 4)  # batch_size x accumulate
    assert first["rows_per_epoch"] == 142
    assert (list(first["start"].leaves), list(second["start"].leaves)) == ([], ["made by stage1"])
    assert first["data"]["0"]["files"] and first["data"]["tokenizer"]
    assert not np.array_equal(first["batch"].tokens[:4], second["batch"].tokens)  # another order


def adapter_file(folder: Path, base: Path, *, sha256: str = "") -> Path:
    """Returns the path of an adapter that changes the projector's bias of the micro model."""
    meta = AdapterMeta("stage1", 1, LoraConfig(), base.name, sha256 or files.sha256(base), "c" * 64)
    return save_adapter(folder, {"img/head/bias": np.full(16, 0.5, np.float32)}, meta)


def test_init_from_goes_before_the_stage_before(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint)
    RUNNERS["train"](micro_config({"mode": "train", "stage2.init_from": str(path)}), tmp_path)
    assert list(stages.given["stage2"]["start"].leaves) == ["img/head/bias"]


def test_an_adapter_of_another_base_is_refused_before_any_stage_trains(
    micro_config: MakeConfig, micro_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    path = adapter_file(tmp_path / "elsewhere", micro_checkpoint, sha256="f" * 64)
    with pytest.raises(ValueError, match=r"stage1 was trained on micro.npz \(sha256 f{16}…\)"):
        RUNNERS["train"](micro_config({"mode": "train", "stage2.init_from": str(path)}), tmp_path)
    assert stages.given == {}


def test_an_adapter_is_missed_before_weights_are_loaded(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(big_vision, "load", refuse)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        RUNNERS["predict"](micro_config({"mode": "predict", "adapter": "nowhere"}), tmp_path)


def fake_answers(config: Config, path: Path, **changed: Any) -> list[Record]:
    """Writes and returns records that answer `yes` to every question of eval.source."""
    rows = load_rows(config.eval.source, config.data)
    records = [
        predict.to_record(row, predictions=["yes"], run="mine", image_used=row["image_id"])._replace(**changed)
        for row in rows
    ]
    write_jsonl(path, (record.to_json() for record in records))
    return records


def score(make: MakeConfig, folder: Path, changed: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Returns the scores of fake answers to the configured data, scored with `changed` fields."""
    path = folder / "mine.jsonl"
    fake_answers(make(), path, **fields)
    RUNNERS["score"](make({"mode": "score", "eval.predictions": str(path)} | changed), folder)
    return read_json(folder / "scores.json")


def test_answers_are_scored_beside_blind_baselines(micro_config: MakeConfig, tmp_path: Path) -> None:
    scores = score(micro_config, tmp_path, {"eval.source.limit": 0})  # whatever part of the split was answered
    assert {name: found["overall"]["n"] for name, found in scores["baselines"].items()} == {
        "question_only": 10,
        "majority": 10,
    }
    assert scores["runs"]["mine"]["overall"]["n"] == 10
    assert scores["provenance"]["predictions"]["name"] == "mine.jsonl"


@pytest.mark.parametrize(("source", "synthetic"), [("phantom_rad synthetic 1.0.0", True), ("vqa_rad 1.0.0", False)])
def test_scores_of_drawn_images_say_so(source: str, synthetic: bool, micro_config: MakeConfig, tmp_path: Path) -> None:
    assert score(micro_config, tmp_path, {}, source=source)["synthetic"] is synthetic
    assert ("Synthetic data" in (tmp_path / "table.txt").read_text()) is synthetic


@pytest.mark.parametrize(
    ("changed", "fields", "reason"),
    [
        ({"eval.source.dataset": ""}, {}, "eval.source.dataset is empty"),
        ({"eval.train_source.dataset": ""}, {}, "eval.train_source.dataset is empty"),
        ({"data.data_dir": "nowhere"}, {}, "phantom_rad is not prepared in nowhere"),
        ({"eval.source.split": "validation"}, {}, "phantom_rad/tiny:validation holds 0 of the 10 questions"),
        ({}, {"source": "elsewhere"}, "phantom_rad/tiny:test holds 0 of the 10 questions"),
    ],
)
def test_without_blind_baselines_the_reason_is_given(
    changed: dict[str, Any],
    fields: dict[str, Any],
    reason: str,
    micro_config: MakeConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = score(micro_config, tmp_path, changed, **fields)
    assert scores["baselines"] == {}
    assert f"No blind baselines: {reason}" in capsys.readouterr().out
    table = (tmp_path / "table.txt").read_text()
    assert "question only" not in table and "majority" not in table


def test_answers_to_another_image_are_not_taken_for_the_models(micro_config: MakeConfig, tmp_path: Path) -> None:
    scores = score(micro_config, tmp_path, {}, image_used="another")
    assert list(scores["runs"]) == ["mine, another case's image"]


def test_an_unknown_data_set_is_refused_when_scoring(micro_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'phantom_rat'\. Did you mean `phantom_rad`"):
        score(micro_config, tmp_path, {"eval.source.dataset": "phantom_rat"})


def test_a_predictions_file_without_answers_is_refused(micro_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    config = micro_config({"mode": "score", "eval.predictions": str(tmp_path / "empty.jsonl")})
    with pytest.raises(ValueError, match=r"empty.jsonl holds no answer"):
        RUNNERS["score"](config, tmp_path)
