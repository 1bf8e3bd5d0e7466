"""MedPix 2.0 from its official files: CT and MR images with captions, and the whole case and topic of each.

The README in this folder has the rules.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import RowRejects

COMMIT = "d3bc431"  # the counts are those of this commit; images are in git
SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # ours -> the authors'
HALVES = ("train_1", "train_2")
MODALITIES = {"CT": "CT", "MR": "MRI"}
ORGANS = {"Thorax": "chest"}  # Location Category; the others are in lower case
NOT_A_LOCATION = ("Left Blank", "Bethesda, MD")
MISSING = ("N/A",)

CASE_FIELDS = {
    "Title": "case_title",
    "History": "case_history",
    "Exam": "case_exam",
    "Findings": "case_findings",
    "Differential Diagnosis": "case_differential_diagnosis",
    "Case Diagnosis": "case_diagnosis",
    "Diagnosis By": "case_diagnosis_by",
    "Treatment & Follow Up": "case_treatment",
    "Discussion": "case_discussion",
    "Media": "case_media",
}
TOPIC_FIELDS = {
    "Title": "topic_title",
    "Disease Discussion": "topic_disease_discussion",
    "ACR Code": "topic_acr_code",
    "Category": "topic_category",
    "Keywords": "topic_keywords",
    "Reference": "topic_reference",
    "External Links": "topic_external_links",
}
IMAGE_FIELDS = {
    "Age": ("age", "in years, as text; 0 for infants and perhaps for unknown"),
    "Sex": ("sex", "male or female; empty if not said"),
    "Modality": ("modality_detail", "sequence or contrast, in the authors' words"),
    "ACR Codes": ("acr_codes", "code of the American College of Radiology"),
    "Figure Part": ("figure_part", "part of the figure; mostly empty"),
}

INSTRUCTIONS = """\
Get MedPix 2.0 from https://github.com/CHILab1/MedPix-2.0 (git clone; no registration) and give the folder that holds
  splitted_dataset/{data,descriptions}_{train,dev,test}.jsonl  splitted_dataset/uid_list.json
  images/MPX<number>_synpic<number>.png   (2,050 files)
as manual_dir: --config.data.manual_dir=FOLDER.
"""


class Builder(OfficialFilesBuilder):
    """MedPix 2.0, rows in the order of the official files; each is an image with caption and case."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="official", description="The official splits, by case.")]  # noqa: RUF012 read by TFDS
    HOMEPAGE = "https://github.com/CHILab1/MedPix-2.0"
    SOURCE = f"MedPix 2.0 (CHILab1/MedPix-2.0@{COMMIT})"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        return {"medpix.zip": f"https://github.com/CHILab1/MedPix-2.0/archive/{COMMIT}.zip"}

    def extra_features(self) -> dict[str, Any]:
        text = tfds.features.Text
        return {
            **{name: text(doc=f"the case's {field}") for field, name in CASE_FIELDS.items()},
            **{name: text(doc=f"the topic's {field}") for field, name in TOPIC_FIELDS.items()},
            **{name: text(doc=doc) for name, doc in IMAGE_FIELDS.values()},
            "location_category": text(doc="Head, Thorax, Abdomen, Spine and Muscles, Reproductive and Urinary System"),
            "case_images": tfds.features.Sequence(text(), doc="image_id of every image of the case"),
            "train_half": text(doc="train_1 or train_2, the halves that the authors give; empty otherwise"),
        }

    def missing(self, files: OfficialFiles) -> list[str]:
        tables = [f"{kind}_{theirs}.jsonl" for theirs in SPLITS.values() for kind in ("data", "descriptions")]
        absent = [f"splitted_dataset/{name}" for name in tables if not files.first(name)]
        images = any(name.startswith("MPX") and name.endswith(".png") for name in files.names())
        return absent + ([] if images else ["images/MPX<number>_synpic<number>.png"])

    def read(self, reading: Reading) -> None:
        files = reading.files
        uids = files.read_json("uid_list.json") if "uid_list.json" in files else {}
        halves = {uid: half for half in HALVES for uid in uids.get(half, [])}
        for split, theirs in SPLITS.items():
            reading.start(split)
            table = files.read_objects(files.first(f"data_{theirs}.jsonl"), required=("U_id", "Case", "Topic"))
            lines = ((str(raw["U_id"]), raw) for raw in table)
            raws = reading.rejects.by_id(lines, f"data_{theirs}.jsonl", split=split, key="U_id")
            cases = {uid: read_case(raw, split, reading=reading) for uid, raw in raws.items()}
            needed = ("U_id", "image", "Type", "Description")
            for raw in files.read_objects(files.first(f"descriptions_{theirs}.jsonl"), required=needed):
                case = cases.get(str(raw["U_id"]), {})
                row = read_row(raw, split, reading.rejects.row(split, str(raw["image"])))
                row |= case or _empty_case()
                row["train_half"] = halves.get(row["case_id"], "")
                if not row["caption"]:
                    reading.counts.add(split, "without caption")
                fault = "" if case else f"case is not in data_{theirs}.jsonl: {row['case_id']}"
                reading.add(split, row, raw=raw, fault=fault, needs_text=False)


def _empty_case() -> dict[str, Any]:
    return dict.fromkeys([*CASE_FIELDS.values(), *TOPIC_FIELDS.values()], "") | {"case_images": []}


def read_case(raw: dict[str, Any], split: str, *, reading: Reading) -> dict[str, Any]:
    """The features of a whole case: absent keys, null and N/A alike are empty."""
    note = reading.rejects.row(split, str(raw["U_id"]))
    case = _empty_case() | {"case_images": [*read_ids(raw, "TAC", note=note), *read_ids(raw, "MRI", note=note)]}
    for group, fields in (("Case", CASE_FIELDS), ("Topic", TOPIC_FIELDS)):
        for field, name in fields.items():
            case[name] = clean(raw[group].get(field), f"{group}.{field}", note=note)
    return case


def read_ids(raw: dict[str, Any], field: str, *, note: RowRejects) -> list[str]:
    """The image ids of a field; a value that is not a list of texts is left out and noted."""
    found = raw.get(field)
    if found is None:
        return []
    if not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        note.repaired(field, f"{field} is not a list of texts", before=found, after=[])
        return []
    return [shown for name in found if (shown := clean(name, field, note=note))]


def read_row(raw: dict[str, Any], split: str, note: RowRejects) -> Row:
    """The features of one image, without its case."""
    description = raw["Description"]
    text = {field: clean(description.get(field), field, note=note) for field in ("Caption", "Plane", *IMAGE_FIELDS)}
    location = clean(raw.get("Location"), "Location", note=note)
    if location in NOT_A_LOCATION:
        note.repaired("Location", "location names no part of the body", before=location, after="")
        location = ""
    category = clean(raw.get("Location Category"), "Location Category", note=note)
    image_id = str(raw["image"])
    common = common_row(
        f"{image_id}.png",
        image_id=image_id,
        case_id=str(raw["U_id"]),
        question_id=image_id,
        modality=MODALITIES.get(raw["Type"], str(raw["Type"])),
        organ=ORGANS.get(category, category.lower()),
        location=location,
        plane=text["Plane"].lower(),
        caption=text["Caption"],
        source=Builder.SOURCE,
        split=split,
        language="en",
    )
    return common | {name: text[field] for field, (name, _) in IMAGE_FIELDS.items()} | {"location_category": category}


def clean(raw: Any, field: str, *, note: RowRejects) -> str:
    """A value as text: N/A becomes empty, and control characters other than line ends and tabs become spaces."""
    if isinstance(raw, list | dict):
        listed = json.dumps(raw, ensure_ascii=False)
        note.repaired(field, f"{field} is not a text", before=raw, after=listed)
        raw = listed
    text = note.text(raw, field, missing=MISSING)
    shown = "".join(c if c in "\n\r\t" or unicodedata.category(c) != "Cc" else " " for c in text).strip()
    if shown != text:
        note.repaired(field, "control characters", before=text, after=shown)
    return shown
