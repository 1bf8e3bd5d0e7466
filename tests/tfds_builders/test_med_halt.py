"""Med-HALT: options that are Python, not JSON; gold that must agree; rows without images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax.data.image import decode_image
from tfds_builders.med_halt.med_halt_dataset_builder import MAX_OPTIONS, read_options

from .conftest import ROOT, Built, read


@pytest.fixture(scope="module")
def fake(stand_in: Callable[..., Built]) -> Built:
    return stand_in("med_halt", "fake")


def test_a_row_has_the_common_features_and_no_image(fake: Built) -> None:
    row = fake.row("f0")
    want = {
        "image_id": "",
        "question": "In a bizarre f0?",
        "choices": ["Dance", "It's song", "I do not know"],
        "answer": "I do not know",
        "answer_index": 2,
        "answer_type": "closed",
        "question_type": "fake",
        "year": "2013.0",
        "exam_name": "Cuaderno_2013_1_Q",
        "topic_name": "",
        "split_type": "train",
        "language": "en",
    }
    assert {name: row[name] for name in want} == want
    assert row["image"] == ""  # no bytes
    assert np.all(decode_image(b"") == 128)  # what a model is shown: the middle of [-1, 1]


def test_options_come_in_the_order_of_their_numbers(fake: Built) -> None:
    assert fake.row("f2")["choices"] == ["a", "b", "c", "I do not know"]
    assert fake.row("f2")["answer_index"] == 3


def test_without_the_expected_option_there_are_no_choices(fake: Built) -> None:
    row = fake.row("f1")
    assert (row["choices"], row["answer_index"], row["answer"]) == ([], -1, "I do not know")
    assert row["options"] == "{'0': 'None'}" and row["question"] == "Is it None?"
    assert fake.of("repaired")["f1"] == ["no option says 'I do not know'; asked without choices", "white space"]


def test_code_and_broken_options_are_dropped(fake: Built) -> None:
    dropped = fake.of("dropped")
    assert set(dropped) == {"f3", "f4"}
    assert dropped["f3"] == ["options cannot be read: not a dict of plain values (ValueError)"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("{'0': __import__('os').system('true')}", "ValueError"),
        ("[" * 5000 + "]" * 5000, "MemoryError|RecursionError|SyntaxError|ValueError"),
        ("{'0': ['nested']}", "not a dict of texts"),
        ("['a']", "not a dict of texts"),
        ("{'0': '" + "a" * MAX_OPTIONS + "'}", f"more than {MAX_OPTIONS}"),
        ("", "SyntaxError"),
    ],
    ids=["code", "deep", "nested", "list", "long", "empty"],
)
def test_options_are_plain_values(cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_options(cell)


def test_gold_must_agree_with_its_number(stand_in: Callable[..., Built]) -> None:
    fct = stand_in("med_halt", "fct")
    row = fct.row("c0")
    assert (row["choices"], row["answer"], row["answer_index"]) == (["Aspirin", "Insulin"], "Insulin", 1)
    assert row["student_answer"] == "Insulin" and row["proposed_answer"] == "Insulin"
    assert fct.row("c2")["answer_index"] == 1  # "1.0"
    assert fct.of("dropped") == {
        "c1": ["the letter and the text name different choices"],
        "c3": ["the right choice is none of them"],
    }
    nota = stand_in("med_halt", "nota")
    assert nota.row("n0")["answer"] == "None of the above"


def test_gold_columns_are_needed(tmp_path: Path) -> None:
    table = (ROOT / "med_halt/dummy_data/reasoning_fake/reasoning_fake.csv").read_text()
    (tmp_path / "reasoning_FCT.csv").write_text(table)
    with pytest.raises(ValueError, match=r"reasoning_FCT.csv lacks the columns \['correct_answer', 'correct_index'\]"):
        read("med_halt", "fct", tmp_path, tmp_path / "data")


def test_an_id_that_occurs_again_gets_a_number(tmp_path: Path) -> None:
    table = (ROOT / "med_halt/dummy_data/reasoning_FCT/reasoning_FCT.csv").read_text().splitlines(keepends=True)
    (tmp_path / "reasoning_FCT.csv").write_text("".join([*table, table[1]]))
    reading = read("med_halt", "fct", tmp_path, tmp_path / "data")
    assert [row["question_id"] for row in reading.splits["train"]] == ["c0", "c2", "c0-2"]
    assert reading.rejects.summary("repaired")["id occurs again"] == 1
