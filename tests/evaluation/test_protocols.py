"""The rules of other tools give the figures of their own code on the same answers (protocols.json)."""

import json
import string
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radvqa_jax.evaluation.answer_types import answer_type
from radvqa_jax.evaluation.protocols import PROTOCOLS, llava_med, medevalkit, medgemma, vlmevalkit
from radvqa_jax.schema import Record

CASES = json.loads(Path(__file__).with_name("protocols.json").read_text(encoding="utf-8"))


def record(row: dict[str, Any], number: int = 0) -> Record:
    return Record(f"q{number}", "i", "", **{name: value for name, value in row.items() if name != "figures"})


@pytest.mark.parametrize("name", ["llava_med", "medevalkit", "vlmevalkit", "lmms_eval"])
def test_each_answer_gets_the_originals_figure(name: str) -> None:
    seen = 0
    for number, row in enumerate(CASES["rows"]):
        found = PROTOCOLS[name].score(record(row, number), row["answer_type"] or "closed")
        for metric, wanted in row["figures"].get(name, {}).items():
            assert found[metric] == pytest.approx(wanted, abs=1e-12), (number, row, metric)
            seen += 1
    assert seen > 130


def test_means_are_the_originals_totals() -> None:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in CASES["rows"]:
        for name in ("llava_med", "lmms_eval", "medevalkit"):
            for metric, value in PROTOCOLS[name].score(record(row), row["answer_type"] or "closed").items():
                key = row["source"].split()[0] if name == "medevalkit" and metric == "accuracy" else metric
                values[name, key].append(value)
    for name, totals in CASES["totals"].items():
        for metric, wanted in totals.items():
            assert np.mean(values[name, metric]) == pytest.approx(wanted, abs=1e-12), (name, metric)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
@given(reference=st.text(max_size=12), text=st.text(max_size=60), closed=st.booleans(), choices=st.booleans())
def test_any_answer_has_values_in_range(protocol: Any, reference: str, text: str, closed: bool, choices: bool) -> None:
    options = ["CT", "MRI", reference] if choices else []
    made = Record("q", "i", "", reference, [text], choices=options, source="slake 1.0.0" if closed else "vqa_rad")
    found = protocol.score(made, "closed" if closed else "open")
    assert set(found) <= set(protocol.METRICS) and all(0 <= value <= 1 for value in found.values())


def test_known_flaws_are_kept() -> None:
    assert medevalkit.judge_yes_no("No", "The image is normal") and not medevalkit.judge_yes_no("Yes", "Yes, abnormal")
    assert medevalkit.judge_choice(["CT", "MRI"], "A", "I cannot tell") != medevalkit.judge_choice(
        ["CT", "MRI"], "B", "I cannot tell"
    )
    assert llava_med.recall("left lung", "left left left") == 0.75
    assert vlmevalkit.yes_no("There is no doubt, it is abnormal") == "No"
    assert (
        medevalkit.score(Record("q", "i", "", "lung", [""], source="slake"), "open")["open"] == 0
    )  # the original raises an error


def test_tokenised_f1_is_that_of_squad() -> None:
    assert medgemma.f1("left pleural effusion", "the pleural effusion.") == pytest.approx(0.8)
    assert medgemma.f1("fracture", "no fracture") == pytest.approx(2 / 3)
    assert (medgemma.f1("yes", "No"), medgemma.f1("a", "the"), medgemma.f1("a", "x")) == (0, 1, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_long_answers_take_little_time(protocol: Any) -> None:
    answers = ["no " * 33_000, string.printable * 1000, "1." + "0" * 100_000, "{" * 100_000, "<answer>" * 12_000]
    start = time.process_time()
    for text in answers:
        for choices in ([], ["CT", "MRI"]):
            protocol.score(Record("q", "i", "", "CT", [text], choices=choices), "closed")
    assert time.process_time() - start < 10 * 0.5


@pytest.mark.parametrize(
    ("given_type", "reference", "choices", "wanted"),
    [
        ("CLOSED", "lung", [], ("closed", False)),
        ("", "No", [], ("closed", True)),
        ("", "\u4e0d\u662f\u3002", [], ("closed", True)),
        ("", "lung", ["lung", "heart"], ("closed", True)),
        ("", "no finding", [], ("open", True)),
    ],
)
def test_a_missing_answer_type_is_derived_and_marked(
    given_type: str, reference: str, choices: list[str], wanted: tuple[str, bool]
) -> None:
    made = Record("q", "i", "", reference, ["x"], answer_type=given_type, choices=choices)
    assert answer_type(made) == wanted
