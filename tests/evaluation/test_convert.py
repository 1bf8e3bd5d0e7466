"""CSV of another system into records: what is read, and that every mistake is named with its line."""

import subprocess
import sys
from pathlib import Path

import pytest

from radvqa_jax.evaluation.convert import convert, read_rows
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.schema import Record

HEADER = "question_id,image_id,question,reference,prediction"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "theirs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path, f'{HEADER}\r\n1,i1,"Is it, or not?",no,"No.\nIt is ""normal""."\r\n\r\n2,i1,Où?,cœur,\r\n')
    assert read_rows(path).records == [
        Record("1", "i1", "Is it, or not?", "no", ['No.\nIt is "normal".'], [], run="theirs"),
        Record("2", "i1", "Où?", "cœur", [""], [], run="theirs"),
    ]


def test_everything_that_can_be_given(tmp_path: Path) -> None:
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
        (f"{HEADER},logprob_2\n1,i,q,r,p,-1\n", "every prediction needs its logprob"),
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


def test_a_column_that_is_not_there_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no columns \['golden'\], which --column names"):
        read_rows(write(tmp_path, f"{HEADER}\n1,i,q,r,p\n"), renamed={"reference": "golden"})


def test_nothing_is_overwritten_and_half_a_file_is_never_left(tmp_path: Path) -> None:
    path, out = write(tmp_path, f"{HEADER}\n1,i,q,r,p\n1,i,q,r,p\n"), tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match="already in line 2"):
        convert(path, out, run="", renamed={}, ignored=[])
    assert not out.exists()
    write(tmp_path, f"{HEADER}\n1,i,q,r,p\n")
    assert len(convert(path, out, run="r", renamed={}, ignored=[]).records) == 1
    with pytest.raises(ValueError, match="is not overwritten"):
        convert(path, out, run="", renamed={}, ignored=[])
    assert read_records(out) == [Record("1", "i", "q", "r", ["p"], [], run="r")]


@pytest.mark.slow
def test_the_script(repo: Path, tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER.replace('reference', 'gold')}\n1,i,q,r,p\n")
    script = [sys.executable, str(repo / "scripts" / "to_predictions.py"), str(path)]
    run = [*script, str(tmp_path / "o.jsonl"), "--column", "reference=gold", "--run", "x"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=repo)
    assert done.returncode == 0 and "1 answers are in" in done.stdout, done.stderr
    done = subprocess.run([*script, str(tmp_path / "p.jsonl")], capture_output=True, text=True, check=False, cwd=repo)
    assert done.returncode == 1 and "unknown column 'gold'" in done.stderr and "Traceback" not in done.stderr
