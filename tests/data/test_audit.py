"""The images, cases and texts that sets share, and the leaks among them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from radvqa_jax.config import AuditConfig, DataConfig, SourceConfig
from radvqa_jax.data import audit as audit_module
from radvqa_jax.data import image_hashes
from radvqa_jax.data.audit import consequences, format_report
from radvqa_jax.data.audit_pictures import picture_pairs
from radvqa_jax.data.audit_report import write_audit
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows

from .conftest import fake_rows, png

NEAR_BITS = AuditConfig().near_bits


def audit(sets: dict[str, RowSource]) -> dict[str, Any]:
    """The report; `test` is evaluated, all others are trained on."""
    trained = [name for name in sets if name != "test"]
    return audit_module.audit(sets, trained=trained, evaluated=["test"], near_bits=NEAR_BITS)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bmp(value: int) -> bytes:
    return encode(Image.fromarray(np.full((8, 8, 3), value, np.uint8)), "BMP")


def blobs(seed: int) -> Image.Image:
    """A smooth random picture with the structure of a radiograph, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return Image.fromarray(noise).resize((160, 160), Image.Resampling.BICUBIC)


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


def test_cases_are_compared_and_a_missing_case_does_not_count() -> None:
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
    report = audit({"a": fake_rows(1), "b": fake_rows(1, first=1), "test": fake_rows(1), "c": fake_rows(2)})
    assert [(pair["first"], pair["second"], pair["images"], pair["leak"]) for pair in report["shared"]] == [
        ("a", "b", 0, []),
        ("a", "test", 1, ["images", "cases", "triplets"]),
        ("a", "c", 1, []),  # both are trained on
        ("b", "test", 0, []),
        ("b", "c", 1, []),
        ("c", "test", 1, ["images", "cases", "triplets"]),
    ]
    assert not report["clean"]


def test_a_set_that_is_trained_on_and_evaluated_is_a_leak() -> None:
    rows = fake_rows(3)
    report = audit_module.audit({"x": rows}, trained=["x"], evaluated=["x"], near_bits=NEAR_BITS)
    assert [(pair["first"], pair["second"], pair["images"]) for pair in report["shared"]] == [("x", "x", 3)]
    assert not report["clean"]


ALTERED = {
    "jpeg": lambda image: encode(image, "JPEG", quality=50),
    "half the size": lambda image: encode(image.resize((80, 80), Image.Resampling.LANCZOS), "PNG"),
    "another shape": lambda image: encode(image.resize((200, 120)), "PNG"),
    "brighter": lambda image: encode(ImageEnhance.Brightness(image).enhance(1.1), "PNG"),
    "less contrast": lambda image: encode(ImageEnhance.Contrast(image).enhance(0.8), "PNG"),
    "alpha": lambda image: encode(image.convert("RGBA"), "PNG"),
}


def test_planted_near_copies_are_found_and_no_others() -> None:
    train = fake_rows(20, image=[encode(blobs(seed), "PNG") for seed in range(20)])
    copies = [change(blobs(seed)) for seed, change in enumerate(ALTERED.values())]
    others = [encode(blobs(seed), "PNG") for seed in range(100, 110)]
    test = fake_rows(16, first=100, image=copies + others)
    (shared,) = audit({"train": train, "test": test})["shared"]
    assert shared["images"] == 1  # `alpha` has the same pixels
    assert shared["near_images"] == shared["rows_of_second_with_near_image"] == 5
    assert {(pair["first"], pair["second"]) for pair in shared["near_pairs"]} == {
        (f"image-{seed}", f"image-{100 + seed}") for seed in range(5)
    }
    assert shared["leak"] == ["images", "near_images"]


def test_bare_numbers_are_cases_of_their_own_data_set() -> None:
    other = fake_rows(1, first=9, case_id=["7"])
    other.source = SourceConfig(dataset="other")
    assert audit({"train": fake_rows(1, case_id=["7"]), "test": other})["clean"]
    other = fake_rows(1, first=9, case_id=["PMC7"])
    other.source = SourceConfig(dataset="other")
    assert audit({"train": fake_rows(1, case_id=["PMC7"]), "test": other})["shared"][0]["leak"] == ["cases"]


@pytest.mark.parametrize(
    ("case", "other", "config", "leak"),
    [
        ("7", "7", "oslo", []),  # each table counts its patients
        ("7", "7", "berlin", ["cases"]),
        ("40123456", "40123456", "oslo", ["cases"]),  # a patient of one hospital in two tables
        ("P7", "P7", "oslo", ["cases"]),
        ("0040123456", "40123456", "oslo", ["cases"]),  # a number that Excel saved
        ("40123456.0", "40123456", "oslo", ["cases"]),  # a column of pandas with a gap
        ("MRN-1", "mrn-1", "oslo", ["cases"]),
        ("7.0", "7", "berlin", ["cases"]),
        ("7.0", "7", "oslo", []),
        ("007", "7", "berlin", []),  # may be two patients; the table's preparation warns
        ("000007", "7", "berlin", []),
        ("1.2.840.0", "1.2.840", "oslo", []),  # no number
    ],
)
def test_a_number_is_the_case_of_its_table_or_data_set_however_it_is_written(
    case: str, other: str, config: str, leak: list[str]
) -> None:
    sets = {"train": fake_rows(1, case_id=[case]), "test": fake_rows(1, first=9, case_id=[other])}
    for (name, rows), table in zip(sets.items(), ("berlin", config), strict=True):
        rows.source = SourceConfig(dataset="table", builder_config=table, split=name)
        rows.fingerprint = {"dataset": "table", "builder_config": table}
    assert audit(sets)["shared"][0]["leak"] == leak


def test_pictures_of_medpix_are_known_by_their_number() -> None:
    train = fake_rows(2, image_id=["MPX1229_synpic22020", "MPX1_synpic2"])
    (shared,) = audit({"train": train, "test": fake_rows(2, first=9, image_id=["synpic22020", "synpic3"])})["shared"]
    assert (shared["medpix_pictures"], shared["leak"]) == (1, ["medpix_pictures"])


def test_rows_without_an_image_share_none() -> None:
    text = {"image": [b"", b""], "image_id": ["", ""], "case_id": ["", ""]}
    report = audit({"train": fake_rows(2, **text), "test": fake_rows(2, first=9, **text)})
    assert report["clean"] and report["splits"]["test"]["rows_without_image"] == 2
    assert report["splits"]["test"]["images"] == 0


def test_rows_that_teach_nothing_are_counted() -> None:
    answer = ["", "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.", "N/A", "left", "yes", "Yes "]
    rows = fake_rows(
        6,
        answer=answer,
        answer_type=["closed"] * 6,
        yes_no=[False] * 4 + [True] * 2,
        question=list("abcdee"),
        image=[png(i) for i in (0, 1, 2, 3, 4, 4)],
        image_id=list("abcdee"),
    )
    facts = audit({"train": rows})["splits"]["train"]
    assert facts["empty_answers"] == 1 and sum(facts["placeholder_answers"].values()) == 2
    assert facts["closed"] == {"rows": 6, "not_yes_no": 4}
    assert facts["repeated_triplets"] == 1 and facts["contradictions"] == 0
    assert facts["answers"]["yes"] == 2 and facts["answer_words"] == {"0": 1, "1": 4, "9": 1}
    many = fake_rows(40, answer=[f"The findings suggest that there is {i}" for i in range(40)])
    assert audit({"train": many})["splits"]["train"]["template_openings"] == {"the findings suggest that": 40}


def test_hashes_are_kept_next_to_the_data(dummy_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> RowSource:
        return load_rows(SourceConfig(dataset="vqa_rad"), DataConfig(data_dir=str(dummy_dir)))

    want = image_hashes.load_hashes(load())

    def refuse(*_: Any) -> Any:
        raise AssertionError("an image is decoded again")

    monkeypatch.setattr(image_hashes, "_hash_image", refuse)
    have = image_hashes.load_hashes(load())
    assert have.exact == want.exact and (have.near == want.near).all() and (have.of_row == want.of_row).all()
    part = image_hashes.load_hashes(load().select([2, 0]))
    assert [part.exact[n] for n in part.of_row] == [want.exact[want.of_row[n]] for n in (2, 0)]


def test_the_page_loads_nothing_and_escapes_every_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> $x_{2}$"
    rows = fake_rows(2, answer=[evil, "no"], organ=[evil, ""], image_id=["<b>", "b"])
    report = audit({"train": rows, "test": fake_rows(2, first=1)}) | {
        "blind": {},
        "accepted": [],
        "near_bits": NEAR_BITS,
    }
    page = write_audit(tmp_path, report).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'; img-src data:" in page
    assert not [word for word in ("http:", "https:", 'src="/', "<link", "@import") if word in page]
    assert (tmp_path / "audit.json").is_file()


def test_the_page_says_first_what_a_leak_means_and_shows_the_images_where_that_is_allowed(tmp_path: Path) -> None:
    train, test = fake_rows(3, first=0), fake_rows(4, first=2)
    about = {"accepted": [], "near_bits": NEAR_BITS}
    report = audit({"train": train, "test": test}) | about
    first, second = report["shared"][0]["first"], report["shared"][0]["second"]
    line = f"1 of 4 questions of {second} ask about an image that {first} shows, too."
    assert consequences(report) == [line]
    without = write_audit(tmp_path, report).read_text()
    body = without[without.index("<body>") :]
    assert line in body and body.index(line) < body.index("<nav") and "data:image/jpeg" not in without
    shown = write_audit(tmp_path, report, sets={first: train, second: test}).read_text()
    assert shown.count("data:image/jpeg") == 2 * len(picture_pairs(train, test, report["shared"][0])) >= 2
    (same, *_) = picture_pairs(train, test, report["shared"][0])
    assert same.kind == "same pixels" and same.first == same.second
    clean = audit({"train": train, "test": fake_rows(2, first=7)}) | about
    assert consequences(clean) == [] and "No leak found" in write_audit(tmp_path, clean).read_text()


def test_a_broken_image_is_named() -> None:
    with pytest.raises(ValueError, match="fake:train, image 'image-0'"):
        audit({"test": fake_rows(1, image=[b"what"])})


def test_drawn_images_may_resemble_each_other() -> None:
    """Procedural images of one anatomy differ little; their copies are still found."""
    similar = Image.blend(blobs(0), blobs(1), 0.07)
    images = {"train": encode(blobs(0), "PNG"), "test": encode(similar, "PNG")}
    real, drawn = (
        {split: fake_rows(1, first=n, image=[data], source=[source]) for n, (split, data) in enumerate(images.items())}
        for source in ("a hospital", "phantom_rad synthetic 1.0.0")
    )
    (pair,) = audit(real)["shared"]
    assert pair["leak"] == ["near_images"] and pair["near_pairs"][0]["bits"] > audit_module.DRAWN_BITS
    (pair,) = audit(drawn)["shared"]
    assert pair["leak"] == [] and len(pair["suspects"]) == 1
    copy = fake_rows(1, first=2, image=[encode(blobs(0), "JPEG", quality=90)], source=["phantom_rad synthetic 1.0.0"])
    assert audit({"train": drawn["train"], "test": copy})["shared"][0]["leak"] == ["near_images"]
