"""One command scores the files of three models from another tool, and writes a LaTeX table."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation.convert import detect, find_files, name_runs, read_rows
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners import RUNNERS
from tests.runners.shared import MakeConfig

QUESTIONS = [
    ("Is the lung healthy?", "Yes", "CLOSED", "en", "Abnormality"),
    ("What is the largest organ?", "Lung", "OPEN", "en", "Organ"),
    ("Which modality is it?", "CT", "CLOSED", "en", "Modality"),
    ("\u80ba\u662f\u5065\u5eb7\u7684\u5417\uff1f", "\u662f", "CLOSED", "zh", "Abnormality"),
]
MODELS = {"lingshu": ["Yes", "Lung", "CT", "\u662f"], "huatuo": ["No", "The lung.", "MRI", "\u5426"]}
MODELS["med_gemma"] = ["yes, it is", "=heart", "ct", "\u662f"]


def medevalkit(folder: Path, *, bad: bool = False) -> str:
    """Writes results.json of three models as MedEvalKit does, and returns a pattern for them."""
    for model, answers in MODELS.items():
        samples: list[Any] = [
            {"question": q, "answer": a, "answer_type": kind, "lang": language, "response": said, "correct": True}
            for (q, a, kind, language, _), said in zip(QUESTIONS * 3, answers * 3, strict=True)
        ]
        if bad:
            samples[0]["response"] = None
        path = folder / model / "SLAKE" / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(samples), encoding="utf-8")
    return str(folder / "*" / "SLAKE" / "results.json")


def test_three_models_of_another_tool_become_one_latex_table(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"mode": "score", "eval.predictions": medevalkit(tmp_path / "theirs"), "eval.source.dataset": ""}
    out = tmp_path / "out"
    out.mkdir()
    RUNNERS["score"](micro_config(changed | {"score.published": (), "eval.bootstrap": 50}), out)
    latex = (out / "table.tex").read_text(encoding="utf-8")
    assert latex.startswith(r"% In the preamble: \usepackage{booktabs,graphicx}.")
    assert latex.count("{") == latex.count("}") and latex.count(r"\resizebox") == 2
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2 and r"\toprule" in latex
    assert all(name in latex for name in ("lingshu", "huatuo", r"med\_gemma", "exact", "radvqa", "language: zh"))
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows[:8]}) == 1  # as many cells in every row
    scores = read_json(out / "scores.json")
    (table,) = scores["tables"]
    overall = {cell["run"]: cell["radvqa"]["value"] for cell in table["cells"] if cell["field"] == "overall"}
    assert overall["lingshu"] == 1 and overall["huatuo"] < overall["med_gemma"] < 1
    assert table["dataset"] == "slake" and {"en", "zh"} <= {
        c["value"] for c in table["cells"] if c["field"] == "language"
    }
    assert table["metrics"]["lingshu"]["medevalkit.accuracy"]["value"] == 1
    printed = capsys.readouterr().out
    assert "MedEvalKit (rules): accuracy" in printed and "12 answers are in" in printed
    assert "12 of lingshu" in printed and "is unknown: each of these questions counts" in printed
    assert len(read_jsonl(out / "verdicts.jsonl")) == 36
    assert "'=heart" in (out / "verdicts.csv").read_text(encoding="utf-8-sig")
    for name in ("table.md", "table.csv", "unscored.jsonl", "report.html"):
        assert (out / name).exists(), name


def test_an_unreadable_row_is_named_and_the_rest_is_scored(micro_config: MakeConfig, tmp_path: Path) -> None:
    pattern = medevalkit(tmp_path / "theirs", bad=True)
    changed = {"mode": "score", "eval.predictions": pattern, "eval.source.dataset": "", "score.published": ()}
    with pytest.raises(ValueError, match=r"1 of 12 lines cannot be scored.*\n  line 1 of .*results\.json: response"):
        RUNNERS["score"](micro_config(changed), tmp_path)
    RUNNERS["score"](micro_config(changed | {"score.max_unscored": 0.1, "score.report_lines": 0}), tmp_path)
    assert [line["reason"] for line in read_jsonl(tmp_path / "unscored.jsonl")] == ["response is missing or empty"] * 3
    assert len(read_jsonl(tmp_path / "verdicts.jsonl")) == 33


def test_vlmevalkit_and_lmms_eval_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "qwen" / "qwen_PMC_VQA.tsv"
    path.parent.mkdir()
    path.write_text(
        "index\tquestion\tA\tB\tanswer\tprediction\n3\tWhich?\tCT\tMRI\tB\tThe answer is B\n4\tWhich?\tCT\tMRI\t\tA\n"
    )
    assert detect(path) == "vlmevalkit"
    found = read_rows(path)
    (record,) = found.records
    assert (record.question_id, record.choices, record.reference, record.source) == ("3", ["CT", "MRI"], "B", "pmc_vqa")
    assert [(bad.line, bad.reason) for bad in found.bad] == [(3, "answer is missing or empty")]
    path = tmp_path / "20260101_samples_slake_en.jsonl"
    told = {"language": "en", "answer_type": "open", "modality": "ct", "content_type": "organ", "prediction": "x"}
    sample = {"doc_id": 7, "target": "Lung", "filtered_resps": ["lung"], "input": "What?", "slake_accuracy": told}
    path.write_text(json.dumps(sample) + "\n" + json.dumps(sample | {"doc_id": 8, "filtered_resps": [None]}) + "\nx\n")
    assert detect(path) == "lmms_eval"
    found = read_rows(path)
    (record,) = found.records
    assert record.predictions == ["lung"] and record.source == "slake_en" and record.question_type == "organ"
    assert [bad.line for bad in found.bad] == [2, 3]


def test_plain_json_is_read_and_a_misspelt_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    good = {"question_id": 1, "image_id": "i", "question": "?", "reference": "yes", "prediction": "no"}
    path.write_text(json.dumps([good, good | {"question_id": 2, "referense": "x"}, 5]))
    found = read_rows(path)
    assert found.records[0].predictions == ["no"] and found.records[0].question_id == "1"
    assert "Did you mean `reference`" in found.bad[0].reason and "not an object" in found.bad[1].reason


def test_files_are_found_by_commas_and_patterns(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c,d.jsonl")]
    for path in paths:
        path.write_text("")
    assert find_files(f"{paths[0]}, {paths[1]}") == paths[:2] and find_files(str(tmp_path / "*.jsonl")) == paths
    assert find_files(str(paths[2])) == [paths[2]]
    with pytest.raises(ValueError, match=r"no such file\. Did you mean `a.jsonl`"):
        find_files(str(tmp_path / "aa.jsonl"))
    with pytest.raises(ValueError, match=r"a.jsonl twice"):
        find_files(f"{paths[0]},{paths[0]}")


def test_runs_are_named_by_the_part_of_their_paths_that_differs() -> None:
    paths = [Path("/r/a/predictions/base.jsonl"), Path("/r/b/predictions/base.jsonl")]
    assert name_runs(paths, []) == ["a", "b"]
    with pytest.raises(ValueError, match="must be 2 names, one for each file"):
        name_runs(paths, ["x"])


def test_the_answers_of_a_run_are_not_replaced_by_a_strangers(micro_config: MakeConfig, tmp_path: Path) -> None:
    kept = tmp_path / "run" / "predictions"
    kept.mkdir(parents=True)
    for name in ("stage2.jsonl", "stage2.json"):
        (kept / name).write_text("{}", encoding="utf-8")
    theirs = tmp_path / "stage2.csv"
    theirs.write_text("question_id,image_id,question,reference,prediction\n1,i,q,no,no\n", encoding="utf-8")
    config = micro_config({"mode": "score", "eval.predictions": str(theirs), "eval.source.dataset": ""})
    with pytest.raises(ValueError, match=r"is the folder of a run that answered questions \(stage2\)"):
        RUNNERS["score"](config, tmp_path / "run")
    assert (kept / "stage2.jsonl").read_text(encoding="utf-8") == "{}"


def test_answers_that_were_judged_are_scored_again_in_the_same_folder(micro_config: MakeConfig, tmp_path: Path) -> None:
    theirs, out = tmp_path / "theirs.csv", tmp_path / "out"
    theirs.write_text("question_id,image_id,question,reference,prediction\n1,i,q,no,no\n", encoding="utf-8")
    out.mkdir()
    fields = {"mode": "score", "eval.predictions": str(theirs), "eval.source.dataset": ""}
    config = micro_config(fields | {"score.published": (), "eval.bootstrap": 50})
    RUNNERS["score"](config, out)
    first = (out / "table.csv").read_bytes()
    judged = out / "predictions" / "other.judge-ours-1a2b.json"
    judged.write_text("{}", encoding="utf-8")  # as mode=judge writes it
    (out / "table.csv").unlink()
    RUNNERS["score"](config, out)
    assert (out / "table.csv").read_bytes() == first and judged.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("name", ["verdicts.jsonl", "unscored.jsonl", "predictions/stage2.jsonl"])
def test_scores_do_not_replace_the_file_that_is_scored(name: str, micro_config: MakeConfig, tmp_path: Path) -> None:
    """Neither the file itself nor the report of its run is replaced."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("theirs", encoding="utf-8")
    config = micro_config({"mode": "score", "eval.predictions": str(path), "eval.source.dataset": ""})
    with pytest.raises(ValueError, match=r"would be replaced\. Give another --workdir"):
        RUNNERS["score"](config, tmp_path)
    assert path.read_text(encoding="utf-8") == "theirs"


def test_files_whose_lines_name_no_run_are_two_runs(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"question_id": "1", "image_id": "i", "question": "Is it?", "reference": "yes", "source": "s", "run": ""}
    for name, answer in (("gpt4", "yes"), ("claude", "no"), ("own", "yes")):
        own = {"run": "stage2"} if name == "own" else {}
        text = json.dumps(line | {"prompt": "", "predictions": [answer]} | own)
        (tmp_path / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")
    changed = {"mode": "score", "eval.predictions": str(tmp_path / "*.jsonl"), "eval.source.dataset": ""}
    (tmp_path / "scores").mkdir()
    RUNNERS["score"](micro_config(changed | {"score.published": (), "eval.bootstrap": 50}), tmp_path / "scores")
    said = capsys.readouterr().out
    assert f"run gpt4: {tmp_path / 'gpt4.jsonl'}\n" in said and "run stage2" not in said and "3 of 3 lines" in said
    found = {line["run"]: line["radvqa"] for line in read_jsonl(tmp_path / "scores" / "verdicts.jsonl")}
    assert found == {"claude": "incorrect", "gpt4": "correct", "stage2": "correct"}
