"""Every reader of files that people bring names the file that it complains about."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation import convert, judge_file, predict
from radvqa_jax.evaluation.review import read_sheet, read_sheets
from radvqa_jax.scaling.table import read_table
from radvqa_jax.schema import Record
from radvqa_jax.synthesis.review import read_review, read_reviews
from radvqa_jax.typed_json import read_lines

OURS = json.dumps(Record("0", "i", "q", "yes", ["no"], []).to_json())
CSV = "question_id,image_id,question,reference,prediction\n"
LMMS = json.dumps({"doc_id": 0, "target": "yes", "filtered_resps": ["no"], "doc": {}})
SHEET = b"run,source,question_id,content,correct\n"
BROKEN: list[tuple[str, bytes]] = [
    ("empty.csv", b""),
    ("column.csv", b"a,b\n1,2\n"),
    ("twice.csv", b"index,index,answer,prediction\n1,2,a,b\n"),
    ("bytes.csv", CSV.encode() + b"\xff,i,q,a,b\n"),
    ("quote.csv", (CSV + '"1,i,q,a,b\n').encode()),
    ("none.csv", CSV.encode()),
    ("wide.csv", (CSV + "1,i,q,a,b,c\n").encode()),
    ("empty.tsv", b""),
    ("nothing.tsv", b"a\tb\n1\t2\n"),
    ("none.xlsx", b"PK"),
    ("value.json", b"3"),
    ("object.json", b"{}"),
    ("cut.json", b'[{"a": 1}'),
    ("twice.json", b'[{"a": 1, "a": 2}]'),
    ("list.json", b"[]"),
    ("entry.json", b"[1]"),
    ("kit.json", b'[{"answer": "a", "response": null}]'),
    ("empty.jsonl", b""),
    ("line.jsonl", b"{\n"),
    ("field.jsonl", b'{"question_id": 3}\n'),
    ("lmms.jsonl", (LMMS.replace("yes", "\\ud800") + "\n").encode()),
    ("unknown.txt", b"a"),
]


def complaint(read: Callable[[Path], Any], path: Path) -> str:
    """The message with which a reader refuses a file."""
    with pytest.raises(ValueError) as error:
        read(path)
    return str(error.value)


@pytest.mark.parametrize(("name", "content"), BROKEN, ids=[name for name, _ in BROKEN])
def test_a_file_of_answers_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in complaint(lambda path: convert.convert(path, tmp_path / "out"), path)


@pytest.mark.parametrize("kind", [kind for kind in convert.FORMATS if kind != "radvqa"])
@pytest.mark.parametrize(("name", "content"), BROKEN, ids=[name for name, _ in BROKEN])
def test_a_file_of_another_format_than_the_given_one_is_named(
    kind: convert.Format, name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in complaint(lambda path: convert.convert(path, tmp_path / "out", kind=kind), path)


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", OURS), ("a.json", f"[{OURS}]"), ("a.csv", CSV + "1,i,q,a,b\n")])
@pytest.mark.parametrize("options", [{"renamed": {"plane": "absent"}}, {"ignored": ["absent"]}])
def test_a_field_that_no_row_has_is_reported_with_the_file(
    name: str, text: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    message = complaint(lambda path: convert.read_rows(path, kind=None if "csv" in name else "json", **options), path)
    assert str(path) in message and "absent" in message


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("p.jsonl", b"{}\n", predict.read_records),
        ("p.jsonl", b"[1]\n", lambda path: read_lines(path, Record)),
        ("p.judge-x.jsonl", b"{}\n", judge_file.read_lines),
        ("p.judge-x.json", b"[]", lambda path: judge_file.find_judges(path.with_name("p.jsonl"))),
        ("p.judge-x.json", b"{", lambda path: judge_file.find_judges(path.with_name("p.jsonl"))),
        ("s.csv", b"a,b\n1,2\n", read_sheet),
        ("s.csv", SHEET + b"r,s,0,c,maybe\n", read_sheet),
        (
            "s.csv",
            SHEET + b"r,s,0,c,yes\nr,s,0,c,no\n",
            lambda path: read_sheets([path]),
        ),
        ("s.csv", b"a,b\n1,2\n", read_review),
        ("s.csv", b"candidate_id,verdict\nx,perhaps\n", read_review),
        ("s.csv", b"candidate_id,verdict\nx,pass\n", lambda path: read_reviews([str(path), str(path)])),
        ("l.csv", b"a,b\n1,2\n", lambda path: read_table(path, {})),
        ("l.csv", b"size,data,loss\n1,2,x\n", lambda path: read_table(path, {})),
    ],
)
def test_a_file_of_verdicts_readings_or_losses_is_named(
    name: str, content: bytes, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in complaint(read, path)
