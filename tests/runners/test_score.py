"""Answers are scored and compared without a model, next to blind baselines if the data exist."""

import csv
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.evaluation import predict
from radvqa_jax.evaluation.baselines import BLANK
from radvqa_jax.evaluation.judge_file import JudgeFile
from radvqa_jax.evaluation.scorable import check_not_asked
from radvqa_jax.evaluation.score_types import UNSEEN
from radvqa_jax.files import read_json, read_jsonl, write_jsonl
from radvqa_jax.runners import RUNNERS
from radvqa_jax.schema import Record
from tests.runners.shared import MakeConfig


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
    """The scores of fake answers to the configured data, scored with `changed` fields."""
    path = folder / "mine.jsonl"
    fake_answers(make(), path, **fields)
    RUNNERS["score"](make({"mode": "score", "eval.predictions": str(path)} | changed), folder)
    return read_json(folder / "scores.json")


def test_answers_are_scored_next_to_blind_baselines(micro_config: MakeConfig, tmp_path: Path) -> None:
    scores = score(micro_config, tmp_path, {"eval.source.limit": 0})  # even if only a part of the split was answered
    assert {name: found["overall"]["n"] for name, found in scores["baselines"].items()} == {
        "question_only": 10,
        "majority": 10,
    }
    assert scores["runs"]["mine"]["overall"]["n"] == 10
    assert scores["provenance"]["predictions"]["name"] == "mine.jsonl"


def test_runs_with_other_questions_under_the_same_ids_have_tables_and_no_report(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In some systems' files the place is the id: another order pairs other questions."""
    for run, order in (("a", (0, 1, 2)), ("b", (1, 0, 2))):
        records = [
            Record(f"{place}", f"i{place}", f"Question {n}?", ("yes", "no", "left")[n], ["yes"], source="s", run=run)
            for place, n in enumerate(order)
        ]
        write_jsonl(tmp_path / f"{run}.jsonl", [record.to_json() for record in records])
    fields = {"mode": "score", "eval.predictions": str(tmp_path / "?.jsonl"), "eval.source.dataset": ""}
    RUNNERS["score"](micro_config(fields), tmp_path / "out")
    said = "No report.html for s: its runs 'a' and 'b' do not answer the same questions. Question '0' has the reference"
    assert said in capsys.readouterr().out
    assert (tmp_path / "out" / "table.csv").is_file() and not (tmp_path / "out" / "report.html").exists()


def write_answers(path: Path, count: int, *, source: str = "s") -> str:
    """Writes right answers to `count` questions of one run, named after the file."""
    made = (Record(f"q{n}", f"i{n}", "?", "yes", ["yes"], source=source, run=path.stem) for n in range(count))
    write_jsonl(path, (record.to_json() for record in made))
    return str(path)


def test_no_report_of_earlier_answers_stays_in_a_workdir(micro_config: MakeConfig, tmp_path: Path) -> None:
    one = write_answers(tmp_path / "a.jsonl", 4)
    two, other = write_answers(tmp_path / "b.jsonl", 3), write_answers(tmp_path / "c.jsonl", 3, source="t")

    def reports(*files: str, **fields: Any) -> list[str]:
        given = {"mode": "score", "eval.predictions": ",".join(files), "eval.source.dataset": ""} | fields
        RUNNERS["score"](micro_config(given), tmp_path / "out")
        return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("report.html"))

    assert reports(one) == ["report.html"]
    assert reports(one, two) == []  # other questions
    assert not (tmp_path / "out" / "table.txt").exists() and (tmp_path / "out" / "scores.json").exists()
    assert reports(one, other) == ["s/report.html", "t/report.html"]
    assert reports(one, two, other) == ["t/report.html"]
    (tmp_path / "out" / "s").mkdir(exist_ok=True)
    (tmp_path / "out" / "s" / "mine.txt").touch()
    assert reports(one) == ["report.html"]
    (tmp_path / "out" / "scores.json").write_text("{")
    assert reports(one, **{"score.report_lines": 0}) == [] and (tmp_path / "out" / "s" / "mine.txt").exists()


def test_a_line_with_another_number_of_answers_leaves_table_and_report(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        Record(f"{place}", f"i{place}", "?", "yes", ["yes"] * (1 + (place == 25)), source="s", run="a")
        for place in range(30)
    ]
    write_jsonl(tmp_path / "a.jsonl", [record.to_json() for record in records])
    fields = {"mode": "score", "eval.predictions": str(tmp_path / "a.jsonl"), "eval.source.dataset": ""}
    RUNNERS["score"](micro_config(fields), tmp_path / "out")
    assert "29 of 30 lines are scored" in (said := capsys.readouterr().out)
    assert "1 x predictions has 2 answers instead of 1 as in line 1" in said
    assert read_json(tmp_path / "out" / "scores.json")["runs"]["a"]["overall"]["n"] == 29
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("share", [0.1, 0.01])
def test_a_row_that_cannot_be_converted_is_named_in_its_own_file(
    share: float, micro_config: MakeConfig, tmp_path: Path
) -> None:
    """The converted file lacks the row, so another line has its number there."""
    rows = [f"q{number},i,?,yes,yes,{'x' if number == 1 else -1}" for number in range(30)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["question_id,image_id,question,reference,prediction,logprob", *rows]))
    fields = {"mode": "score", "eval.predictions": str(table), "eval.source.dataset": "", "score.max_unscored": share}
    refused = pytest.raises(ValueError, match=rf"\n  line 3 of {table}: a logprob must be") if share < 1 / 30 else None
    with refused or nullcontext():
        RUNNERS["score"](micro_config(fields), tmp_path / "out")
    (line,) = read_jsonl(tmp_path / "out" / "unscored.jsonl")
    assert (line["file"], line["line"]) == (str(table), 3)


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
        (
            {"eval.train_source.split": "test"},
            {},
            "The training rows of the blind baselines (phantom_rad/tiny:test) hold 10 of the 10",
        ),
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


def test_a_name_cannot_command_the_terminal_that_shows_the_table(micro_config: MakeConfig, tmp_path: Path) -> None:
    score(micro_config, tmp_path, {}, run="a\x1b[2Jb")
    for name in ("table.txt", "table.md", "table.tex"):
        assert "\x1b" not in (table := (tmp_path / name).read_text()) and "u001b" in table, name


def test_a_missing_encoder_is_found_before_anything_is_scored(micro_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"score\.bertscore_model='nowhere' must be a folder"):
        score(micro_config, tmp_path, {"score.bertscore_model": "nowhere"})
    assert not (tmp_path / "table.csv").exists()


def test_answers_to_another_image_are_not_taken_for_the_models(micro_config: MakeConfig, tmp_path: Path) -> None:
    scores = score(micro_config, tmp_path, {}, image_used="another")
    assert list(scores["runs"]) == ["mine, another case's image"]


def test_an_unknown_data_set_is_refused_when_scoring(micro_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'phantom_rat'\. Did you mean `phantom_rad`"):
        score(micro_config, tmp_path, {"eval.source.dataset": "phantom_rat"})
    with pytest.raises(ValueError, match=r"^eval\.train_source: phantom_rad has no split 'trian'\. Did you mean"):
        score(micro_config, tmp_path, {"eval.train_source.split": "trian"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl"]  # found before an answer was scored


def _with(path: Path, numbers: list[int], **changed: Any) -> None:
    """Changes fields of some lines of a predictions file."""
    rows = read_jsonl(path)
    write_jsonl(path, [row | changed if number in numbers else row for number, row in enumerate(rows)])


def test_answers_to_other_questions_than_those_of_the_data_are_refused(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    config = micro_config({"mode": "score", "eval.predictions": str(path)})
    records = fake_answers(micro_config(), path)
    _with(path, [2], question="Is it broken?")
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 3: .* asks 'Is it broken\?', but in phantom_rad"):
        RUNNERS["score"](config, tmp_path)
    fake_answers(micro_config(), path)
    _with(path, [2], image_id=next(r.image_id for r in records if r.image_id != records[2].image_id))
    with pytest.raises(ValueError, match=r"and .*mine\.jsonl disagree about the image of a question"):
        RUNNERS["score"](config, tmp_path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["mine.jsonl"]
    fake_answers(micro_config(), path)
    rows = read_jsonl(path)
    write_jsonl(path, [r | {"image_id": f"i/{r['image_id']}", "image_used": f"i/{r['image_id']}"} for r in rows])
    _with(path, [0], question=f" {records[0].question.upper()} Answer in a word.")  # other tools add instructions
    RUNNERS["score"](config, tmp_path)
    assert "images have other names in" in capsys.readouterr().out


def test_captions_are_not_answers_to_the_questions_of_their_rows(micro_config: MakeConfig, tmp_path: Path) -> None:
    caption = {"mode": "predict", "eval.source.task": "caption", "eval.train_source.task": "caption"}
    records = fake_answers(micro_config(caption), path := tmp_path / "mine.jsonl", question="caption en")
    RUNNERS["score"](micro_config(caption | {"mode": "score", "eval.predictions": str(path)}), tmp_path)
    assert read_json(tmp_path / "scores.json")["runs"]["mine"]["overall"]["n"] == len(records)


def test_a_predictions_file_without_answers_is_refused(micro_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    config = micro_config({"mode": "score", "eval.predictions": str(tmp_path / "empty.jsonl")})
    with pytest.raises(ValueError, match=r"empty.jsonl has no answers"):
        RUNNERS["score"](config, tmp_path)


def test_a_comparison_needs_one_run_a_file(micro_config: MakeConfig, tmp_path: Path) -> None:
    rows = [Record("0", "i", "q", "yes", ["no"], [], run=run) for run in ("base", "stage1")]
    write_jsonl(tmp_path / "two.jsonl", [row.to_json() for row in rows])
    write_jsonl(tmp_path / "one.jsonl", [rows[0].to_json()])
    paths = {"eval.predictions": str(tmp_path / "one.jsonl"), "eval.compare_with": str(tmp_path / "two.jsonl")}
    with pytest.raises(
        ValueError, match=r"two.jsonl holds the runs \['base', 'stage1'\]; a comparison needs exactly one"
    ):
        RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)
    (tmp_path / "two.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"two.jsonl holds no answers"):
        RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)
    (tmp_path / "two.csv").write_text("question_id,reference,prediction\n")
    (tmp_path / "two.json").write_text('[{"messages": [], "golden_answer": "yes", "response": "yes"}]')
    for name in ("two.csv", "two.json"):
        with pytest.raises(
            ValueError, match=rf"names .*{name}, a file in .*to_predictions.py .* two\.predictions.jsonl"
        ):
            RUNNERS["compare"](
                micro_config({"mode": "compare"} | paths | {"eval.compare_with": str(tmp_path / name)}), tmp_path
            )
    again = f"{tmp_path}/../{tmp_path.name}/one.jsonl"
    with pytest.raises(ValueError, match=r"name the same file, .*one.jsonl: .*Name the predictions of another system"):
        RUNNERS["compare"](micro_config({"mode": "compare"} | paths | {"eval.compare_with": again}), tmp_path)
    assert not (tmp_path / "compare.json").exists()
    (tmp_path / "two.jsonl").write_bytes((tmp_path / "one.jsonl").read_bytes())
    RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)
    said = read_json(tmp_path / "compare.json")["said"]
    assert said[0].startswith("A and B are the same file, byte for byte") and said[0] in (
        tmp_path / "compare.txt"
    ).read_text(encoding="utf-8")
    with (tmp_path / "two.jsonl").open("a") as file:
        file.write("\n")
    RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)
    said = read_json(tmp_path / "compare.json")["said"]
    assert said[0].startswith("A and B give the same answer to each of the 1 questions.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"choices": ["B. left", "A. right"]}, r"two\.jsonl: question '0': field `choices` are in another order than"),
        ({"choices": ["B. left", "C. right"]}, r"two\.jsonl: question '0': field `choices` are in another order than"),
        ({"logprobs": [-1.0, -2.0]}, r"two\.jsonl: question '0': field `logprobs` has 2 values for 1 answers\. It has"),
    ],
)
def test_a_line_without_a_score_is_not_compared(
    changed: dict[str, Any], message: str, micro_config: MakeConfig, tmp_path: Path
) -> None:
    """If the letters of options contradict their order, the same answer would be right in one form and wrong in one."""
    one = Record("0", "i", "Which side?", "right", ["A"], [], choices=["left", "right"], run="one")
    write_jsonl(tmp_path / "one.jsonl", [one.to_json()])
    write_jsonl(tmp_path / "two.jsonl", [one._replace(run="two", **changed).to_json()])
    paths = {"eval.predictions": str(tmp_path / "one.jsonl"), "eval.compare_with": str(tmp_path / "two.jsonl")}
    with pytest.raises(ValueError, match=message):
        RUNNERS["compare"](micro_config({"mode": "compare"} | paths), tmp_path)


def write_job(folder: Path, config: Config, *, run: str, answer: str) -> None:
    """Writes the files that a job leaves in predictions/ for a run that was shown other images, too."""
    folder.mkdir(parents=True)
    own = [r._replace(run=run, predictions=[answer]) for r in fake_answers(config, folder / f"{run}.jsonl")]
    for stem, image in (
        ("", ""),
        ("_swapped", "x"),
        ("_swapped_any", "y"),
        ("_blank", BLANK),
        ("_blank_prompts", BLANK),
    ):
        shown = [r._replace(image_used=image or r.image_id) for r in own[: 3 if "prompts" in stem else None]]
        write_jsonl(folder / f"{run}{stem}.jsonl", (record.to_json() for record in shown))
    write_jsonl(folder / f"{run}.judge-medm-1a2b3c4d.jsonl", [{"content": "0" * 16}])


def test_all_files_of_a_job_give_the_table_of_reliance(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run is paired with its own answers to other images, also if two jobs call their run alike."""
    for name, answer in (("a", "yes"), ("b", "no")):
        write_job(tmp_path / name, micro_config(), run="stage2", answer=answer)
    given = {"mode": "score", "eval.predictions": str(tmp_path / "a" / "*.jsonl"), "eval.source.dataset": ""}
    RUNNERS["score"](micro_config(given), tmp_path / "one")
    said = capsys.readouterr().out
    assert "stage2_blank_prompts.jsonl is left out: it has each prompt once" in said
    assert "stage2.judge-medm-1a2b3c4d.jsonl is left out: it has a judge's verdicts on stage2." in said
    assert "survival" in said and (tmp_path / "one" / "report.html").is_file()
    assert relied_on(tmp_path / "one") == {("stage2", "another case's image"), ("stage2", "a blank image")}
    files = f"{tmp_path}/a/*.jsonl,{tmp_path}/b/*.jsonl"
    RUNNERS["score"](micro_config(given | {"eval.predictions": files}), tmp_path / "both")
    assert len(relied_on(tmp_path / "both")) == 4


def test_a_renamed_run_is_compared_with_its_answers_to_other_images(micro_config: MakeConfig, tmp_path: Path) -> None:
    write_job(tmp_path / "a", micro_config(), run="stage2", answer="yes")
    files = ",".join(str(tmp_path / "a" / f"stage2{end}.jsonl") for end in ("", "_swapped", "_blank"))
    given = {"mode": "score", "eval.predictions": files, "eval.source.dataset": ""}
    RUNNERS["score"](micro_config(given | {"eval.names": ("new",) * 3}), tmp_path / "out")
    assert relied_on(tmp_path / "out") == {("new", "another case's image"), ("new", "a blank image")}
    own = {
        "eval.predictions": f"{tmp_path}/a/stage2.jsonl,{tmp_path}/a/stage2_copy.jsonl",
        "eval.names": ("new", "New"),
    }
    (tmp_path / "a" / "stage2_copy.jsonl").write_bytes((tmp_path / "a" / "stage2.jsonl").read_bytes())
    with pytest.raises(ValueError, match=r"The runs \['new', 'New'\] would share a file\. Give names that differ"):
        RUNNERS["score"](micro_config(given | own), tmp_path / "both")


def test_answers_to_other_images_are_rows_of_their_run(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither they nor another system count as a run after training; the summary is about answers to own images."""
    for run, answer in (("base", "yes"), ("stage2", "no")):
        write_job(tmp_path / "jobs" / run, micro_config(), run=run, answer=answer)
    fake_answers(micro_config(), tmp_path / "z.jsonl", run="z", image_used=BLANK)  # without answers to own images
    files = f"{tmp_path}/jobs/*/*.jsonl,{tmp_path}/z.jsonl"
    given = {"mode": "score", "eval.predictions": files, "eval.source.dataset": ""}
    RUNNERS["score"](micro_config(given), tmp_path / "out")
    runs = read_json(tmp_path / "out" / "scores.json")["runs"]
    assert list(runs) == ["z, a blank image", "base", "stage2"]
    for name in ("base", "stage2"):
        assert set(runs[name]["unseen"]) == set(runs[name]["over"]) == set(UNSEEN)
        assert set(runs[name]["reliance"]) == set(UNSEEN.values())
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<p class="plain">After stage 2: ' in page
    assert "Training h" not in page and "was not measured" not in page
    judge = JudgeFile("j", {"model": "m", "prompt": "medm", "scores": [0, 1], "correct_from": 1}, {}, [])
    monkeypatch.setattr(
        "radvqa_jax.runners.score.find_judges", lambda path: [judge] if path.stem == "stage2_blank" else []
    )
    RUNNERS["score"](micro_config(given), tmp_path / "judged")
    runs = read_json(tmp_path / "judged" / "scores.json")["runs"]
    assert list(runs)[-1] == "stage2" and "judged" in runs["stage2, a blank image"]


def relied_on(folder: Path) -> set[tuple[str, str]]:
    """The runs and other images of the lines of table.csv that say how much a run relies on its image."""
    with (folder / "table.csv").open(encoding="utf-8-sig", newline="") as file:
        return {(row["run"], row["value"]) for row in csv.DictReader(file) if "survival" in row.values()}


@pytest.mark.parametrize(
    ("dataset", "variants", "refused"),
    [("slake", ("all", "en"), True), ("table", ("a", "b"), False), ("table", ("a", "a"), True)],
)
def test_baselines_learn_no_asked_question_of_another_variant(
    dataset: str, variants: tuple[str, str], refused: bool
) -> None:
    """SLAKE's variants share their questions; two tables may both number theirs from 1."""
    data = [{"question_id": "1"}, {"question_id": "2"}]
    learned, asked = (
        RowSource(data, indices=[0, 1], source=SourceConfig(dataset=dataset), fingerprint={"builder_config": variant})
        for variant in variants
    )
    with pytest.raises(ValueError, match="hold 2 of the 2 questions") if refused else nullcontext():
        check_not_asked(learned, asked)
