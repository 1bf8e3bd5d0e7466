"""PMC-VQA: both versions' tables, prefixes, right choices, planted defects."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tfds_builders.rejects import Rejects, RowRejects
from tfds_builders.right_choice import settle, strip_prefix

from .conftest import ROOT, Built, make, read


@pytest.fixture(scope="module")
def first(stand_in: Callable[..., Built]) -> Built:
    return stand_in("pmc_vqa", "v1")


@pytest.fixture(scope="module")
def second(stand_in: Callable[..., Built]) -> Built:
    return stand_in("pmc_vqa", "v2")


@pytest.fixture
def note() -> RowRejects:
    return Rejects("test").row("train", "1")


def test_splits_come_from_the_named_tables(first: Built, second: Built, stand_in: Callable[..., Built]) -> None:
    assert {split: len(rows) for split, rows in first.rows.items()} == {"train": 6, "test": 2}
    assert {split: len(rows) for split, rows in second.rows.items()} == {"train": 2, "test": 1}
    clean = stand_in("pmc_vqa", "v1_clean")
    assert {split: list(rows) for split, rows in clean.rows.items()} == {"test": ["v1_clean-test-0"]}
    assert clean.row("v1_clean-test-0")["answer"] == "No uptake"


def test_a_row_of_version_1(first: Built) -> None:
    row = first.row("v1-train-0")
    want = {
        "image_id": "PMC1_F1",
        "case_id": "PMC1",
        "question": "What is shown?",
        "choices": ["Diffuse uptake", "Focal uptake", "No uptake", "Stage A: early"],
        "answer": "Focal uptake",
        "answer_index": 1,
        "answer_type": "closed",
        "caption": "",
        "source": "PMC-VQA v1",
        "split": "train",
    }
    assert {name: row[name] for name in want} == want


def test_a_row_of_version_2(second: Built) -> None:
    row = second.row("v2-train-0")
    assert row["choices"] == ["Green", "Red", "Blue", "Yellow"]
    assert (row["answer"], row["answer_index"], row["question"]) == ("Red", 1, "Which colour?")
    assert row["caption"] == "Axial CT, arrow." and row["case_id"] == "PMC2"
    assert second.row("v2-train-1")["answer"] == "Blue"  # " C ", and an index that occurs twice
    assert not second.of("repaired")  # white space is normal in version 2


def test_the_letter_decides_and_must_not_contradict_the_text(first: Built) -> None:
    assert first.of("dropped") == {
        "v1-train-2": ["the letter and the text name different choices"],
        "v1-train-5": ["the right choice is not named"],
        "v1-train-6": ["the right choice is none of them"],
        "v1-train-7": ["image file is absent: PMC404_F1.jpg"],
        "v1-train-9": ["question is empty"],
    }
    assert (first.row("v1-train-3")["answer"], first.row("v1-train-4")["answer_index"]) == ("Focal uptake", 1)
    assert first.of("repaired") == {
        "v1-train-3": ["the text is none of the choices; the letter decides"],
        "v1-train-4": ["the letter is missing; the text decides"],
        "v1-train-10": ["choice has the letter of another"],
    }
    assert first.row("v1-train-1")["answer"] == "Stage A: early"


def test_line_ends_in_a_field_are_kept(first: Built) -> None:
    assert first.row("v1-train-8")["question"] == 'What is\nshown, "here"?'


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("A:Diffuse", "Diffuse"),
        (" A: Green ", "Green"),
        ("A : Green", "Green"),
        ("Stage A: early", "Stage A: early"),
        ("A: Stage A: early", "Stage A: early"),
        ("A: A: twice", "A: twice"),
        ("DNA: helix", "DNA: helix"),
        ("a: small", "a: small"),
        ("E: coli", "E: coli"),
        ("", ""),
        ("A:", ""),
    ],
)
def test_the_prefix_is_removed_only_at_the_start(raw: str, text: str, note: RowRejects) -> None:
    assert strip_prefix(raw, "A", note=note) == text
    assert not note.rejects.rows


def test_the_letter_of_another_choice_is_noted(note: RowRejects) -> None:
    assert strip_prefix("B: Red", "A", note=note) == "Red"
    assert note.rejects.rows[0]["reason"] == "choice has the letter of another"


def test_texts_are_compared_without_case_and_space(note: RowRejects) -> None:
    assert settle(["Red", "Blue"], index=1, answer="blue ", note=note) == ("Blue", 1, "")
    assert settle(["Red", "red"], index=1, answer="Red", note=note) == ("red", 1, "")
    assert not note.rejects.rows
    assert settle(["Red", "red"], index=None, answer="Red", note=note).fault == "the right choice is not named"
    assert settle(["Red", ""], index=1, answer="", note=note).fault == "the right choice is empty"


def test_version_1_is_not_read_as_version_2(tmp_path: Path) -> None:
    for name, theirs in (("train_2.csv", "train.csv"), ("test_2.csv", "test.csv"), ("x.jpg", "images.zip")):
        (tmp_path / name).write_bytes((ROOT / "pmc_vqa/dummy_data" / theirs).read_bytes())
    with pytest.raises(ValueError, match=r"train_2.csv lacks the columns \['Caption'\]"):
        read("pmc_vqa", "v2", tmp_path, tmp_path / "data")


def test_urls_have_the_real_names(tmp_path: Path) -> None:
    builder = make("pmc_vqa", "v2", tmp_path)
    assert set(builder.urls("v2")) == {"train_2.csv", "test_2.csv", "images_2.zip"}
    assert set(builder.urls("v1_clean")) == {"test_clean.csv", "images.zip"}
