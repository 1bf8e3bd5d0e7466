"""VQA-RAD: every known defect, on the planted ones and on the real files; the strict split."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfds_builders.counts import differences, read_manifest
from tfds_builders.vqa_rad import make_dummy_data
from tfds_builders.vqa_rad.vqa_rad_dataset_builder import EXTRA_TEXT, IMAGE_FOLDER, JSON_NAME

from .conftest import ROOT, Built, build, make, read

VQA_RAD = ROOT / "vqa_rad"
DUMMY = VQA_RAD / "dummy_data"


@pytest.fixture(scope="module")
def built(stand_in: Callable[..., Built]) -> Built:
    return stand_in("vqa_rad")


def repairs(built: Built, question_id: str) -> dict[str, tuple[Any, Any]]:
    return {
        line["field"]: (line["before"], line["after"])
        for line in built.rejects
        if line["id"] == question_id and line["action"] == "repaired"
    }


def test_a_sound_row_is_complete(built: Built) -> None:
    row = built.row("12")
    want = {
        "image": (DUMMY / IMAGE_FOLDER / "synpic2.jpg").read_bytes(),
        "image_id": "synpic2",
        "case_id": "case-2",
        "question_id": "12",
        "question": "Is this question 12?",
        "answer": "No",
        "answer_type": "closed",
        "question_type": "PRES",
        "organ": "chest",
        "location": "CHEST",
        "split": "test",
        "language": "en",
        "yes_no": True,
        "modality": "",
        "caption": "",
        "phrase_type": "test_freeform",
        "evaluation": "not evaluated",
        "question_rephrase": "",
        "question_relation": "",
        "question_frame": "",
        "image_case_url": "https://medpix.nlm.nih.gov/case?id=case-2",
    }
    assert {name: row[name] for name in want} == want
    assert set(EXTRA_TEXT) <= set(row)


def test_a_row_is_test_by_its_phrase_type(built: Built) -> None:
    assert list(built.rows["test"]) == ["12", "13", "14"]
    assert [row["phrase_type"] for row in built.rows["test"].values()] == [
        "test_freeform",
        "test_para",
        "test_freeform",
    ]
    assert list(built.rows["train"]) == [*map(str, range(12)), "19"]


@pytest.mark.parametrize(
    ("question_id", "field", "before", "after"),
    [
        ("0", "qid", "0", "0"),
        ("1", "answer", 4, "4"),
        ("2", "answer_type", "CLOSED ", "CLOSED"),
        ("3", "question_rephrase", None, ""),
        ("5", "question_type", "PRSE", "PRES"),
        ("6", "question_type", "ATRIB", "ATTRIB"),
        ("6", "answer", "Heart \tlungs", "Heart lungs"),
        ("7", "question_type", "Other", "OTHER"),
        ("7", "question", "Is it \twhite? ", "Is it white?"),
        ("7", "question_frame", " Is it $white? ", "Is it $white?"),
        ("8", "answer", " on the left", "on the left"),
        ("4", "question_type", "PRES, POS", "POS, PRES"),
        ("19", "case_id", "NULL", ""),
    ],
)
def test_a_planted_defect_is_repaired_and_noted(
    built: Built, question_id: str, field: str, before: Any, after: str
) -> None:
    name = {"qid": "question_id"}.get(field, field)
    assert built.row(question_id)[name] == (after.lower() if field == "answer_type" else after)
    assert repairs(built, question_id)[field] == (before, after)


def test_a_sound_row_is_not_noted(built: Built) -> None:
    assert built.row("10") and not repairs(built, "10")


def test_null_is_missing_and_other_texts_are_kept(built: Built) -> None:
    assert built.row("0")["question_rephrase"] == ""
    assert built.row("4")["question_rephrase"] == "Asked otherwise?"
    assert built.row("4")["question_relation"] == "strict agreement"


def test_closed_is_not_yes_or_no(built: Built) -> None:
    row = built.row("9")
    assert (row["answer_type"], row["answer"], bool(row["yes_no"])) == ("closed", "left", False)
    assert built.row("11")["yes_no"] and not built.row("1")["yes_no"]


def test_unusable_rows_are_dropped_with_their_reason(built: Built) -> None:
    dropped = {line["id"]: line for line in built.rejects if line["action"] == "dropped"}
    assert set(dropped) == {"15", "16", "17", "18"}
    assert dropped["15"]["reason"] == "image file is absent: synpic404.jpg"
    assert dropped["16"]["reason"].startswith("image cannot be decoded: ")
    assert dropped["17"]["reason"] == "image file is absent: ../VQA_RAD Dataset Public.json"
    assert dropped["18"]["reason"] == "answer is empty"
    assert dropped["17"]["row"]["image_name"] == "../VQA_RAD Dataset Public.json"


def test_every_figure_of_the_manifest_is_compared(built: Built) -> None:
    manifest = read_manifest(VQA_RAD, "official")
    assert differences(manifest, manifest) == []
    for split, figures in manifest.items():
        for figure, number in figures.items():
            found = manifest | {split: figures | {figure: 7777}}
            assert differences(found, manifest) == [f"{split} {figure}: 7777 instead of {number}"]
    assert "release answer is a number: 1 instead of 5" in built.counts["differences"]


def test_a_refused_build_leaves_no_data_set(tmp_path: Path) -> None:
    message = (
        r"does not hold the official release of vqa_rad \(official\): train rows: 17 instead of 1797.*2 x image file"
    )
    with pytest.raises(ValueError, match=message + r".*allow_count_mismatch=true"):
        build("vqa_rad", "official", DUMMY, tmp_path)
    assert not make("vqa_rad", "", tmp_path).is_prepared()


def test_strict_leaves_out_rows_that_share_an_image_or_a_case_with_test(
    built: Built, stand_in: Callable[..., Built]
) -> None:
    strict = stand_in("vqa_rad", "strict")
    assert strict.rows["test"].keys() == built.rows["test"].keys()
    images, cases = (
        [{row[name] for row in rows.values() if row[name]} for rows in strict.rows.values()]
        for name in ("image_id", "case_id")
    )
    assert not images[0] & images[1] and not cases[0] & cases[1]
    assert list(strict.rows["train"]) == ["19"]  # all others have an image or, as synpic1 with synpic3, a case of test
    reasons = {i: why[0] for i, why in strict.of("dropped").items()}
    assert reasons["6"] == "image is in the test split" and reasons["0"] == "case is in the test split"


@pytest.mark.parametrize("text", ["[{", "{}", '[{"question": "no id"}]'])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / JSON_NAME).write_text(text)
    with pytest.raises(ValueError, match=r"VQA_RAD Dataset Public.json.*Get it again"):
        read("vqa_rad", "", tmp_path, tmp_path)


def test_a_repeated_id_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path, dirs_exist_ok=True)
    twice = [make_dummy_data.row("3"), make_dummy_data.row(3)]
    (tmp_path / JSON_NAME).write_text(json.dumps(twice))
    with pytest.raises(ValueError, match="the id '3' occurs twice"):
        read("vqa_rad", "", tmp_path, tmp_path)


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Path:
    if not (shared_data / "vqa_rad").is_dir():
        pytest.skip("the official files of VQA-RAD are absent")
    return shared_data / "vqa_rad"


def test_the_official_files(official: Path, tmp_path: Path) -> None:
    reading = read("vqa_rad", "official", official, tmp_path)
    assert differences(reading.counts.found(), read_manifest(VQA_RAD, "official")) == []
    assert (len(reading.splits["train"]), len(reading.splits["test"])) == (1797, 451)
    rows = reading.splits["train"] + reading.splits["test"]
    closed = [row for row in rows if row["answer_type"] == "closed"]
    assert sum(not row["yes_no"] for row in closed) == 106
    assert not any(row["yes_no"] for row in rows if row["answer_type"] == "open")
    assert {row["answer_type"] for row in rows} == {"closed", "open"}
    assert {row["organ"] for row in rows} == {"head", "chest", "abdomen"}
    codes = {code for row in rows for code in row["question_type"].split(", ")}
    assert codes == set("PRES POS ABN OTHER MODALITY SIZE PLANE ATTRIB ORGAN COLOR COUNT".split())
    texts = [value for row in rows for value in row.values() if isinstance(value, str)]
    assert "NULL" not in texts and not any(text != " ".join(text.split()) for text in texts if "/" not in text)
    assert all(row["case_id"] for row in rows)
    spaces = [line for line in reading.rejects.rows if line["reason"] == "white space"]
    assert sum(line["field"] == "answer" for line in spaces) == 6  # five with tabs, one with white space at its edge
    assert sum(line["field"] == "answer_type" for line in spaces) == 2
    edges = [line for line in spaces if line["before"] != line["before"].strip()]
    assert sum(line["field"] == "question_frame" for line in edges) == 12
    assert sum(line["field"] == "question" for line in edges) == 1


def test_the_official_files_strictly_split(official: Path, tmp_path: Path) -> None:
    reading = read("vqa_rad", "strict", official, tmp_path)
    assert differences(reading.counts.found(), read_manifest(VQA_RAD, "strict")) == []
    train, test = reading.splits["train"], reading.splits["test"]
    assert (len(train), len(test)) == (726, 451)
    for name in ("image_id", "case_id"):
        assert not {row[name] for row in train} & {row[name] for row in test}
    assert reading.rejects.summary("dropped") == {"image is in the test split": 1063, "case is in the test split": 8}


@pytest.mark.slow
def test_the_official_images_are_stored_as_they_are(official: Path, tmp_path: Path) -> None:
    built = build("vqa_rad", "", official, tmp_path)
    assert not built.counts["differences"] and not built.of("dropped")
    for row in list(built.rows["test"].values())[::50]:
        assert row["image"] == (official / IMAGE_FOLDER / f"{row['image_id']}.jpg").read_bytes()
