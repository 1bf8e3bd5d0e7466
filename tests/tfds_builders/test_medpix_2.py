"""MedPix 2.0: planted defects, the whole case with each image, and the real sample."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tfds_builders.counts import differences, read_manifest
from tfds_builders.dummy import encode, jsonl_text, noise, write, zip_bytes
from tfds_builders.medpix_2.make_dummy_data import case, image
from tfds_builders.medpix_2.medpix_2_dataset_builder import CASE_FIELDS, TOPIC_FIELDS

from .conftest import ROOT, Built, build, read


@pytest.fixture(scope="module")
def built(stand_in: Callable[..., Built]) -> Built:
    return stand_in("medpix_2")


def test_splits_and_order_are_official(built: Built) -> None:
    assert {split: list(rows) for split, rows in built.rows.items()} == {
        "train": ["MPX1_synpic1", "MPX1_synpic2", "MPX2_synpic3"],
        "validation": ["MPX3_synpic4", "MPX3_synpic5"],
        "test": ["MPX4_synpic6"],
    }


def test_a_row_is_an_image_with_its_caption_and_its_whole_case(built: Built) -> None:
    row = built.row("MPX1_synpic2")
    want = {
        "image_id": "MPX1_synpic2",
        "case_id": "MPX1",
        "question": "",
        "answer": "",
        "answer_type": "",
        "caption": "Caption of MPX1_synpic1.",
        "modality": "CT",
        "modality_detail": "CT - noncontrast",
        "plane": "axial",
        "organ": "reproductive and urinary system",
        "location_category": "Reproductive and Urinary System",
        "split": "train",
        "train_half": "train_2",
        "case_title": "Title of MPX1",
        "case_diagnosis": "Case Diagnosis of MPX1",
        "topic_title": "Title of MPX1",
        "topic_acr_code": "ACR Code of MPX1",
        "case_images": ["MPX1_synpic1", "MPX1_synpic2"],
        "acr_codes": "8.-1",
        "sex": "male",
        "age": "45",
    }
    assert {name: row[name] for name in want} == want
    assert {*CASE_FIELDS.values(), *TOPIC_FIELDS.values()} <= set(row)
    assert built.row("MPX2_synpic3")["modality"] == "MRI"


def test_null_absent_and_n_a_are_missing(built: Built) -> None:
    row = built.row("MPX1_synpic1")
    assert row["case_exam"] == row["case_history"] == row["case_media"] == row["topic_external_links"] == ""
    assert built.row("MPX2_synpic3")["plane"] == "" and built.row("MPX3_synpic4")["sex"] == ""
    assert built.row("MPX3_synpic4")["age"] == "0"  # an infant or unknown: it stays as it is
    texts = [v for rows in built.rows.values() for row in rows.values() for v in row.values() if isinstance(v, str)]
    assert "N/A" not in texts and "None" not in texts


def test_repairs_are_noted(built: Built) -> None:
    repaired = built.of("repaired")
    assert built.row("MPX1_synpic1")["location"] == built.row("MPX1_synpic2")["location"] == ""
    assert repaired["MPX1_synpic1"] == ["location names no part of the body"]
    assert built.row("MPX2_synpic3")["case_findings"] == "A finding ."
    assert repaired["MPX2"] == ["control characters"]
    assert built.row("MPX3_synpic4")["caption"] == "Axial CT.\nSecond line."  # line ends stay, edges go
    assert repaired["MPX3_synpic4"] == ["white space"]
    assert repaired["MPX1_synpic1.png"] == ["image converted: RGBA to RGB"]
    assert built.row("MPX3_synpic4")["organ"] == "chest" and built.row("MPX3_synpic4")["location"] == "Chest, Pulmonary"


def test_an_image_without_a_caption_stays_and_is_counted(built: Built) -> None:
    assert built.row("MPX3_synpic5")["caption"] == ""
    assert built.counts["found"]["validation"]["without caption"] == 1


def test_unusable_rows_are_dropped_with_their_reason(built: Built) -> None:
    dropped = built.of("dropped")
    assert dropped["MPX2_synpic404"] == ["image file is absent: MPX2_synpic404.png"]
    assert dropped["MPX9_synpic7"] == ["case is not in data_test.jsonl: MPX9"]


def test_a_whole_release_is_counted_exactly(tmp_path: Path) -> None:
    """Every figure of the manifest, with made-up rows; one image less is named."""
    sizes = {"train": (535, 878, 775), "dev": (67, 84, 113), "test": (69, 100, 100)}
    number, pictures, kept = 0, {}, {}
    pixel = encode(noise(0, size=(2, 2)), "PNG")
    for split, (cases, ct, mr) in sizes.items():
        uids = [f"MPX{number + n}" for n in range(cases)]
        rows = [image(f"{uids[n % cases]}_synpic{number + n}", "CT" if n < ct else "MR") for n in range(ct + mr)]
        number += 10_000
        pictures |= {f"x/images/{row['image']}.png": pixel for row in rows}
        kept[split] = rows
        write(tmp_path / f"data_{split}.jsonl", jsonl_text([case(uid, [], []) for uid in uids]))
        write(tmp_path / f"descriptions_{split}.jsonl", jsonl_text(rows))
    write(tmp_path / "images.zip", zip_bytes(pictures))
    manifest = read_manifest(ROOT / "medpix_2", "official")
    reading = read("medpix_2", "", tmp_path, tmp_path / "data")
    assert differences(reading.counts.found(), manifest) == []
    assert {split: len(rows) for split, rows in reading.splits.items()} == {
        "train": 1653,
        "validation": 197,
        "test": 200,
    }
    write(tmp_path / "descriptions_test.jsonl", jsonl_text(kept["test"][:-1]))
    wrong = differences(read("medpix_2", "", tmp_path, tmp_path / "data").counts.found(), manifest)
    assert wrong[0] == "test rows: 199 instead of 200" and "test modality MRI: 99 instead of 100" in wrong


def test_a_field_in_another_form_does_not_stop_the_build(tmp_path: Path) -> None:
    """A list where a text is expected, the reverse, and a control character that JSON would have escaped."""
    for split in ("train", "dev", "test"):
        uid = f"MPX{split}"
        whole = case(uid, [], []) | {"Topic": case(uid, [], [])["Topic"] | {"External Links": ["a", "b"]}}
        whole |= {"TAC": [f"{uid}_synpic1", 5], "MRI": f"{uid}_synpic1"}
        write(tmp_path / f"data_{split}.jsonl", jsonl_text([whole]).replace(f"History of {uid}", "one\x01two"))
        write(tmp_path / f"descriptions_{split}.jsonl", jsonl_text([image(f"{uid}_synpic1")]))
        write(tmp_path / f"images/{uid}_synpic1.png", encode(noise(1), "PNG"))
    reading = read("medpix_2", "", tmp_path, tmp_path / "data")
    (row,) = reading.splits["train"]
    assert row["topic_external_links"] == '["a", "b"]' and row["case_history"] == "one two"
    repaired = reading.rejects.summary("repaired")
    assert repaired["Topic.External Links is not a text"] == 3
    assert row["case_images"] == [] and repaired["TAC is not a list of texts"] == 3
    assert repaired["MRI is not a list of texts"] == 3


def test_lines_of_one_case_that_differ_are_noted_and_the_last_counts(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        uid = f"MPX{split}"
        later = case(uid, [], [f"{uid}_synpic1"])
        lines = [case(uid, [], []), later, later]
        write(tmp_path / f"data_{split}.jsonl", jsonl_text(lines))
        write(tmp_path / f"descriptions_{split}.jsonl", jsonl_text([image(f"{uid}_synpic1")]))
        write(tmp_path / f"images/{uid}_synpic1.png", encode(noise(1), "PNG"))
    reading = read("medpix_2", "", tmp_path, tmp_path / "data")
    assert reading.splits["train"][0]["case_images"] == ["MPXtrain_synpic1"]
    noted = [line["reason"] for line in reading.rejects.rows if "several lines" in line["reason"]]
    assert len(noted) == 3
    assert noted[0] == "data_train.jsonl has several lines with one U_id, of which the last counts"


@pytest.mark.slow
def test_the_real_sample(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "medpix_2_sample"
    if not root.is_dir():
        pytest.skip("the sample of MedPix 2.0 is absent")
    built = build("medpix_2", "", root, tmp_path, allow=True)
    assert {split: len(rows) for split, rows in built.rows.items()} == {"train": 127, "validation": 28, "test": 26}
    rows = [row for rows in built.rows.values() for row in rows.values()]
    assert len({row["case_id"] for row in rows}) == 84 and not built.of("dropped")
    assert all(row["caption"] and row["case_title"] and row["topic_disease_discussion"] for row in rows)
    assert {row["modality"] for row in rows} == {"CT", "MRI"}
    assert {row["organ"] for row in rows} >= {"head", "chest", "abdomen"}
    assert all(row["image_id"] in row["case_images"] for row in rows)
    converted = [line for line in built.rejects if line["reason"] == "image converted: RGBA to RGB"]
    assert len(converted) == 25
    assert "train rows: 127 instead of 1653" in built.counts["differences"]
    splits = [{row["case_id"] for row in rows.values()} for rows in built.rows.values()]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
