"""Files of any size and state: every line is scored or named, memory does not grow with the answers."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax import typed_json
from radvqa_jax.evaluation import line_scores, rules, scan, score_tables
from radvqa_jax.evaluation.scoring import score
from radvqa_jax.files import read_jsonl
from radvqa_jax.schema import Record

LEAST: dict[str, Any] = {
    "question_id": "q",
    "image_id": "i",
    "question": "?",
    "reference": "yes",
    "predictions": ["yes"],
}


def row(number: int, **changed: Any) -> dict[str, Any]:
    return LEAST | {"question_id": f"q{number}", "image_id": f"i{number // 3}", "run": "m", "source": "slake"} | changed


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in rows))
    return path


BAD = {
    '{"question_id": ': ("", "not valid JSON"),
    "[1]": ("", "must be text; got 1"),
    json.dumps(row(1, reference="\ud800")): ("reference", "contains a lone surrogate"),
    json.dumps(row(2, predictions=[None])): ("predictions[0]", "must be text; got null"),
    json.dumps(row(3, predictions="yes")): ("predictions", 'must be a list; got "yes"'),
    json.dumps(row(4, reference=3)): ("reference", "must be text; got 3"),
    json.dumps(row(5, logprobs=[float("nan")])): ("logprobs[0]", "must be a finite number; got NaN"),
    json.dumps(row(6, logprobs=[-1.0, -2.0])): ("logprobs", "has 2 values for 1 answers"),
    json.dumps(row(7, predictions=[])): ("predictions", "holds no answer"),
    json.dumps(row(8, reference=" ")): ("reference", "empty reference"),
    json.dumps(row(9, choices=["CT", "MRI"])): ("reference", "is not among the choices"),
    json.dumps(row(100)): ("question_id", "was already answered by this run in line 1"),
    json.dumps(row(10, answer="x")): ("answer", "is unknown"),
    json.dumps(row(11, question="why " * 10_001)): ("question", "has 40,004 characters, and at most 40,000 are read"),
    json.dumps(row(12)).replace('"run"', '"reference": "no", "run"'): ("", "the field 'reference' occurs twice"),
}  # fmt: skip


def test_bad_lines_are_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    good = [row(number) for number in range(100, 130)]
    path = write(tmp_path / "p.jsonl", [*good, *BAD])
    found = scan.scan([path], tmp_path, max_unscored=0.5)
    assert found.lines == {str(path): 45} and len(found.runs["m"]) == 30
    unscored = read_jsonl(tmp_path / "unscored.jsonl")
    assert [line["line"] for line in unscored] == list(range(31, 46)) == found.unscored[str(path)]
    for line, (field, reason) in zip(unscored, BAD.values(), strict=True):
        assert (line["field"] == field or reason == "must be text; got 1") and reason in line["reason"], line
        assert line["file"] == str(path)
    assert unscored[3]["question_id"] == "q2" and sum(found.reasons.values()) == 15
    assert len(read_jsonl(tmp_path / "verdicts.jsonl")) == 30


def test_two_runs_may_answer_one_question_and_one_run_answers_it_once(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", [row(1), row(1, run="other"), row(2)])
    two = write(tmp_path / "b.jsonl", [row(3), row(1, run="other"), row(1, run="third")])
    found = scan.scan([one, two], tmp_path, max_unscored=0.5)
    assert {run: len(columns) for run, columns in found.runs.items()} == {"m": 3, "other": 1, "third": 1}
    (line,) = read_jsonl(tmp_path / "unscored.jsonl")
    assert line["line"] == 2 and line["reason"] == f"was already answered by this run in line 2 of {one}"


def test_a_line_with_another_number_of_answers_than_its_run_has_no_score(tmp_path: Path) -> None:
    """Each run has its own number on each data set, and may be in several files."""
    rows = [row(number, predictions=["no"] * (1 + (number == 5))) for number in range(10)]
    other = [row(number, source="vqa_rad 1.0.0", predictions=["yes"] * 5) for number in range(2)]
    one = write(tmp_path / "a.jsonl", [*rows, *other, row(5)])  # the last line answers question 5 as its run does
    two = write(tmp_path / "b.jsonl", [row(20, predictions=["no"] * 3), *(row(n, run="n") for n in range(9))])
    found = scan.scan([one, two], tmp_path, max_unscored=0.1)
    assert {run: len(columns) for run, columns in found.runs.items()} == {"m": 12, "n": 9}
    first, second = read_jsonl(tmp_path / "unscored.jsonl")
    assert (first["file"], first["line"], first["field"], first["question_id"]) == (str(one), 6, "predictions", "q5")
    assert first["reason"] == "has 2 answers instead of 1 as in line 1"
    assert second["reason"] == f"has 3 answers instead of 1 as in line 1 of {one}"
    with pytest.raises(ValueError, match=rf"{one}: 1 of 13 lines cannot be scored.*\n  line 6: field `predictions`"):
        scan.scan([one], tmp_path, max_unscored=0.01)


def test_runs_take_no_memory_for_questions_that_they_do_not_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [row(number, run=f"run {number}") for number in range(2000)])
    with path.open() as file:
        collector = scan._Collector(file, file, file)
    collector.lines["p"] = 0
    found = [line_scores.score_line(line) for line in typed_json.iter_lines(path, Record)]
    scored = [line for line in found if isinstance(line, line_scores.Scored)]
    assert [collector._answered("p", number, line) for number, line in enumerate(scored, 1)] == [None] * 2000
    assert len(collector.places) == 2000  # and not runs x questions
    assert collector._answered("p", 2001, scored[7]) == ("p", 8)


def test_a_file_with_too_many_bad_lines_is_refused_with_the_first_ten(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [*(row(number) for number in range(100, 130)), *BAD])
    with pytest.raises(ValueError, match=r"15 of 45 lines cannot be scored, more than score.max_unscored=0.1") as error:
        scan.scan([path], tmp_path, max_unscored=0.1)
    assert [f"line {n}:" in str(error.value) for n in range(30, 42)] == [False, *[True] * 10, False]
    assert len(read_jsonl(tmp_path / "unscored.jsonl")) == 15
    assert not (tmp_path / "verdicts.jsonl").exists() and not list(tmp_path.glob("*.part"))


def test_verdicts_hold_every_rule_and_no_formula(tmp_path: Path) -> None:
    rows = [
        row(0, predictions=["=1+1"]),
        row(1, predictions=["no"], answer_type="CLOSED"),
        row(2, reference="left lung"),
    ]
    scan.scan([write(tmp_path / "p.jsonl", rows)], tmp_path)
    lines = read_jsonl(tmp_path / "verdicts.jsonl")
    assert [line["radvqa"] for line in lines] == ["unparsed", "incorrect", "incorrect"]
    assert [line["answer_type"] for line in lines] == ["closed", "closed", "open"]
    assert [line["answer_type_derived"] for line in lines] == [True, False, True]
    assert {"exact", "radvqa_read", "llava_med.closed", "medgemma.f1", "prediction"} <= set(lines[0])
    with (tmp_path / "verdicts.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["question_id"] for line in table] == ["q0", "q1", "q2"] and table[0]["prediction"] == "'=1+1"
    assert list(table[0]) == list(lines[0])


def test_cells_are_those_of_the_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        Record(str(i), f"i{i // 4}", "?", str(rng.choice(["yes", "lung"])), [str(rng.choice(["yes", "lung", "heart"]))],
               answer_type="closed", organ=str(rng.choice(["chest", "brain"])), run="m", source="slake")
        for i in range(200)
    ]  # fmt: skip
    found = scan.scan([write(tmp_path / "p.jsonl", [r.to_json() for r in records])], tmp_path, published=["medm"])
    (table,) = score_tables.build_tables(found, resamples=200)
    wanted = score(records, resamples=200).to_json()
    cells = {(cell["field"], cell["value"]): cell for cell in table["cells"]}
    for key, cell in {("overall", ""): wanted["overall"], ("organ", "brain"): wanted["by"]["organ"]["brain"]}.items():
        for name in ("value", "interval", "n", "n_images", "unparsed", "correct"):
            assert cells[key]["radvqa"][name] == pytest.approx(cell[name]), (key, name)
    assert set(cells[("overall", "")]) >= set(rules.COLUMNS)
    assert table["metrics"]["m"]["medm.label_accuracy"]["value"] == pytest.approx(wanted["overall"]["value"], abs=0.2)


def test_other_processes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_ALONE", 0)
    monkeypatch.setattr(scan, "_CHUNK_LINES", 7)
    path = write(tmp_path / "p.jsonl", [*(row(n, predictions=[str(n % 3)]) for n in range(60)), "x"])
    written = []
    for workers in (1, 2):
        found = scan.scan([path], tmp_path, workers=workers, published=["medm"])
        table = score_tables.build_tables(found, resamples=10)
        written.append((table, *((tmp_path / name).read_bytes() for name in ("verdicts.csv", "unscored.jsonl"))))
    assert written[0] == written[1]


def test_the_image_of_a_question_may_be_unknown(tmp_path: Path) -> None:
    found = scan.scan([write(tmp_path / "p.jsonl", [row(n, image_id="") for n in range(8)])], tmp_path)
    (table,) = score_tables.build_tables(found, resamples=10)
    assert table["cells"][0]["n_images"] == 8 and table["without_image"] == {"m": 8}
    assert any("The image of 8 of m is unknown" in note for note in score_tables.notes(table))


# Not ru_maxrss: after a fork that is the parent's.
_MEASURE = """
import re, sys
from pathlib import Path
from radvqa_jax.evaluation.scan import scan
scan([Path(sys.argv[1])], Path(sys.argv[2]), workers=1)
print(re.search("VmHWM:[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_length_of_answers(tmp_path: Path) -> None:
    peaks = []
    for length in (1, 6000):  # words of 1,000 answers: 10 kB or 57 MB
        rows = [row(n, predictions=[f"yes. {n} " + "effusion " * length + "x" * length]) for n in range(1000)]
        path = write(tmp_path / f"{length}.jsonl", rows)
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(path), str(tmp_path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) * 1024)
    # Runs over one file differ by up to 8 MB on Python 3.13.
    assert peaks[1] - peaks[0] < path.stat().st_size / 4, peaks


def test_a_line_that_no_rule_can_read_raises_nothing() -> None:
    for text in ("\x00", "\u202e", "a\u0301" * 50, "\U0010ffff"):
        made = Record("q", "i", text, text, [text])
        found = line_scores.score_line(scan.typed_json.Line(1, made, None, b"{}"))
        assert isinstance(found, line_scores.Scored | line_scores.Unscored)


@pytest.mark.parametrize("long", ["yes " * 2_500_000, '["(' * 80_000])
def test_a_long_answer_is_read_at_its_ends_and_reported(long: str, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [row(0, predictions=[long]), row(1)])
    begin = time.process_time()
    found = scan.scan([path], tmp_path, workers=1)
    assert time.process_time() - begin < 10  # 41 s and 17 s before there was a limit
    (table,) = score_tables.build_tables(found, resamples=10)
    assert table["shortened"] == {"m": 1}
    assert any("The answer of 1 of m has more than 40,000 characters" in note for note in score_tables.notes(table))


def test_a_long_answer_scores_as_its_ends_do() -> None:
    half = line_scores.LONGEST // 2
    long = "no " * half + "yes " * half
    record = Record.from_json(row(0, predictions=[long]))
    ends = Record.from_json(row(0, predictions=[f"{long[:half]}\n{long[-half:]}"]))
    assert len(ends.predictions[0]) == line_scores.LONGEST + 1
    assert line_scores.score_record(record).values == line_scores.score_record(ends).values
