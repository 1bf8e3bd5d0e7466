"""The job from end to end on a random model and 40 phantoms, and the modes that do a part of it."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import CellConfig, Config
from radvqa_jax.evaluation import predict
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners import RUNNERS
from radvqa_jax.training import loop
from tests.data.conftest import fake_rows
from tests.runners.shared import MakeConfig, contents, refuse, replace_in_runners

RUNS = ("base", "stage1", "stage2")


@pytest.fixture(scope="module")
def job(micro_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """(configuration, workdir) of a job that ran once."""
    config, workdir = micro_config(), tmp_path_factory.mktemp("job")
    RUNNERS["job"](config, workdir)
    return config, workdir


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
        {"overall", "unseen", "over", "published", "samples"} <= set(run)
        and set(run["unseen"]) == {"swapped", "blank"}
        and {"question_only", "swapped", "blank"} <= set(run["over"])
        for run in scores["runs"].values()
    )
    assert all(run["overall"]["n"] == run["unseen"]["swapped"]["overall"]["n"] == 10 for run in scores["runs"].values())
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
    # Whole splits are compared, even if only a part of them is used.
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
    RUNNERS["train"](micro_config({"mode": "train", "run_stages": ("stage1",)}), tmp_path)
    out = capsys.readouterr().out
    assert "The first training row:" in out and "stage1: phantom_rad:train 142 rows kept, rejected {}" in out
    assert out.index("img/head/kernel") < out.index("stage1 step 1/2")
    assert f"The trained leaves are in {tmp_path / 'stage1' / 'adapter.npz'}" in out
    after = {"mode": "train", "run_stages": ("stage2",), "stages.stage2.init_from": str(tmp_path / "stage1")}
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
    # The same folder refuses answers of another model, size, wording or length.
    for changed, named in (
        ({}, "trained"),
        ({"model.resolution": 42}, "model/resolution"),
        ({"model.compute_dtype": "bfloat16"}, "model/compute_dtype"),
        ({"data.prompt": "{question}"}, "text/prompt"),
        ({"decode.max_new_tokens": 5}, "decode/max_new_tokens"),
        ({"eval.source.limit": 9}, "data/n"),
    ):
        given: dict[str, Any] = {"mode": "predict", "adapter": str(workdir / ("stage2" if changed else "stage1"))}
        if {"model.resolution", "data.prompt"} & set(changed):  # the adapter refuses these, too
            with pytest.raises(ValueError, match=r"it was trained with .* say so twice: --config\.adapter_accept="):
                RUNNERS["predict"](micro_config(given | changed), tmp_path)
            given["adapter_accept"] = tuple(changed)
        with pytest.raises(ValueError, match=rf"these differ: {named}\."):
            RUNNERS["predict"](micro_config(given | changed), tmp_path)


@pytest.mark.slow
def test_saliency_of_an_adapter_writes_its_maps(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path
) -> None:
    RUNNERS["saliency"](micro_config({"mode": "saliency", "adapter": str(job[1] / "stage2")}), tmp_path)
    assert contents(tmp_path, "saliency/*.png") == contents(job[1], "saliency/*.png") != {}
    made, answers = contents(tmp_path, "saliency/*"), contents(tmp_path, "predictions/*")
    for changed, named in (
        ({"adapter": str(job[1] / "stage1")}, "models"),
        ({"adapter": str(job[1] / "stage2"), "saliency.start_layer": 1}, "saliency"),
    ):
        with pytest.raises(ValueError, match=rf"maps in .* were made with other {named} \(see maps\.json there\)"):
            RUNNERS["saliency"](micro_config({"mode": "saliency"} | changed), tmp_path)
    assert contents(tmp_path, "saliency/*") == made and contents(tmp_path, "predictions/*") == answers
    with pytest.raises(ValueError, match=r"were made with other models"):  # the report of a job links to its own
        RUNNERS["saliency"](micro_config({"mode": "saliency", "adapter": str(job[1] / "stage1")}), job[1])


@pytest.mark.slow
def test_scoring_the_jobs_answers_gives_the_jobs_numbers(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workdir = job
    replace_in_runners(monkeypatch, "load_base", refuse)  # no model is needed
    file = workdir / "predictions" / "stage2.jsonl"
    RUNNERS["score"](micro_config({"mode": "score", "eval.predictions": str(file)}), tmp_path)
    scores, want = read_json(tmp_path / "scores.json"), read_json(workdir / "scores.json")
    assert list(scores["runs"]) == ["stage2"]
    assert scores["runs"]["stage2"]["overall"] == want["runs"]["stage2"]["overall"]
    assert scores["runs"]["stage2"]["over"] == {"question_only": want["runs"]["stage2"]["over"]["question_only"]}
    assert scores["baselines"] == want["baselines"]
    assert (tmp_path / "table.txt").is_file() and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_two_runs_are_compared_without_a_model(
    job: tuple[Config, Path], micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    a, b = (str(job[1] / "predictions" / f"{run}.jsonl") for run in ("stage2", "base"))
    RUNNERS["compare"](micro_config({"mode": "compare", "eval.predictions": a, "eval.compare_with": b}), tmp_path)
    found, want = read_json(tmp_path / "compare.json"), read_json(job[1] / "scores.json")["runs"]
    assert (found["a"]["run"], found["b"]["run"], found["overall"]["n"]) == ("stage2", "base", 10)
    assert found["overall"]["a"]["value"] == want["stage2"]["overall"]["value"]
    assert found["overall"]["difference"]["value"] == pytest.approx(
        want["stage2"]["overall"]["value"] - want["base"]["overall"]["value"]
    )
    assert (tmp_path / "compare.txt").read_text().startswith(f"A: stage2 ({a})\nB: base ({b})\n")


@pytest.mark.slow
def test_a_job_whose_maps_fail_still_writes_its_scores_and_says_what_is_missing(
    job: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, done = job
    workdir = shutil.copytree(done, tmp_path / "job")
    (workdir / "scores.json").unlink()
    (workdir / "report.html").unlink()

    def fail(*_: Any) -> Any:
        raise RuntimeError("no such layer <b>")

    replace_in_runners(monkeypatch, "maps", fail)
    with pytest.raises(
        ValueError, match=r"No attention maps: no such layer <b> Everything else is done: scores\.json"
    ) as e:
        RUNNERS["job"](config, workdir)
    assert isinstance(e.value.__cause__, RuntimeError)
    scores = read_json(workdir / "scores.json")
    assert scores["missing"] == ["No attention maps: no such layer <b>"] and tuple(scores["runs"]) == RUNS
    assert "<strong>No attention maps: no such layer &lt;b&gt;</strong>" in (workdir / "report.html").read_text()


def test_missing_inputs_of_the_scores_are_reported_before_anything_is_trained(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_in_runners(monkeypatch, "load_base", refuse)
    for changes, message in (
        ({"score.bertscore_model": "nowhere"}, "bertscore_model='nowhere' must be a folder"),
        ({"report.review_sheets": ("nowhere.csv",)}, "nowhere.csv"),
        ({"eval.source.task": "caption"}, r"eval\.source\.task='caption': mode=job scores questions"),
        ({"eval.train_source.task": "caption"}, r"eval\.train_source\.task='caption': mode=job scores questions"),
        ({"adapter_accept": ("data.promt",)}, r"adapter_accept names 'data\.promt'\. Did you mean `data\.prompt`"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            RUNNERS["job"](micro_config({"mode": "job"} | changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_blind_baselines_that_learn_the_asked_questions_are_refused_before_the_base_answers(
    micro_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"phantom_rad/tiny:test\) hold 10 of the 10 questions .* eval\.train_source"):
        RUNNERS["job"](micro_config({"eval.train_source.split": "test"}), tmp_path)
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("mode", ["job", "predict", "ablations"])
def test_questions_that_cannot_be_scored_are_found_before_anything_is_asked(
    mode: str, micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = fake_rows(2, question=["", "Where?"], answer=["", "-"])
    replace_in_runners(monkeypatch, "load_rows", lambda *_, **__: rows)
    replace_in_runners(monkeypatch, "refuse_leaks", lambda *_: {})
    cells = dataclasses.replace(micro_config().ablations, cells=(CellConfig("off", without=("stage1", "stage2")),))
    config = dataclasses.replace(micro_config(), mode=mode, ablations=cells)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"fake:train: no row can be scored \(empty_question: 1, empty_answer: 1"):
        RUNNERS[mode](config, tmp_path)
    assert not (tmp_path / "predictions").exists()
