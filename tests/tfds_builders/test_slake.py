"""SLAKE: languages, planted defects, masks and boxes; and that a whole release passes the manifest, to the row."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfds_builders.counts import differences, read_manifest
from tfds_builders.dummy import encode, json_text, noise, write, zip_bytes
from tfds_builders.slake.boxes import RawBox, decide_form, normalise_box, parse_boxes
from tfds_builders.slake.make_dummy_data import row

from .conftest import ROOT, Built, build, make, read

SLAKE = ROOT / "slake"


@pytest.fixture(scope="module")
def english(stand_in: Callable[..., Built]) -> Built:
    return stand_in("slake", "en")


@pytest.fixture(scope="module")
def both(stand_in: Callable[..., Built]) -> Built:
    return stand_in("slake", "all")


def ids(built: Built) -> dict[str, list[str]]:
    return {split: list(rows) for split, rows in built.rows.items()}


def test_a_config_holds_its_language_in_the_official_order(english: Built, both: Built, tmp_path: Path) -> None:
    assert ids(english) == {"train": ["0", "1", "3", "4", "5"], "validation": ["10"], "test": ["12", "13"]}
    assert ids(both)["train"] == ["0", "1", "3", "4", "5", "8", "9"]
    chinese = read("slake", "zh", SLAKE / "dummy_data", tmp_path).splits
    assert {split: [row["question_id"] for row in rows] for split, rows in chinese.items()} == {
        "train": ["8", "9"],
        "validation": ["11"],
        "test": ["14"],
    }
    assert {row["language"] for row in english.rows["train"].values()} == {"en"}


def test_a_sound_row_is_complete(english: Built) -> None:
    row = english.row("4")
    want = {
        "image_id": "xmlab1",
        "case_id": "",
        "question": "Is this question 4?",
        "answer": "Lung, Heart",
        "answer_type": "open",
        "question_type": "Organ",
        "modality": "X-ray",
        "organ": "chest lung",
        "location": "Chest_lung",
        "plane": "",
        "caption": "",
        "split": "train",
        "language": "en",
        "yes_no": False,
        "base_type": "vqa",
        "triple": ["vhead", "_", "_"],
        "choices": [],
        "answer_index": -1,
    }
    assert {name: row[name] for name in want} == want
    assert row["image"] == (SLAKE / "dummy_data/imgs/imgs/xmlab1/source.jpg").read_bytes()
    assert english.row("5")["triple"] == ["vhead", "effect", "ktail"]


def test_closed_is_not_yes_or_no_in_either_language(both: Built) -> None:
    found = {
        i: (both.row(i)["answer_type"], bool(both.row(i)["yes_no"])) for i in ("0", "1", "13", "8", "11", "14", "9")
    }
    yes, other = ("closed", True), ("closed", False)
    assert found == {"0": yes, "1": other, "13": other, "8": yes, "11": yes, "14": yes, "9": ("open", False)}


def test_unusable_rows_are_dropped_with_their_reason(english: Built) -> None:
    dropped = english.of("dropped")
    assert dropped["2"] == ["answer is empty"]
    assert dropped["6"] == ["image file is absent: xmlab404/source.jpg"]
    assert dropped["7"][0].startswith("image cannot be decoded: ")
    lines = {line["id"]: line for line in english.rejects}
    assert lines["2"]["row"]["question"] == "Does the picture contain liver?"
    assert {"dataset", "split", "id", "field", "reason", "action"} <= set(lines["2"])
    assert english.counts["found"]["train"]["left out"] == 3


def test_masks_are_the_authors_bytes_and_must_have_the_images_size(english: Built) -> None:
    mask = english.row("0")["mask"]
    assert mask == (SLAKE / "dummy_data/imgs/imgs/xmlab0/mask.png").read_bytes()
    assert set(np.unique(np.asarray(Image.open(io.BytesIO(mask))))) <= {0, 1}
    assert english.row("4")["mask"] == english.row("10")["mask"] == ""
    assert english.of("dropped")["xmlab1"][0] == "mask cannot be used: (8, 8) is not the image's size"
    assert (english.folder / "mask.txt").read_text() == "1: Liver\n"


def test_boxes_are_shares_of_the_image(english: Built) -> None:
    """The images are 20 x 16; [12, 8, 5, 4] can only be a corner and a size."""
    assert english.row("0")["box_labels"] == ["Liver", "Spleen"]
    assert np.allclose(english.row("0")["boxes"], [[0.1, 0.25, 0.6, 0.75], [0.6, 0.5, 0.85, 0.75]])
    assert english.row("4")["box_labels"] == ["Lung"]
    assert np.allclose(english.row("4")["boxes"], [[0, 0, 0.5, 1]])
    assert np.allclose(english.row("10")["boxes"], [[0.25, 0.25, 0.75, 0.75]])
    assert english.row("13")["boxes"].shape == (0, 4) and english.row("13")["box_labels"] == []


def test_boxes_that_cannot_be_read_are_counted(english: Built) -> None:
    reasons = {line["id"]: line["reason"] for line in english.rejects if line["field"] == "boxes"}
    assert reasons["xmlab1"] == "box is not inside its image of 20 x 16"
    assert reasons["xmlab2"].startswith("not a box: none")
    assert reasons["xmlab5"].startswith("detection.json cannot be read: ")
    found = english.counts["found"]
    assert [found[split].get("boxes left out") for split in ("train", "validation", "test")] == [2, 1, 1]


def test_boxes_of_an_object_with_one_label_twice_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(SLAKE / "dummy_data", tmp_path / "files")
    (place,) = (tmp_path / "files").rglob("xmlab0/detection.json")
    place.write_text('[{"Liver": [2, 4, 10, 8], "Liver": [3, 4, 10, 8]}]')
    built = build("slake", "en", tmp_path / "files", tmp_path / "data", allow=True)
    assert built.row("0")["box_labels"] == []
    reasons = {line["id"]: line["reason"] for line in built.rejects if line["field"] == "boxes"}
    assert "the field 'Liver' occurs twice" in reasons["xmlab0"]


SIZE = {"width": 100, "height": 50}


@pytest.mark.parametrize(
    "value",
    [
        [{"Liver": [10, 5, 30, 20]}],
        {"Liver": [10, 5, 30, 20]},
        {"Liver": [[10, 5, 30, 20]]},
        [{"label": "Liver", "bbox": [10, 5, 30, 20]}],
        [{"name": "Liver", "x": 10, "y": 5, "w": 30, "h": 20}],
        [{"name": "Liver", "bndbox": {"xmin": 10, "ymin": 5, "xmax": 40, "ymax": 25}}],
        {"shapes": [{"label": "Liver", "points": [[10, 5], [40, 25]]}]},
        {"Liver": {"x": 10, "y": 5, "width": 30, "height": 20}},
    ],
)
def test_every_likely_form_of_a_box_is_read(value: Any) -> None:
    (box,) = parse_boxes(value)
    assert isinstance(box, RawBox) and box.label == "Liver"
    assert normalise_box(box, unnamed="size", **SIZE) == pytest.approx([0.1, 0.1, 0.4, 0.5])


def test_four_numbers_are_not_guessed() -> None:
    either = RawBox("a", (1, 1, 5, 5), "unnamed")
    size, corners = RawBox("b", (60, 1, 20, 5), "unnamed"), RawBox("c", (60, 1, 90, 5), "unnamed")
    assert decide_form([(either, 100, 50)] * 9) == "unnamed"
    assert decide_form([(either, 100, 50), (size, 100, 50)]) == "size"
    assert decide_form([(either, 100, 50), (corners, 100, 50)]) == "corners"
    assert decide_form([(size, 100, 50), (corners, 100, 50)]) == "unnamed"
    assert normalise_box(either, unnamed="unnamed", **SIZE) == "box may be two corners or a corner and a size"
    assert normalise_box(corners, unnamed="size", **SIZE) == "box is not inside its image of 100 x 50"


@pytest.mark.parametrize("numbers", [[1, 1, float("nan"), 5], [1, 1, 5], ["1", 1, 5, 5], [True, 1, 5, 5], "box", None])
def test_a_value_that_is_not_a_box_gives_the_reason(numbers: Any) -> None:
    assert all(isinstance(found, str) for found in parse_boxes([{"Liver": numbers}]))


def release() -> dict[str, list[dict[str, Any]]]:
    """Rows with every figure of the official release: 642 images, splits by language, one empty answer."""
    rows: dict[str, list[dict[str, Any]]] = {"train.json": [], "validation.json": [], "test.json": []}
    sizes = {
        "train.json": (4919, 1943, 4916, 450),
        "validation.json": (1053, 422, 1046, 96),
        "test.json": (1061, 416, 1033, 96),
    }
    first, qid = 0, 0
    for name, (english, closed, chinese, images) in sizes.items():
        for n in range(english + chinese):
            number = n if n < english else n - english
            fields = {"q_lang": "en" if n < english else "zh", "answer_type": "CLOSED" if number < closed else "OPEN"}
            image = first + number % images
            image = image if n < english else 641 - image  # each language has its own split of the images
            answer = "" if (name, n) == ("train.json", 7) else "Yes"
            rows[name].append(row(qid, image, answer=answer, **fields))
            qid += 1
        first += images
    return rows


def release_folder(folder: Path) -> Path:
    """The folder after a whole release is written into it: every row, and stand-ins for the images."""
    for name, rows in release().items():
        write(folder / name, json_text(rows))
    pixel = encode(noise(0, size=(2, 2)), "PNG")
    write(folder / "imgs.zip", zip_bytes({f"imgs/xmlab{n}/source.jpg": pixel for n in range(642)}))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_folder(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("config", "train"), [("en", 4918), ("zh", 4916), ("all", 9834)])
def test_a_whole_release_is_counted_exactly(whole: Path, tmp_path: Path, config: str, train: int) -> None:
    reading = read("slake", config, whole, tmp_path)
    assert differences(reading.counts.found(), read_manifest(SLAKE, config)) == []
    assert len(reading.splits["train"]) == train
    assert [line["reason"] for line in reading.rejects.rows] == ["answer is empty"] * (config != "zh")


def test_a_release_without_one_row_is_refused_by_name(whole: Path, tmp_path: Path) -> None:
    for name in ("train.json", "test.json", "imgs.zip"):
        (tmp_path / name).symlink_to(whole / name)
    rows = json.loads((whole / "validation.json").read_text())
    write(tmp_path / "validate.json", json_text([row for row in rows if row["qid"] != rows[3]["qid"]]))
    with pytest.raises(
        ValueError, match=r"slake \(en\): validation rows: 1052 instead of 1053; validation closed: 421"
    ):
        build("slake", "en", tmp_path, tmp_path / "data")
    assert not make("slake", "en", tmp_path / "data").is_prepared()


def test_an_unknown_language_is_an_error(tmp_path: Path) -> None:
    for name in ("train.json", "validate.json", "test.json"):
        write(tmp_path / name, json_text([row(1, q_lang="fr")]))
    write(tmp_path / "xmlab0/source.jpg", b"")
    with pytest.raises(ValueError, match=r"qid 1: q_lang='fr' must be one of \('en', 'zh'\)"):
        read("slake", "en", tmp_path, tmp_path)


def test_the_list_of_organs_is_copied_in_whatever_encoding_it_has(tmp_path: Path) -> None:
    shutil.copytree(SLAKE / "dummy_data", tmp_path / "files")
    text = "1: 肝\n".encode("gbk")
    (tmp_path / "files" / "mask.txt").write_bytes(text)
    built = build("slake", "en", tmp_path / "files", tmp_path / "data", allow=True)
    assert (built.folder / "mask.txt").read_bytes() == text
