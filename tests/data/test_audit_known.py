"""Known leaks, in real sets and planted: each is found by name and number, and nothing else is."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

import tfds_builders.slake
from radvqa_jax.config import AuditConfig, DataConfig, SourceConfig
from radvqa_jax.data import audit as audit_module
from radvqa_jax.data.audit import LEAKS, format_report
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows

from .conftest import fake_rows

NEAR_BITS = AuditConfig().near_bits


def compare(first: RowSource, second: RowSource) -> dict[str, Any]:
    """The entry of what a trained and an evaluated set share."""
    report = audit_module.audit(
        {"first": first, "second": second}, trained=["first"], evaluated=["second"], near_bits=NEAR_BITS
    )
    (pair,) = report["shared"]
    assert report["clean"] == (not pair["leak"])
    return pair


def shared(pair: dict[str, Any]) -> dict[str, int]:
    """{kind: number of shared items that are a leak}, without the kinds that share nothing."""
    assert [kind for kind in LEAKS if pair[kind]] == pair["leak"]
    return {kind: pair[kind] for kind in pair["leak"]}


# --- VQA-RAD ---


def vqa_rad(data_dir: Path, config: str, split: str) -> RowSource:
    source = SourceConfig(dataset="vqa_rad", builder_config=config, split=split)
    return load_rows(source, DataConfig(data_dir=str(data_dir)))


def test_vqa_rad_shares_its_test_images(vqa_rad_dir: Path) -> None:
    splits = {split: vqa_rad(vqa_rad_dir, "official", split) for split in ("train", "test")}
    report = audit_module.audit(splits, trained=["train"], evaluated=["test"], near_bits=NEAR_BITS)
    train, test, (pair,) = report["splits"]["train"], report["splits"]["test"], report["shared"]
    assert (train["rows"], train["images"], train["repeated_triplets"]) == (1797, 313, 3)
    assert (test["rows"], test["images"], test["repeated_triplets"]) == (451, 203, 0)
    assert shared(pair) == {"images": 202, "medpix_pictures": 202, "cases": 201, "triplets": 1}
    assert pair["rows_of_second_with_shared_image"] == 446
    assert not any(split["near_pairs_within"] for split in (train, test))  # no false alarm
    assert train["closed"] == {"rows": 1027, "not_yes_no": 85}
    text = format_report(report)
    assert "202 of 203 images" in text and "LEAK" in text


@pytest.mark.slow
def test_the_strict_split_of_vqa_rad_shares_nothing(shared_data: Path, tmp_path: Path) -> None:
    prepare(
        "vqa_rad",
        builder_config="strict",
        data=DataConfig(data_dir=str(tmp_path), manual_dir=str(shared_data / "vqa_rad")),
    )
    pair = compare(vqa_rad(tmp_path, "strict", "train"), vqa_rad(tmp_path, "strict", "test"))
    assert shared(pair) == {}


# --- SLAKE: each language has its own split of the same images ---


@pytest.fixture(scope="module")
def slake(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], RowSource]:
    """A function that loads (language, split) of the stand-in."""
    data_dir = tmp_path_factory.mktemp("slake")
    files = Path(tfds_builders.slake.__path__[0]) / "dummy_data"
    for language in ("en", "zh", "all"):
        prepare(
            "slake",
            builder_config=language,
            data=DataConfig(data_dir=str(data_dir), manual_dir=str(files), allow_count_mismatch=True),
        )

    def load(language: str, split: str) -> RowSource:
        source = SourceConfig(dataset="slake", builder_config=language, split=split)
        return load_rows(source, DataConfig(data_dir=str(data_dir)))

    return load


@pytest.mark.parametrize(
    ("train", "test", "split", "images"),
    [
        ("en", "en", "test", []),
        ("zh", "zh", "test", []),
        ("en", "zh", "test", ["xmlab1"]),
        ("zh", "en", "test", ["xmlab4"]),
        ("en", "zh", "validation", ["xmlab0"]),
        ("all", "all", "test", ["xmlab1", "xmlab4"]),
    ],
)
def test_slake_shares_images_across_languages_alone(
    slake: Callable[[str, str], RowSource], train: str, test: str, split: str, images: list[str]
) -> None:
    first, second = slake(train, "train"), slake(test, split)
    assert shared(compare(first, second)) == ({"images": len(images)} if images else {})
    assert sorted(set(first.column("image_id")) & set(second.column("image_id"))) == images


# --- MedPix: VQA-RAD was made of its pictures ---


@pytest.mark.slow
def test_pictures_of_medpix_2_in_vqa_rad_are_found(shared_data: Path, vqa_rad_dir: Path, tmp_path: Path) -> None:
    """Of the sample's 181 pictures three are in VQA-RAD: two in its train alone, one in its test as well."""
    sample = shared_data / "medpix_2_sample"
    if not sample.is_dir():
        pytest.skip("the sample of MedPix 2.0 is absent")
    prepare("medpix_2", data=DataConfig(data_dir=str(tmp_path), manual_dir=str(sample), allow_count_mismatch=True))
    data = DataConfig(data_dir=str(tmp_path))
    found: dict[str, dict[str, int]] = {}
    for split in ("train", "validation", "test"):
        rows = load_rows(SourceConfig(dataset="medpix_2", split=split, task="caption"), data)
        for tested in ("train", "test"):
            pair = compare(rows, vqa_rad(vqa_rad_dir, "official", tested))
            assert pair["near_pairs"] == []
            found[f"{split}, {tested}"] = shared(pair)
    assert found == {
        "train, train": {"images": 2, "medpix_pictures": 2},
        "train, test": {"images": 1, "medpix_pictures": 1},
        "validation, train": {"images": 1, "medpix_pictures": 1},
        "validation, test": {},
        "test, train": {},
        "test, test": {},
    }


# --- copies that were made again ---


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        tuple(round(edge) for edge in (width * share, height * share, width * (1 - share), height * (1 - share)))
    )


def framed(image: Image.Image, share: float, level: int) -> Image.Image:
    width, height = (round(side * (1 + 2 * share)) for side in image.size)
    frame = Image.new("RGB", (width, height), (level,) * 3)
    frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return frame


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 50": lambda image: encode(image, "JPEG", quality=50),
    "JPEG, quality 20": lambda image: encode(image, "JPEG", quality=20),
    "half as large": lambda image: encode(scaled(image, 0.5), "PNG"),
    "half as large again": lambda image: encode(scaled(image, 1.5), "PNG"),
    "a square": lambda image: encode(image.resize((224, 224)), "PNG"),
    "without 2 % on each side": lambda image: encode(cut(image, 0.02), "PNG"),
    "without 5 % on each side": lambda image: encode(cut(image, 0.05), "PNG"),
    "a tenth brighter": lambda image: encode(ImageEnhance.Brightness(image).enhance(1.1), "PNG"),
    "with a black border": lambda image: encode(framed(image, 0.05, 0), "PNG"),
    "with a white border, JPEG": lambda image: encode(framed(image, 0.03, 255), "JPEG", quality=70),
}


def test_real_images_that_were_made_again_are_found_and_no_others(shared_data: Path) -> None:
    folder = shared_data / "vqa_rad" / "VQA_RAD Image Folder"
    if not folder.is_dir():
        pytest.skip("the official files of VQA-RAD are absent")
    images = [path.read_bytes() for path in sorted(folder.iterdir())[: 3 * len(COPIES) + 10]]
    known, others = images[:-10], images[-10:]
    copies = [
        COPIES[kind](Image.fromarray(decode_image(data))) for kind, data in zip(list(COPIES) * 3, known, strict=True)
    ]
    pair = compare(fake_rows(len(known), image=known), fake_rows(len(images), first=100, image=copies + others))
    assert shared(pair) == {"near_images": len(known)}
    assert [
        (near["first"], near["second"]) for near in sorted(pair["near_pairs"], key=lambda near: near["second"])
    ] == [(f"image-{number}", f"image-{100 + number}") for number in range(len(known))]
