"""VQA-RAD: every known defect, on the planted ones and on the real files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds

import tfds_builders.vqa_rad
from tfds_builders.vqa_rad import make_dummy_data
from tfds_builders.vqa_rad.vqa_rad_dataset_builder import (
    EXPECTED,
    EXTRA_TEXT,
    IMAGE_FOLDER,
    JSON_NAME,
    Builder,
    Rejects,
    check_counts,
    find_root,
    image_fault,
    measure,
    read_rows,
)

DUMMY = Path(tfds_builders.vqa_rad.__path__[0]) / "dummy_data"


@pytest.fixture(scope="module")
def rejects() -> Rejects:
    return Rejects()


@pytest.fixture(scope="module")
def rows(rejects: Rejects) -> dict[str, dict[str, Any]]:
    """Returns the rows of the stand-in by id."""
    return {row["question_id"]: row for part in read_rows(DUMMY, rejects=rejects).values() for row in part}


def repairs(rejects: Rejects, question_id: str) -> dict[str, tuple[Any, Any]]:
    return {
        line["field"]: (line["before"], line["after"])
        for line in rejects.rows
        if line["question_id"] == question_id and line["action"] == "repaired"
    }


def test_the_stand_in_is_what_the_script_writes() -> None:
    assert json.loads((DUMMY / JSON_NAME).read_text()) == make_dummy_data.rows()


def test_a_sound_row_is_complete(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["12"]
    want = {
        "image": str(DUMMY / IMAGE_FOLDER / "synpic2.jpg"),
        "image_id": "synpic2",
        "case_id": "case-2",
        "question_id": "12",
        "question": "Is this question 12?",
        "answer": "No",
        "answer_type": "closed",
        "question_type": "PRES",
        "organ": "chest",
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


def test_a_row_is_test_by_its_phrase_type() -> None:
    splits = read_rows(DUMMY, rejects=Rejects())
    assert [row["question_id"] for row in splits["test"]] == ["12", "13", "14"]
    assert [row["phrase_type"] for row in splits["test"]] == ["test_freeform", "test_para", "test_freeform"]
    assert not any(row["phrase_type"].startswith("test") for row in splits["train"])


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
    rows: dict[str, dict[str, Any]], rejects: Rejects, question_id: str, field: str, before: Any, after: str
) -> None:
    name = {"qid": "question_id"}.get(field, field)
    assert rows[question_id][name] == (after.lower() if field == "answer_type" else after)
    assert repairs(rejects, question_id)[field] == (before, after)


def test_a_sound_row_is_not_noted(rows: dict[str, dict[str, Any]], rejects: Rejects) -> None:
    assert rows["10"] and not repairs(rejects, "10")


def test_null_is_missing_and_other_texts_are_kept(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["0"]["question_rephrase"] == ""
    assert rows["4"]["question_rephrase"] == "Asked otherwise?"
    assert rows["4"]["question_relation"] == "strict agreement"


def test_closed_is_not_yes_or_no(rows: dict[str, dict[str, Any]]) -> None:
    assert (rows["9"]["answer_type"], rows["9"]["answer"], rows["9"]["yes_no"]) == ("closed", "left", False)
    assert rows["11"]["yes_no"] and not rows["1"]["yes_no"]


def test_what_cannot_be_used_is_dropped_with_its_reason(rows: dict[str, dict[str, Any]], rejects: Rejects) -> None:
    dropped = {line["question_id"]: line for line in rejects.rows if line["action"] == "dropped"}
    assert set(dropped) == {"15", "16", "17", "18"} and not set(dropped) & set(rows)
    assert dropped["15"]["reason"] == "image file is absent"
    assert dropped["16"]["reason"].startswith("image cannot be decoded: ")
    assert dropped["17"]["reason"] == "image name is not that of a JPEG file in the image folder"
    assert dropped["18"]["reason"] == "question or answer is empty"
    assert dropped["17"]["row"]["image_name"] == "../VQA_RAD Dataset Public.json"


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/etc/x.jpg", "a/b.jpg", "..", "", ".x.jpg", "x\\y.jpg", "x.jpg\n", "x.png"]
)
def test_an_image_name_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(DUMMY / IMAGE_FOLDER / "synpic1.jpg", tmp_path / "x.jpg")
    assert "not that of a JPEG file" in image_fault(folder, name)


def test_the_official_config_names_every_difference(rows: dict[str, dict[str, Any]]) -> None:
    rejects = Rejects()
    found = measure(read_rows(DUMMY, rejects=rejects), DUMMY, rejects=rejects)
    assert found["rows in test"] == 3 and found["images in train"] == 2 and found["files that no row uses"] == 2
    assert (found["qid is text"], found["answer is a number"], found["question_rephrase is absent"]) == (1, 1, 1)
    with pytest.raises(ValueError, match=r"rows in train: 13 instead of 1797.*1 x image file is absent.*unchecked"):
        check_counts(found, rejects=rejects)
    for name in EXPECTED:
        with pytest.raises(ValueError, match=f"official files: {name}: 7777 instead of {EXPECTED[name]}\\."):
            check_counts(EXPECTED | {name: 7777}, rejects=Rejects())
    check_counts(EXPECTED, rejects=Rejects())


def prepare(config: str, manual_dir: Path, data_dir: Path) -> Builder:
    builder = Builder(data_dir=data_dir, config=config, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return builder


def test_a_refused_build_leaves_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not VQA-RAD's official files"):
        prepare("official", DUMMY, tmp_path)
    assert not Builder(data_dir=tmp_path, file_format="array_record").is_prepared()


def test_rejects_lie_beside_the_prepared_data_set(tmp_path: Path, rejects: Rejects, rows: dict[str, Any]) -> None:
    builder = prepare("unchecked", DUMMY, tmp_path)
    lines = (Path(builder.data_dir) / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rejects.rows
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 13, "test": 3}


def test_the_files_may_lie_one_folder_down(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path / "osfstorage")
    assert find_root(tmp_path) == tmp_path / "osfstorage"


def test_a_wrong_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)does not hold VQA-RAD's official files.*osf.io/89kps.*synpic<digits>"):
        find_root(tmp_path)


@pytest.mark.parametrize("text", ["[{", "{}", '[{"question": "no id"}]'])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / JSON_NAME).write_text(text)
    (tmp_path / IMAGE_FOLDER).mkdir()
    with pytest.raises(ValueError, match=r"VQA_RAD Dataset Public.json.*Get it again"):
        read_rows(tmp_path, rejects=Rejects())


def test_an_id_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(DUMMY, tmp_path, dirs_exist_ok=True)
    twice = [make_dummy_data.row("3"), make_dummy_data.row(3)]
    (tmp_path / JSON_NAME).write_text(json.dumps(twice))
    with pytest.raises(ValueError, match="qid 3 occurs twice"):
        read_rows(tmp_path, rejects=Rejects())


def test_the_official_files(shared_data: Path) -> None:
    root = shared_data / "vqa_rad"
    if not root.is_dir():
        pytest.skip("the official files of VQA-RAD are absent")
    rejects = Rejects()
    splits = read_rows(root, rejects=rejects)
    assert measure(splits, root, rejects=rejects) == EXPECTED
    assert (len(splits["train"]), len(splits["test"])) == (1797, 451)
    rows = splits["train"] + splits["test"]
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
    spaces = [line for line in rejects.rows if line["reason"] == "white space"]
    assert sum(line["field"] == "answer" for line in spaces) == 6  # five with tabs, one with white space at its edge
    assert sum(line["field"] == "answer_type" for line in spaces) == 2
    edges = [line for line in spaces if line["before"] != line["before"].strip()]
    assert sum(line["field"] == "question_frame" for line in edges) == 12
    assert sum(line["field"] == "question" for line in edges) == 1
