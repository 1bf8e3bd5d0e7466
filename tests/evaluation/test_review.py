"""The sheet for clinicians: nothing in it runs, filled sheets are read, and readers are compared."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation.judge_file import Judged, JudgeFile, content_hash, group
from radvqa_jax.evaluation.report import Experiment, build_scores, review_lines, table_rows
from radvqa_jax.evaluation.report_figures import agreement_figure
from radvqa_jax.evaluation.review import Reading, match_readings, read_sheet, read_sheets, score_readings, write_sheet
from radvqa_jax.schema import Record

EVIL = ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "|calc", "%0A"]
RECORDS = [
    Record(f"q{i}", f"i{i}", "=1+1?", "left", ["left" if i < 6 else "=cmd|' /C calc'!A0"], [], source="s")
    for i in range(10)
]


def fill(path: Path, out: Path, reader: str, says: Any) -> Path:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["correct"], row["reader"] = says(number, row), reader
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_the_sheet_shows_no_verdict_and_has_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    assert write_sheet(path, {"base": RECORDS, "=stage2": RECORDS}, rows=12, seed=0) == 12
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["run"] for row in rows} == {"base", "'=stage2"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert {row["correct"] + row["reader"] + row["comment"] for row in rows} == {""}
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_filled_sheet_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, {"base": RECORDS}, rows=10, seed=0)
    assert write_sheet(path, {"base": RECORDS}, rows=5, seed=0) == 5  # nobody has filled it in
    fill(path, path, "A", lambda n, row: "yes" if not n else "")
    before = path.read_bytes()
    assert write_sheet(path, {"base": RECORDS}, rows=10, seed=0) == 0
    assert path.read_bytes() == before and "sheet.csv is filled in, and is kept" in capsys.readouterr().out


def test_filled_sheets_are_scored_and_readers_compared(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, {"base": RECORDS}, rows=10, seed=0)
    one = fill(path, tmp_path / "one.csv", "A", lambda n, row: "yes" if row["prediction"] == "left" else "No")
    two = fill(
        path, tmp_path / "two.csv", "", lambda n, row: "" if n == 0 else "1" if row["prediction"] == "left" else "0"
    )
    readings = [*read_sheet(one), *read_sheet(two)]
    assert len(readings) == 19 and {r.reader for r in readings} == {"A", "two"}  # "two": the file's name
    found = score_readings(readings, "base", RECORDS, [], resamples=50, seed=0)
    assert found is not None and found["readers"]["A"]["value"] == 0.6 and found["readers"]["A"]["n"] == 10
    pairs = {(pair["a"], pair["b"]): pair["kappa"] for pair in found["agreement"]}
    assert pairs == {("A", "two"): 1.0, ("A", "rules"): 1.0, ("two", "rules"): 1.0}
    assert score_readings(readings, "other", RECORDS, [], resamples=50, seed=0) is None
    # They did not read an answer that has changed since.
    changed = [r._replace(predictions=["right"]) for r in RECORDS]
    assert score_readings(readings, "base", changed, [], resamples=50, seed=0) == {
        "readers": {}, "agreement": [], "stale": 19, "unknown": 0,
    }  # fmt: skip


def test_rows_whose_ids_a_spreadsheet_changed_are_found_by_content(tmp_path: Path) -> None:
    """A spreadsheet saves 000013 as 13. The first two answers have the same content, as many do in a set."""
    records = [r._replace(question_id=f"{n:06d}", question=f"{max(n, 1)}?") for n, r in enumerate(RECORDS)]
    contents = [content_hash(record, record.predictions[0]) for record in records]
    readings = [Reading("A", "base", "s", str(n), content, True, "") for n, content in enumerate(contents)]
    gone = readings[0]._replace(question_id="zz")  # several answers have its content
    changed = readings[2]._replace(question_id="000002", content="0" * 16)
    matched = match_readings([*readings[1:], gone, changed], records)
    assert [record.question_id for _, record in matched.read] == [r.question_id for r in records[1:]]
    assert (matched.stale, matched.unknown) == (1, 1)
    found = score_readings([*readings[1:], gone], "base", records, [], resamples=50, seed=0)
    assert found is not None and found["readers"]["A"]["n"] == 9 and found["unknown"] == 1
    made = build_scores(Experiment("e", {"base": records}, readings=[gone]), resamples=20)
    (line,) = review_lines(made)
    assert line.startswith("before: 1 rows of sheets do not count: these answers hold no such question, by its id or")
    write_sheet(path := tmp_path / "sheet.csv", {"base": records}, rows=10, seed=0)
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert all(row["question_id"].startswith("'0000") for row in csv.DictReader(file))
    read = read_sheet(fill(path, tmp_path / "one.csv", "A", lambda n, row: "yes"))
    assert sorted((reading.question_id, reading.content) for reading in read) == sorted(
        (record.question_id, content) for record, content in zip(records, contents, strict=True)
    )


def test_a_reader_is_compared_with_each_of_two_judges_of_one_model() -> None:
    def judge(name: str, score: int) -> JudgeFile:
        about = {"model": "m", "prompt": name.split("-")[0], "scores": [0, 1], "correct_from": 1}
        lines = [Judged(content_hash(r, r.predictions[0]), "judged", score, "") for r in RECORDS]
        return group(name, about, lines)

    judges = [judge("medm-1", 1), judge("llama32_med-2", 0)]
    read = [Reading("A", "base", "s", r.question_id, content_hash(r, r.predictions[0]), True, "") for r in RECORDS]
    scores = build_scores(Experiment("e", {"base": RECORDS}, readings=read, judged={"base": judges}), resamples=20)
    review = scores["runs"]["base"]["review"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    agree = {pair["b"]: pair["agree"] for pair in review["agreement"]}
    assert agree == {"rules": 0.6, "judge m (medm)": 1.0, "judge m (llama32_med)": 0.0}
    labels = [row.label for row in table_rows(scores) if row.kind == "judge"]
    assert labels == ["judged by m (medm)", "judged by m (llama32_med)"]
    figure = agreement_figure(scores)
    assert figure is not None
    for label in ("judge m (medm), rules", "judge m (llama32_med), rules"):
        assert label in figure["words"]


def test_answers_whose_image_is_unknown_have_intervals(tmp_path: Path) -> None:
    """Each question counts as an image of its own, as in every other score."""
    records = [record._replace(image_id="") for record in RECORDS]
    write_sheet(path := tmp_path / "sheet.csv", {"base": records}, rows=10, seed=0)
    read = fill(path, tmp_path / "one.csv", "A", lambda n, row: "yes" if n % 2 else "no")
    found = score_readings(read_sheet(read), "base", records, [], resamples=50, seed=0)
    assert found is not None and found["readers"]["A"]["n_images"] == 10 and found["readers"]["A"]["interval"]
    assert found["agreement"][0]["interval"]


def test_mistakes_in_a_sheet_are_named(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, {"base": RECORDS}, rows=3, seed=0)
    with pytest.raises(ValueError, match=r"bad.csv, line 2: correct='maybe' must be yes, no or empty"):
        read_sheet(fill(path, tmp_path / "bad.csv", "A", lambda n, row: "maybe"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        read_sheet(tmp_path / "other.csv")
    readings = read_sheet(fill(path, tmp_path / "good.csv", "A", lambda n, row: "y"))
    assert all(isinstance(reading, Reading) and reading.correct for reading in readings)
    good = tmp_path / "good.csv"
    (tmp_path / "copy.csv").write_bytes(good.read_bytes())
    with pytest.raises(ValueError, match=r"copy\.csv: reader 'A' judged question .* here and in .*good\.csv\. Keep"):
        read_sheets([good, tmp_path / "copy.csv"])
    assert read_sheets([good]) == readings
    with pytest.raises(ValueError, match=r"Reader 'A' judged question .* twice"):
        score_readings(readings * 2, "base", RECORDS, [], resamples=50, seed=0)


def test_rows_about_other_runs_are_counted_and_named() -> None:
    def read(run: str) -> Reading:
        return Reading("A", run, "s", "q0", content_hash(RECORDS[0], "left"), True, "")

    runs = {"stage1": RECORDS}
    made = Experiment("e", runs, readings=[read("stage1"), read("base"), read("gpt"), read("gpt")])
    lines = review_lines(build_scores(made, resamples=20))
    assert lines[-1] == (
        "3 rows of sheets do not count: they are about before (1), gpt (2), and the runs here are after stage 1. "
        "eval.names gives runs other names."
    )
    kept = dataclasses.replace(made, readings=[read("stage1")])
    assert not any("do not count" in line for line in review_lines(build_scores(kept, resamples=20)))
