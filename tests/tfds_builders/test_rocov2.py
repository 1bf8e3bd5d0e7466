"""ROCOv2: tables joined by id, planted defects."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tfds_builders.dummy import csv_text, write
from tfds_builders.rocov2.make_dummy_data import identity, images, tables

from .conftest import Built, read


@pytest.fixture(scope="module")
def built(stand_in: Callable[..., Built]) -> Built:
    return stand_in("rocov2")


def test_splits_are_official_and_ids_have_gaps(built: Built) -> None:
    assert {split: [int(i.rsplit("_", 1)[1]) for i in rows] for split, rows in built.rows.items()} == {
        "train": [1, 2, 4],
        "validation": [1],
        "test": [1, 9],
    }


def test_a_row_is_an_image_with_its_caption_and_concepts(built: Built) -> None:
    row = built.row(identity("train", 1))
    want = {
        "image_id": identity("train", 1),
        "case_id": "PMC1",
        "question": "",
        "answer": "",
        "caption": "CT, axial view.",
        "modality": "",
        "cuis": ["C0040405", "C0856747"],
        "cuis_manual": ["C0040405"],
        "cui_names": ["X-Ray Computed Tomography", ""],  # no name in the table is no name
        "attribution": "A. Author [CC BY]",
        "link": "https://a.test/1",
        "split": "train",
    }
    assert {name: row[name] for name in want} == want


def test_cells_are_read_as_they_are(built: Built) -> None:
    assert built.row(identity("train", 4))["caption"] == 'He said "no", then.'
    assert built.row(identity("train", 2))["caption"] == "Röntgenbild.The next sentence."
    assert built.of("repaired")[identity("train", 2)] == ["white space"]
    assert built.row(identity("train", 2))["cuis_manual"] == []  # an empty cell, never "nan"
    assert built.row(identity("train", 4))["cuis"] == ["C1306645", "C0817096"]
    assert built.row(identity("valid", 1))["caption"] == "MRI."  # the head has stray spaces


def test_missing_lines_captions_and_terms_are_missing(built: Built) -> None:
    assert built.row(identity("valid", 1))["cuis_manual"] == []
    assert built.of("repaired")[identity("valid", 1)] == ["no line in concepts_manual"]
    assert built.row(identity("test", 9))["caption"] == ""
    assert built.counts["found"]["test"]["without caption"] == 1
    assert built.row(identity("train", 2))["case_id"] == ""


def test_images_are_found_in_archives_and_folders_and_converted(built: Built) -> None:
    assert built.row(identity("train", 1))["image"] == images()[f"{identity('train', 1)}.jpg"]  # from the archive
    assert built.row(identity("test", 1))["image"] == images()[f"{identity('test', 1)}.jpg"]  # grey stays grey
    assert built.row(identity("train", 2))["image"][:4] == b"\x89PNG"
    assert built.of("repaired")[f"{identity('train', 2)}.jpg"] == ["image converted: CMYK to RGB"]
    assert built.of("dropped") == {identity("train", 5): [f"image file is absent: {identity('train', 5)}.jpg"]}


def test_another_version_is_refused_by_name(built: Built) -> None:
    assert "train rows: 4 instead of 59958" in built.counts["differences"]


def test_a_repeated_id_is_an_error(tmp_path: Path) -> None:
    for name, text in tables().items():
        write(tmp_path / name, text)
    twice = [{"ID": identity("train", 1), "Caption": "x"}] * 2
    write(tmp_path / "train_captions.csv", csv_text(("ID", "Caption"), twice))
    with pytest.raises(ValueError, match=rf"the id '{identity('train', 1)}' occurs twice"):
        read("rocov2", "", tmp_path, tmp_path)


def test_lines_of_a_table_with_one_id_that_differ_are_noted_and_the_last_counts(tmp_path: Path) -> None:
    for name, text in tables().items():
        write(tmp_path / name, text)
    for name, data in images().items():
        (tmp_path / name).write_bytes(data)
    one, two = identity("train", 1), identity("train", 2)
    lines = [{"ID": name, "CUIs": cui} for name, cui in ((one, "C1"), (two, "C3"), (one, "C2"), (two, "C3"))]
    write(tmp_path / "train_concepts.csv", csv_text(("ID", "CUIs"), lines))
    found = read("rocov2", "", tmp_path, tmp_path)
    noted = [line for line in found.rejects.rows if "several lines" in line["reason"]]
    assert [(line["id"], line["before"]["CUIs"], line["after"]["CUIs"]) for line in noted] == [(one, "C1", "C2")]
    assert noted[0]["reason"] == "concepts has several lines with one ID, of which the last counts"
    assert {row["question_id"]: row["cuis"] for row in found.splits["train"]}[one] == ["C2"]
