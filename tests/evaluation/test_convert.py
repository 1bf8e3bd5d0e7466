"""Converts another system's CSV to records; every mistake is named with its line."""

import subprocess
import sys
from pathlib import Path

import pytest

from radvqa_jax.evaluation.convert import convert, one_file, read_rows
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.evaluation.rules import verdict
from radvqa_jax.schema import Record

HEADER = "question_id,image_id,question,reference,prediction"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "theirs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_the_required_columns_make_a_record(tmp_path: Path) -> None:
    path = write(tmp_path, f'{HEADER}\r\n1,i1,"Is it, or not?",no,"No.\nIt is ""normal""."\r\n\r\n2,i1,Où?,cœur,\r\n')
    assert read_rows(path).records == [
        Record("1", "i1", "Is it, or not?", "no", ['No.\nIt is "normal".'], [], run="theirs"),
        Record("2", "i1", "Où?", "cœur", [""], [], run="theirs"),
    ]


def test_all_columns_make_a_record(tmp_path: Path) -> None:
    text = (
        "qid,image_id,question,gold,prediction_2,prediction_1,logprob_1,logprob_2,choices,answer_type,organ,source,run,x\n"
        "7,i,Which?,B,b,a,-0.5,-2,heart | liver,closed,chest,slake,llava,junk\n"
    )
    path = write(tmp_path, text, "utf-8-sig")
    renamed = {"question_id": "qid", "reference": "gold"}
    (record,) = read_rows(path, renamed=renamed, ignored=["x"], run="other").records
    assert record == Record(
        "7", "i", "Which?", "B", ["a", "b"], [-0.5, -2.0], "closed", organ="chest", choices=["heart", "liver"],
        run="llava", source="slake",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks the columns \['question_id', .*'prediction'\].*--column NEEDED=YOURS"),
        ("question_id,image_id,question,reference\n1,i,q,r\n", r"lacks the columns \['prediction'\]"),
        (f"{HEADER},organn\n", r"unknown column 'organn'. Did you mean `organ`.*--ignore organn"),
        (f"{HEADER},image_id\n", r"columns \['image_id'\] occur twice"),
        (f"{HEADER}\n", "holds no row"),
        (f"{HEADER}\n1,i,q,r\n", r"theirs.csv, line 2: 4 fields, but the header names 5"),
        (f"{HEADER}\n1,i,q,r,p\n,i,q,r,p\n", r"line 3: question_id is empty"),
        (f"{HEADER}\n1,i,q, ,p\n", r"line 2: reference is empty"),
        (f"{HEADER}\n1,i,q,r,p\n2,i,q,r,p\n1,i,q,r,x\n", r"line 4: question_id '1' was already in line 2"),
        (f"{HEADER},logprob\n1,i,q,r,p,0.5\n", r"line 2: a logprob must be a number not above 0.*got '0.5'"),
        (f"{HEADER},logprob\n1,i,q,r,p,high\n", r"got 'high'"),
        (f"{HEADER},logprob_2\n1,i,q,r,p,-1\n", "either every prediction or no prediction needs a logprob"),
        (f"{HEADER}_1,prediction_3\n1,i,q,r,p,x\n", "must be numbered 1, 2"),
        (f'{HEADER}\n1,i,q,r,"p\n', r"is not CSV"),
    ],
)
def test_a_mistake_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        convert(write(tmp_path, text), tmp_path / "out.jsonl")


def test_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not UTF-8.*Save it as CSV UTF-8"):
        read_rows(write(tmp_path, f"{HEADER}\n1,i,où,r,p\n", "latin-1"))


def test_an_absent_column_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no columns \['golden'\], which --column names"):
        read_rows(write(tmp_path, f"{HEADER}\n1,i,q,r,p\n"), renamed={"reference": "golden"})


def test_no_file_is_overwritten_or_left_half_written(tmp_path: Path) -> None:
    path, out = write(tmp_path, f"{HEADER}\n1,i,q,r,p\n1,i,q,r,p\n"), tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match="already in line 2"):
        convert(path, out, run="", renamed={}, ignored=[])
    assert not out.exists()
    write(tmp_path, f"{HEADER}\n1,i,q,r,p\n")
    rejects = tmp_path / "out.jsonl.rejects.jsonl"
    rejects.write_text("of an earlier form of the file")
    assert len(convert(path, out, run="r", renamed={}, ignored=[]).records) == 1
    assert not rejects.exists()
    with pytest.raises(ValueError, match="is not overwritten"):
        convert(path, out, run="", renamed={}, ignored=[])
    assert read_records(out) == [Record("1", "i", "q", "r", ["p"], [], run="r")]


@pytest.mark.slow
def test_the_script_converts_a_table(repo: Path, tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER.replace('reference', 'gold')}\n1,i,q,r,p\n")
    script = [sys.executable, str(repo / "scripts" / "to_predictions.py"), str(path)]
    run = [*script, str(tmp_path / "o.jsonl"), "--column", "reference=gold", "--run", "x"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=repo)
    assert done.returncode == 0 and "1 answers are in" in done.stdout, done.stderr
    done = subprocess.run([*run, "--column", "reference=q"], capture_output=True, text=True, check=False, cwd=repo)
    assert done.returncode == 2 and "--column names a column of ours twice" in done.stderr
    done = subprocess.run([*script, str(tmp_path / "p.jsonl")], capture_output=True, text=True, check=False, cwd=repo)
    assert done.returncode == 1 and "unknown column 'gold'" in done.stderr and "Traceback" not in done.stderr


def test_a_workbook_of_vlmevalkit(repo: Path, tmp_path: Path) -> None:
    """The workbook was saved by openpyxl, as VLMEvalKit saves its own."""
    path = Path(__file__).parent / "model_SLAKE.xlsx"
    records = tmp_path / "out.jsonl"
    script = [sys.executable, "scripts/to_predictions.py", str(path), str(records)]
    subprocess.run(script, cwd=repo, check=True, capture_output=True)
    found = read_records(records)
    assert found == read_rows(path).records and [record.question_id for record in found] == list("012345")
    assert found[0].choices == ["CT", "MRI"] and found[1].choices == []
    assert [record.reference for record in found] == ["B", "Yes", "2", "left lung", "No", "\u2265 5 mm"]
    assert [record.predictions[0] for record in found][1:5] == ["Yes, a mass.\nIt is large.", "two", "", "=SUM(1)"]
    assert {(record.run, record.source) for record in found} == {("model_SLAKE", "slake")}
    outcomes = [verdict(record, record.predictions[0]).outcome for record in found]
    assert outcomes == ["correct", "correct", "correct", "unparsed", "unparsed", "correct"]


def test_a_mode_that_takes_one_file_names_the_way_out(tmp_path: Path) -> None:
    one, other = tmp_path / "theirs.jsonl", tmp_path / "their.jsonl"
    one.touch()
    assert one_file(str(one), "eval.predictions", needs="one") == one
    for several in (f"{one},{other}", str(tmp_path / "*.jsonl")):
        with pytest.raises(
            ValueError, match=r"eval\.predictions='.*' names several files; take one\. mode=score takes"
        ):
            one_file(several, "eval.predictions", needs="take one")
    with pytest.raises(ValueError, match=r"there is no such file.*theirs\.jsonl"):
        one_file(str(other), "eval.predictions", needs="take one")
