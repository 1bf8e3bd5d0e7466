"""PathVQA: both forms of its pickles, planted defects, and hostile files."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Built, build, read

DUMMY = ROOT / "path_vqa" / "dummy_data"


@pytest.fixture(scope="module")
def built(stand_in: Callable[..., Built]) -> Built:
    return stand_in("path_vqa")


def test_splits_and_order_are_official(built: Built) -> None:
    assert {split: list(rows) for split, rows in built.rows.items()} == {
        "train": ["train_00000", "train_00001", "train_00002", "train_00003", "train_00005"],
        "validation": ["val_00000"],
        "test": ["test_00000"],
    }


def test_both_forms_give_the_same_fields(built: Built) -> None:
    typed, simple = built.row("test_00000"), built.row("val_00000")
    for row, split in ((typed, "test"), (simple, "validation")):
        want = {"question": "Is it red?", "answer": "no", "answer_type": "closed", "yes_no": True, "split": split}
        assert {name: row[name] for name in want} == want
    assert typed["question_type"] == "yes/no" and simple["question_type"] == ""
    assert (typed["image_id"], simple["image_id"]) == ("test_0001", "val_0001")
    assert typed["pvqa_question_id"] == "100001007" and simple["pvqa_question_id"] == ""
    assert built.row("train_00000")["answer_type"] == "open" and built.row("train_00000")["question_type"] == "where"


def test_repairs_are_noted(built: Built) -> None:
    assert built.row("train_00002")["answer"] == "Stain"
    assert built.row("train_00001")["question"] == "Is it  benign?"  # inner white space is the authors'
    assert built.row("train_00005")["answer"] == "duct"
    assert built.of("repaired") == {
        "train_00002": ["white space"],
        "train_00005": ["several answers; the heaviest is kept"],
        "train_0001.jpg": ["image converted: CMYK to RGB"],
    }


def test_unusable_rows_are_dropped_with_their_reason(built: Built) -> None:
    dropped = built.of("dropped")
    assert dropped["train_00004"] == ["image file is absent: train_0404.jpg"]
    assert dropped["train_00006"][0].startswith("image cannot be decoded: ")
    assert built.counts["found"]["train"]["left out"] == 2


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Hostile(), r"train_vqa.pkl is refused: it asks for posix.system"),
        (
            [{"img_id": "train_0001", "sent": "x", "label": Hostile()}],
            r"train_vqa.pkl is refused: it asks for posix.system",
        ),
        ({"a": 1}, r"train_vqa.pkl must hold a list of dicts"),
        ([1], r"train_vqa.pkl must hold a list of dicts"),
        ([{"sent": "x"}], r"train_vqa.pkl: train_00000 has no img_id or image"),
        ([{"img_id": "train_0001"}], r"train_00000 has no sent or question; it has \['img_id'\]"),
        ([{"img_id": "train_0001", "sent": ["x"], "answer": "y"}], r"question must be text or a number"),
    ],
    ids=["call", "hidden call", "dict", "numbers", "no image", "no question", "list"],
)
def test_a_table_that_cannot_be_trusted_is_refused(
    content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DUMMY, tmp_path / "pvqa")
    (tmp_path / "pvqa/qas/train_vqa.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        build("path_vqa", "", tmp_path / "pvqa", tmp_path / "data", allow=True)
    assert not (tmp_path / "ran").exists()


def test_a_missing_table_says_what_belongs_there(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path / "pvqa")
    (tmp_path / "pvqa/qas/val/val_qa.pkl").unlink()
    with pytest.raises(ValueError, match=r"(?s)manual_dir=.* lacks qas/val_vqa.pkl\..*UCSD-AI4H/PathVQA"):
        build("path_vqa", "", tmp_path / "pvqa", tmp_path / "data")


def test_a_weight_that_is_no_number_is_not_the_heaviest(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path / "pvqa")
    labels = ({"nan": float("nan"), "no": 0.3, "yes": 1}, {"text": "9", "no": 1.0, "none": None})
    rows = [{"img_id": "train_0001", "sent": "Is it red?", "label": label} for label in labels]
    (tmp_path / "pvqa/qas/train_vqa.pkl").write_bytes(pickle.dumps(rows))
    found = read("path_vqa", "", tmp_path, tmp_path / "data").splits["train"]
    assert [row["answer"] for row in found] == ["yes", "no"]


def test_repeated_rows_stay(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path / "pvqa")
    rows = [{"image": "train_0001", "question": "Is it red?", "answer": "no"}] * 2
    (tmp_path / "pvqa/qas/train_vqa.pkl").write_bytes(pickle.dumps(rows))
    assert len(read("path_vqa", "", tmp_path, tmp_path / "data").splits["train"]) == 2
