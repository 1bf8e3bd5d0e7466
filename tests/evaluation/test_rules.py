"""The two verdicts on an answer: known failures by kind, made-up answers, what holds for any text, size and time."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation.rules import Verdict, verdict
from radvqa_jax.files import read_jsonl
from radvqa_jax.schema import Record

FOLDER = Path(__file__).parent
CHOICES = ["CT", "MRI", "Pneumonia", "Normal chest"]


def record(reference: str, question: str = "", **fields: Any) -> Record:
    return Record("q0", "i0", question, reference, [], [], **fields)


def of_row(row: dict[str, Any]) -> Verdict:
    asked = record(row["reference"], row["question"], choices=row.get("choices", []), language=row.get("language", ""))
    return verdict(asked, row["prediction"])


def wrong(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the rows whose outcome is another than wanted; anything but correct is `not correct`."""
    found = []
    for row in rows:
        outcome = of_row(row).outcome
        if outcome != row["want"] and not (row["want"] in ("notcorrect", "not correct") and outcome != "correct"):
            found.append(f"{outcome}: {json.dumps(row, ensure_ascii=False)}")
    return found


CASES = read_jsonl(FOLDER / "cases.jsonl")
ANSWERS: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
for answer in read_jsonl(FOLDER / "answers.jsonl"):
    ANSWERS[answer["kind"]].append(answer)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['prediction'][:20]!a}" for i, case in enumerate(CASES)])
def test_known_failures(case: dict[str, Any]) -> None:
    assert not wrong([case]), case["why"]


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_made_up_answers(kind: str) -> None:
    assert wrong(ANSWERS[kind]) == []


def test_the_made_up_answers_are_many_and_go_both_ways() -> None:
    assert len(ANSWERS) >= 8 and sum(map(len, ANSWERS.values())) > 1000
    for kind, rows in ANSWERS.items():
        wants = {row["want"] for row in rows}
        assert "correct" in wants and len(wants) > 1, kind
