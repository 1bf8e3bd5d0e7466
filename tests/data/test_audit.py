"""What splits share."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.audit import audit, format_report
from radvqa_jax.data.sources import load_rows

from .conftest import fake_rows, png


def bmp(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "BMP")
    return file.getvalue()


def test_disjoint_splits_are_clean() -> None:
    report = audit({"train": fake_rows(3), "test": fake_rows(2, first=10)})
    assert report["clean"]
    assert report["shared"][0]["images"] == report["shared"][0]["cases"] == report["shared"][0]["triplets"] == 0
    assert "No leak found." in format_report(report)


def test_an_image_is_known_by_its_pixels_not_by_its_file_or_name() -> None:
    test = fake_rows(2, first=10, image=[bmp(1), png(11)])
    (shared,) = audit({"train": fake_rows(3), "test": test})["shared"]
    assert (shared["images"], shared["cases"], shared["triplets"]) == (1, 0, 0)
    assert shared["rows_of_second_with_shared_image"] == 1


def test_the_same_bytes_in_another_shape_are_another_image() -> None:
    train = fake_rows(1, image=[png(5, size=(4, 16))])
    test = fake_rows(1, first=10, image=[png(5, size=(16, 4))])
    assert audit({"train": train, "test": test})["clean"]


def test_cases_are_compared_and_a_missing_case_is_no_case() -> None:
    train, test = fake_rows(3, case_id=["a", "", "b"]), fake_rows(3, first=10, case_id=["b", "", "b"])
    report = audit({"train": train, "test": test})
    (shared,) = report["shared"]
    assert (shared["cases"], shared["rows_of_second_with_shared_case"]) == (1, 2)
    assert report["splits"]["train"]["cases"] == 2 and report["splits"]["train"]["rows_without_case"] == 1
    assert not report["clean"]


def test_triplets_are_compared_without_case_and_white_space() -> None:
    image = [png(1)] * 3
    train = fake_rows(3, image=image, question=["Is it?", "is  IT?", "Else?"], answer=["Yes", "yes ", "Yes"])
    test = fake_rows(3, first=10, image=image, question=["IS IT?", "Is it?", "New?"], answer=["yes", "No", "yes"])
    report = audit({"train": train, "test": test})
    assert report["splits"]["train"]["repeated_triplets"] == 1
    assert report["shared"][0]["triplets"] == report["shared"][0]["rows_of_second_with_shared_triplet"] == 1


def test_every_two_splits_are_compared() -> None:
    report = audit({"a": fake_rows(1), "b": fake_rows(1, first=1), "c": fake_rows(2)})
    assert [(pair["first"], pair["second"], pair["images"]) for pair in report["shared"]] == [
        ("a", "b", 0),
        ("a", "c", 1),
        ("b", "c", 1),
    ]


def test_a_broken_image_is_named() -> None:
    with pytest.raises(ValueError, match="test, image 'image-0'"):
        audit({"test": fake_rows(1, image=[b"what"])})


def test_the_leak_of_vqa_rad_is_reported(vqa_rad_dir: Path) -> None:
    data = DataConfig(data_dir=str(vqa_rad_dir))
    splits = {split: load_rows(SourceConfig(dataset="vqa_rad", split=split), data) for split in ("train", "test")}
    report = audit(splits)
    train, test, (shared,) = report["splits"]["train"], report["splits"]["test"], report["shared"]
    assert (train["rows"], train["images"], train["repeated_triplets"]) == (1797, 313, 3)
    assert (test["rows"], test["images"], test["repeated_triplets"]) == (451, 203, 0)
    assert (shared["images"], shared["triplets"]) == (202, 1)
    text = format_report(report)
    assert "202 of 203 images" in text and "LEAK" in text
