"""SLAKE 1.0 from its official files: questions in English and Chinese, with organ masks and boxes if present.

The README in this folder has the rules.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row, is_yes_no
from tfds_builders.images import StoredImage, image_size
from tfds_builders.json_text import no_repeats
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import write_whole
from tfds_builders.slake.boxes import Form, RawBox, decide_form, normalise_box, parse_boxes

HUB = "https://huggingface.co/datasets/BoKelvin/SLAKE/resolve/main"
SPLITS = {"train": ("train.json",), "validation": ("validate.json", "validation.json"), "test": ("test.json",)}
LANGUAGES = ("en", "zh")
MODALITIES = {"MRI": "MRI", "CT": "CT", "X-Ray": "X-ray"}
REQUIRED = ("qid", "img_name", "question", "answer", "q_lang", "answer_type")

INSTRUCTIONS = """\
Get SLAKE from http://www.med-vqa.com/slake or https://huggingface.co/datasets/BoKelvin/SLAKE (no registration) and give
the folder that holds
  train.json  validate.json (or validation.json)  test.json
  imgs.zip, or imgs/xmlab<N>/source.jpg (with mask.png and detection.json where there are any)
  mask.txt (what the grey levels of the masks mean; may be absent)
as manual_dir: --config.data.manual_dir=FOLDER.
"""


@dataclasses.dataclass
class SlakeConfig(tfds.core.BuilderConfig):
    """The language whose questions are read."""

    language: Literal["en", "zh", "all"] = "en"


class Builder(OfficialFilesBuilder):
    """SLAKE, rows in the order of the official files."""

    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        SlakeConfig(name="en", description="English questions.", language="en"),
        SlakeConfig(name="zh", description="Chinese questions.", language="zh"),
        SlakeConfig(
            name="all",
            description="Both languages. The splits share images ACROSS languages: train on en, test on en.",
            language="all",
        ),
    ]
    HOMEPAGE = "http://www.med-vqa.com/slake"
    SOURCE = "SLAKE 1.0"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        return {name: f"{HUB}/{name}" for name in ("train.json", "validation.json", "test.json", "imgs.zip")}

    def extra_features(self) -> dict[str, Any]:
        text = tfds.features.Text
        return {
            "base_type": text(doc="vqa, or kvqa for questions that need the knowledge graph"),
            "triple": tfds.features.Sequence(text(), doc="the relation asked for; placeholders for vqa"),
            "mask": tfds.features.Image(
                shape=(None, None, None), doc="the authors' PNG, untouched: its levels name organs (mask.txt)"
            ),
            "boxes": tfds.features.Tensor(
                shape=(None, 4), dtype=np.float32, doc="x0 y0 x1 y1, as shares of width and height from the upper left"
            ),
            "box_labels": tfds.features.Sequence(text(), doc="what is in each box"),
        }

    def missing(self, files: OfficialFiles) -> list[str]:
        absent = [" or ".join(names) for names in SPLITS.values() if not files.first(*names)]
        images = any(name.startswith("xmlab") and name.endswith("/source.jpg") for name in files.names(depth=2))
        return absent + ([] if images else ["imgs/xmlab<N>/source.jpg"])

    def read(self, reading: Reading) -> None:
        config = self.builder_config
        assert isinstance(config, SlakeConfig)
        wanted = LANGUAGES if config.language == "all" else (config.language,)
        for split, names in SPLITS.items():
            reading.start(split)
            for raw in reading.files.read_objects(reading.files.first(*names), required=REQUIRED):
                language = str(raw["q_lang"]).strip().lower()
                if language in wanted:
                    reading.add(split, read_row(raw, split, language, reading=reading), raw=raw)
                elif language not in LANGUAGES:
                    raise ValueError(f"SLAKE, qid {raw['qid']}: q_lang={raw['q_lang']!r} must be one of {LANGUAGES}.")
        self._targets = _Targets(reading)

    def finish_row(self, row: Row, image: StoredImage, *, reading: Reading, split: str) -> Row:
        return row | self._targets.of(row["image_id"], image, split=split)

    def finish(self, folder: Path, *, reading: Reading) -> None:
        if "mask.txt" in reading.files:
            write_whole(folder / "mask.txt", reading.files.read("mask.txt"))  # its encoding may be any


def read_row(raw: dict[str, Any], split: str, language: str, *, reading: Reading) -> Row:
    """One of the authors' objects as a row; its mask and boxes come with its image."""
    question_id = str(raw["qid"])
    note = reading.rejects.row(split, question_id)
    fields = ("img_name", "question", "answer", "location", "modality", "answer_type", "base_type", "content_type")
    text = {field: note.text(raw.get(field), field) for field in fields}
    text["img_name"] = note.path(text["img_name"], "img_name")
    common = common_row(
        text["img_name"],
        image_id=text["img_name"].split("/")[0],
        question_id=question_id,
        question=text["question"],
        answer=text["answer"],
        answer_type=text["answer_type"].lower(),
        question_type=text["content_type"],
        modality=MODALITIES.get(text["modality"], text["modality"]),
        organ=text["location"].replace("_", " ").lower(),
        location=text["location"],
        source=Builder.SOURCE,
        split=split,
        language=language,
        yes_no=is_yes_no(text["answer"], language=language),
    )
    return common | {"base_type": text["base_type"], "triple": [str(part) for part in raw.get("triple") or []]}


class _Targets:
    """Masks and boxes, read once per image."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._found: dict[str, dict[str, Any]] = {}
        images = {row["image_id"]: row["image"] for rows in reading.splits.values() for row in rows}
        self._unnamed: Form = decide_form(self._sized_boxes(images))

    def _sized_boxes(self, images: Mapping[str, str]) -> list[tuple[RawBox, int, int]]:
        sized = []
        for image_id, path in images.items():
            boxes = [box for box in self._parsed(image_id) if isinstance(box, RawBox)]
            if boxes:
                try:
                    size = image_size(self._reading.files.read(path))
                except ValueError:
                    continue  # the row is left out with this reason when the image is stored
                sized += [(box, *size) for box in boxes]
        return sized

    def _parsed(self, image_id: str) -> list[RawBox | str]:
        name = f"{image_id}/detection.json"
        if name not in self._reading.files:
            return []
        try:
            text = self._reading.files.read(name).decode("utf-8-sig")
            return list(parse_boxes(json.loads(text, object_pairs_hook=no_repeats)))
        except (ValueError, RecursionError) as error:
            return [f"detection.json cannot be read: {str(error)[:200]}"]

    def of(self, image_id: str, image: StoredImage, *, split: str) -> dict[str, Any]:
        """Mask, boxes and box_labels of an image."""
        if image_id not in self._found:
            mask = self._mask(image_id, image, split=split)
            self._found[image_id] = {"mask": mask, **self._boxes(image_id, image, split=split)}
        return self._found[image_id]

    def _mask(self, image_id: str, image: StoredImage, *, split: str) -> bytes:
        name = f"{image_id}/mask.png"
        if name not in self._reading.files:
            return b""
        data = self._reading.files.read(name)
        try:
            size = image_size(data)
            fault = "" if size == (image.width, image.height) else f"{size} is not the image's size"
        except ValueError as error:
            fault = str(error)
        if fault:
            self._reading.rejects.row(split, image_id).dropped(f"mask cannot be used: {fault}", row=name, field="mask")
            return b""
        self._reading.counts.add(split, "masks")
        return data

    def _boxes(self, image_id: str, image: StoredImage, *, split: str) -> dict[str, Any]:
        boxes, labels = [], []
        for raw in self._parsed(image_id):
            box = raw
            if isinstance(raw, RawBox):
                box = normalise_box(raw, unnamed=self._unnamed, width=image.width, height=image.height)
            if isinstance(box, str):
                line = list(raw) if isinstance(raw, RawBox) else f"{image_id}/detection.json"
                self._reading.rejects.row(split, image_id).dropped(box, row=line, field="boxes")
                self._reading.counts.add(split, "boxes left out")
            elif isinstance(raw, RawBox):
                boxes.append(box)
                labels.append(raw.label)
        if boxes:
            self._reading.counts.add(split, "boxes", len(boxes))
        return {"boxes": np.asarray(boxes, np.float32).reshape(-1, 4), "box_labels": labels}
