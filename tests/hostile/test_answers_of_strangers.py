"""Result files, sheets, verdicts and caches of users: nothing is lost, misread silently or waited for."""

import dataclasses
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import spreadsheet, typed_json
from radvqa_jax.chat_cache import Cache
from radvqa_jax.config import Config
from radvqa_jax.data.written import read_about
from radvqa_jax.evaluation import convert
from radvqa_jax.evaluation.convert import read_rows
from radvqa_jax.evaluation.judge_file import find_judges
from radvqa_jax.evaluation.line_scores import problem
from radvqa_jax.evaluation.readers import vlmevalkit
from radvqa_jax.evaluation.review import read_sheet
from radvqa_jax.evaluation.scoring import pair
from radvqa_jax.files import file_name
from radvqa_jax.runners import RUNNERS
from radvqa_jax.schema import Record

HEAD = "question_id,image_id,question,reference,prediction\n"
RECORD = Record("q0", "i0", "Is there a mass?", "yes", ["yes"])
SHEET = "run,source,question_id,content,correct,comment\n"


def config(predictions: str, *names: str) -> Config:
    found = Config()
    asked = dataclasses.replace(found.eval, predictions=predictions, names=names, bootstrap=20)
    return dataclasses.replace(found, mode="score", eval=asked)


def answers(path: Path, said: str) -> Path:
    path.write_text(f"{HEAD}q0,i0,Is there a mass?,yes,{said}\nq1,i1,Is there a mass?,yes,{said}\n")
    return path


def accuracies(workdir: Path) -> dict[str, float]:
    found = json.loads((workdir / "scores.json").read_text())["runs"]
    return {name: run["overall"]["value"] for name, run in found.items()}


@pytest.mark.parametrize("names", [("a/b", "a b"), ("..", "."), ("base", "b" * 150)])
def test_two_systems_never_share_a_file(tmp_path: Path, names: tuple[str, str]) -> None:
    files = [answers(tmp_path / "x1.csv", "yes"), answers(tmp_path / "x2.csv", "no")]
    workdir = tmp_path / "runs" / "score"
    RUNNERS["score"](config(",".join(map(str, files)), *names), workdir)
    assert accuracies(workdir) == {names[0]: 1.0, names[1]: 0.0}
    assert len(list((workdir / "predictions").iterdir())) == 2
    assert [path.name for path in workdir.parent.iterdir()] == ["score"]


def test_names_that_differ_in_capitals_alone_are_an_error(tmp_path: Path) -> None:
    files = [answers(tmp_path / "x1.csv", "yes"), answers(tmp_path / "x2.csv", "no")]
    with pytest.raises(ValueError, match=r"\['Base', 'base'\] would share a file"):
        RUNNERS["score"](config(",".join(map(str, files)), "Base", "base"), tmp_path / "w")


def test_a_data_set_names_a_folder_below_the_workdir(tmp_path: Path) -> None:
    path, workdir = tmp_path / "p.jsonl", tmp_path / "runs" / "score"
    sources = [f"{tmp_path}/evil 1", "../../evil 1", "fine 1"]
    rows = [RECORD._replace(question_id=f"q{n}", run="base", source=source) for n, source in enumerate(sources)]
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
    RUNNERS["score"](config(str(path)), workdir)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["p.jsonl", "runs"]
    folders = sorted(item.name for item in workdir.iterdir() if item.is_dir())
    assert len(folders) == 3 and all((workdir / name / "report.html").is_file() for name in folders)


def test_a_file_name_has_no_path() -> None:
    for name in ("/", "..", ".", "", "a\x00b", "\ud800", "x" * 500, "C:\\evil", ".lock"):
        found = file_name(name)
        assert found and Path(found).name == found and not found.startswith(".") and len(found) < 120
    assert file_name("base-2.1_x") == "base-2.1_x"


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_says_what_it_cannot_hold(tmp_path: Path, suffix: str) -> None:
    path, mark = tmp_path / f"m_d.{suffix}", "\t" if suffix == "tsv" else ","
    path.write_text(mark.join(["index", "question", "answer", "prediction", "prediction"]) + "\n")
    with pytest.raises(ValueError, match=r"the columns \['prediction'\] occur twice"):
        read_rows(path, kind="vlmevalkit")
    rows = [["index", "question", "answer", "prediction"], ["1", "q", "yes", "no", "yes it is"], ["2", "q", "no", "no"]]
    path.write_text("".join(mark.join(row) + "\n" for row in rows))
    found = read_rows(path, kind="vlmevalkit")
    assert [record.question_id for record in found.records] == ["2"]
    assert "has 5 cells, but the header names 4 columns" in found.bad[0].reason


def test_an_empty_option_does_not_move_the_letters_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "m_d.tsv"
    lines = [
        "index\tquestion\tA\tB\tC\tanswer\tprediction",
        "1\tq\tx\ty\tz\tB\ty",
        "2\tq\t\ty\tz\tB\ty",
        "3\tq\tx\ty\t\tB\ty",
    ]
    path.write_text("\n".join(lines) + "\n")
    found = read_rows(path, kind="vlmevalkit")
    assert [record.choices for record in found.records] == [["x", "y", "z"], ["x", "y"]]
    assert "option A is empty, and C is not" in found.bad[0].reason


@pytest.mark.parametrize(
    ("row", "renamed", "reason"),
    [
        ({"prediction": "no", "predictions": ["yes"]}, {}, "it has `prediction` and `predictions`"),
        (
            {"prediction": "no", "gold": "yes"},
            {"reference": "gold"},
            "two fields are our 'reference': reference and gold",
        ),
    ],
)
def test_two_fields_of_json_for_one_of_ours_are_refused(
    row: dict[str, Any], renamed: dict[str, str], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    usual = {"question_id": "1", "image_id": "i", "question": "q", "reference": "no", "answer_type": "closed"}
    path.write_text(json.dumps([usual | row, dict(reversed((usual | row).items()))]))
    found = read_rows(path, renamed=renamed)
    assert not found.records and [reason in bad.reason for bad in found.bad] == [True, True]


@pytest.mark.parametrize("options", [{"renamed": {"reference": "nothing"}}, {"ignored": ["nothing"]}])
@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_name_that_no_field_has_is_reported(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    usual = {"question_id": "1", "image_id": "i", "question": "q", "reference": "no", "prediction": "no"}
    text = json.dumps([usual]) if suffix == ".json" else f"{','.join(usual)}\n{','.join(usual.values())}\n"
    (tmp_path / f"p{suffix}").write_text(text)
    with pytest.raises(ValueError, match="nothing"):
        read_rows(tmp_path / f"p{suffix}", **options)


def test_bad_rows_without_end_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MOST_BAD", 50)
    (tmp_path / "p.jsonl").write_text("0\n" * 60)
    with pytest.raises(ValueError, match="more than 50 rows are bad") as found:
        read_rows(tmp_path / "p.jsonl", kind="json")
    assert len(str(found.value).splitlines()) < 30


@pytest.mark.parametrize("text", ["[]", '{"prepared_files": []}', '{"content": []}', "{}"])
def test_a_record_of_written_questions_is_read_by_field(text: str, tmp_path: Path) -> None:
    (tmp_path / "written.json").write_text(text)
    with pytest.raises(ValueError, match=r"written\.json"):
        read_about(tmp_path)


def test_a_question_has_no_more_options_than_letters(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(RECORD.to_json() | {"choices": ["x"] * 100_000}) + "\n")
    found = read_rows(path)
    assert found.bad[0].field == "choices" and "at most 26 items" in found.bad[0].reason


@pytest.mark.parametrize("field", ["logprobs", "token_ids", "ended", "seeds"])
def test_lists_by_answer_have_a_value_for_each(field: str) -> None:
    values: dict[str, Any] = {"logprobs": -1.0, "token_ids": [1], "ended": True, "seeds": 3}
    assert problem(RECORD._replace(**{field: [values[field]]})) is None
    found = problem(RECORD._replace(**{field: [values[field]] * 2}))
    assert found == (field, "has 2 values for 1 answers")


def test_questions_of_another_text_are_not_paired() -> None:
    other = [RECORD._replace(question="Is there a fracture?")]
    with pytest.raises(ValueError, match=r"has the text 'Is there a mass.' in one and 'Is there a fracture.'"):
        pair([RECORD], other)
    for text in ("", "is there a  mass?", "Is there a mass? Answer with one word."):
        assert pair([RECORD], [RECORD._replace(question=text)])


@pytest.mark.parametrize(
    "read",
    [
        lambda path: typed_json.read(path, dict),
        lambda path: typed_json.read_lines(path, Record),
        lambda path: list(spreadsheet.read_csv(path)),
        read_sheet,
        vlmevalkit.read_table,
        Cache,
    ],
)
@pytest.mark.parametrize("name", ["pipe.jsonl", "folder.xlsx"])
def test_pipes_and_folders_are_refused_without_waiting(
    tmp_path: Path, read: Callable[[Path], object], name: str
) -> None:
    path = tmp_path / name
    path.mkdir() if name.startswith("folder") else os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{name} is not a regular file"):
        read(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SHEET.replace("comment", "correct"), r"the columns \['correct'\] occur twice"),
        (SHEET + 'a,b,c,d,yes,"open\na,b,c,d,no,\n', "line 3: it is not CSV"),
        (
            SHEET + 'a1,b1,c,d,yes,"open\na2,b2,c,d,no,"\n',
            "line 3: .*a quote .* is not closed, or a cell holds whole rows",
        ),
        (SHEET + "a,b,c,d,yes\n", "line 2: 5 fields, but the header names 6 columns"),
        (SHEET + "a,b,c,d,yes,x,y\n", "line 2: 7 fields, but the header names 6 columns"),
        (SHEET + "a,b,c,d,maybe,\n", "line 2: correct='maybe' must be yes, no or empty"),
        ("a,b\n", "lacks the columns"),
        ("", "lacks the columns"),
    ],
)
def test_a_sheet_is_read_whole_or_not_at_all(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"sheet\.csv.*{problem}"):
        read_sheet(path)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_sheet_in_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "sheet.csv").write_bytes((SHEET + "a,b,c,d,yes,für\n").encode(encoding))
    with pytest.raises(ValueError, match=r"sheet\.csv is not UTF-8 .*Save it as CSV UTF-8"):
        read_sheet(tmp_path / "sheet.csv")


def judged(folder: Path, line: dict[str, Any], **about: Any) -> Path:
    known = {"model": "m", "prompt": "medm", "scores": [0, 1], "correct_from": 1} | about
    (folder / "p.judge-x.json").write_text(json.dumps(known))
    row = {"content": "0" * 16, "state": "judged", "score": 1, "reason": ""} | line
    (folder / "p.judge-x.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "p.jsonl"


@pytest.mark.parametrize(
    ("line", "about", "message"),
    [
        ({}, {"correct_from": 7}, r"p\.judge-x\.json: field `correct_from` must be above 0 and not above 1"),
        ({}, {"correct_from": -1}, "field `correct_from` must be above 0"),
        ({}, {"scores": [1, 1, 0]}, "field `scores` must be at least two integers in ascending order"),
        ({"score": 99}, {}, r"p\.judge-x\.jsonl, line 1: field `score` must be one of \[0, 1\]"),
        ({"score": -5}, {}, "field `score` must be one of"),
        ({"content": "abc"}, {}, "line 1: field `content`"),
    ],
)
def test_verdicts_are_on_the_scale_of_their_judge(
    tmp_path: Path, line: dict[str, Any], about: dict[str, Any], message: str
) -> None:
    assert find_judges(judged(tmp_path, {}))[0].answers["0" * 16].score == 1
    with pytest.raises(ValueError, match=message):
        find_judges(judged(tmp_path, line, **about))


def test_a_pipe_of_verdicts_is_an_error_and_not_an_empty_file(tmp_path: Path) -> None:
    path = judged(tmp_path, {})
    (tmp_path / "p.judge-x.jsonl").unlink()
    os.mkfifo(tmp_path / "p.judge-x.jsonl")
    with pytest.raises(ValueError, match="is not a regular file"):
        find_judges(path)


def test_a_cache_is_read_with_a_byte_order_mark_and_with_counts_that_can_be(tmp_path: Path) -> None:
    line = {"key": "k", "text": "yes", "finish": "stop", "model": "m", "tokens": 3}
    path = tmp_path / "cache.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line).encode() + b"\n")
    reply = Cache(path).get("k")
    assert reply is not None and reply.text == "yes"
    path.write_text(json.dumps(line | {"tokens": -5}) + "\n")
    with pytest.raises(ValueError, match="line 1: field `tokens` must be greater than or equal to 0"):
        Cache(path)


def test_a_large_table_of_one_cell_needs_little_more_than_its_size(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_bytes(HEAD.encode() + b'q,i,q,r,"' + b"x" * (4 << 20) + b'"\n')
    tracemalloc.start()
    try:
        assert len(read_rows(path).records) == 1
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()
    assert io.BytesIO(path.read_bytes()).readline() == HEAD.encode()


def test_options_in_another_order_than_their_letters_are_a_bad_line() -> None:
    found = problem(RECORD._replace(choices=["B. left", "A. right"], reference="B"))
    assert found is not None and found[0] == "choices" and "(option 1 is lettered B)" in found[1]
    for choices in (["A. left", "B. right"], ["(A) left", "(B) right"], ["C. difficile", "B. fragilis"], ["B. x"], []):
        assert problem(RECORD._replace(choices=choices)) is None
