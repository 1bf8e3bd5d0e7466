"""VQA-RAD from its official files (https://osf.io/89kps/), with a stated rule for every known defect.

The README in this folder has the rules.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row, is_yes_no
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import RowRejects

JSON_NAME = "VQA_RAD Dataset Public.json"
IMAGE_FOLDER = "VQA_RAD Image Folder"
RELEASE = "release"  # in counts: figures of the whole release

INSTRUCTIONS = f"""\
VQA-RAD is downloaded by hand. Get the files from https://osf.io/89kps/ (no registration) and give the folder that holds
  {JSON_NAME}
  {IMAGE_FOLDER}/synpic<digits>.jpg   (315 files)
as manual_dir: --config.data.manual_dir=FOLDER.
"""

ORGANS = {"CHEST": "chest", "ABD": "abdomen", "HEAD": "head"}
TYPING_ERRORS = {"PRSE": "PRES", "ATRIB": "ATTRIB"}  # in question_type
MISSING = ("NULL",)  # how the authors write that a text is missing
COUNTED_REPAIRS = ("qid is text", "answer is a number", "question_rephrase is absent")

# Fields that only VQA-RAD has, under the authors' names.
EXTRA_TEXT = {
    "phrase_type": "freeform, para, test_freeform or test_para; test_ marks the official test split",
    "evaluation": "evaluated, not evaluated or given",
    "question_rephrase": "the question in other words; empty if there is none",
    "question_relation": "how the rephrasing relates to the question; empty if not said",
    "question_frame": "the question in a fixed frame; empty if there is none",
    "qid_linked_id": "one id for a question and its rephrasings",
    "image_case_url": "the case in MedPix",
}


@dataclasses.dataclass
class VqaRadConfig(tfds.core.BuilderConfig):
    """Whether training rows whose image or case is in the test split are left out."""

    strict: bool = False


class Builder(OfficialFilesBuilder):
    """VQA-RAD, rows in the order of the official file."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012 read by TFDS
        "1.1.0": "The features split and location; the config strict.",
        "1.0.0": "First version.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        VqaRadConfig(name="official", description="The official split: 202 of the 203 test images are also in train."),
        VqaRadConfig(
            name="strict",
            description="The official test split; train without the rows whose image or case is in it.",
            strict=True,
        ),
    ]
    HOMEPAGE = "https://osf.io/89kps/"
    SOURCE = "VQA-RAD (osf.io/89kps)"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def extra_features(self) -> dict[str, Any]:
        return {name: tfds.features.Text(doc=doc) for name, doc in EXTRA_TEXT.items()}

    def missing(self, files: OfficialFiles) -> list[str]:
        absent = [] if files.first(JSON_NAME) else [JSON_NAME]
        return absent + ([] if image_names(files) else [f"{IMAGE_FOLDER}/synpic<digits>.jpg"])

    def read(self, reading: Reading) -> None:
        config = self.builder_config
        assert isinstance(config, VqaRadConfig)
        reading.start("train")
        reading.start("test")
        raws = reading.files.read_objects(reading.files.first(JSON_NAME), required=("qid",))
        read = [(official_split(raw), raw) for raw in raws]
        rows = [read_row(raw, split, note=reading.rejects.row(split, question_id(raw))) for split, raw in read]
        tested = _Tested(rows) if config.strict else None
        for (split, raw), row in zip(read, rows, strict=True):
            reading.add(split, row, raw=raw, fault=tested.fault(row) if tested else "")
        repaired = reading.rejects.summary("repaired")
        for reason in COUNTED_REPAIRS:
            reading.counts.add(RELEASE, reason, repaired.get(reason, 0))
        unused = set(image_names(reading.files)) - {row["image"] for row in rows}
        reading.counts.add(RELEASE, "images that no row uses", len(unused))


class _Tested:
    """The images and cases of the test split."""

    def __init__(self, rows: list[Row]) -> None:
        test = [row for row in rows if row["split"] == "test"]
        self._images = {row["image_id"] for row in test}
        self._cases = {row["case_id"] for row in test if row["case_id"]}

    def fault(self, row: Row) -> str:
        """The reason why a training row is too close to the test split, or an empty string."""
        if row["split"] == "test":
            return ""
        if row["image_id"] in self._images:
            return "image is in the test split"
        return "case is in the test split" if row["case_id"] in self._cases else ""


def image_names(files: OfficialFiles) -> list[str]:
    """The names of the image files."""
    return [name for name in files.names() if re.fullmatch(r"synpic\d+\.jpe?g", name, re.ASCII | re.IGNORECASE)]


def question_id(raw: dict[str, Any]) -> str:
    """The qid as text."""
    return str(raw["qid"]).strip()


def official_split(raw: dict[str, Any]) -> str:
    """`test` if the phrase_type says so, else `train`."""
    return "test" if str(raw.get("phrase_type", "")).strip().startswith("test_") else "train"


def normalise_question_type(raw: str) -> str:
    """The codes in capitals, with known typing errors corrected, each once, in alphabetical order.

    >>> normalise_question_type("PRSE, Atrib"), normalise_question_type("PRES, POS")
    ('ATTRIB, PRES', 'POS, PRES')
    """
    codes = {code.strip().upper() for code in raw.split(",") if code.strip()}
    return ", ".join(sorted({TYPING_ERRORS.get(code, code) for code in codes}))


def case_id(url: str) -> str:
    """The MedPix case of an image_case_url; empty if the url names none.

    >>> case_id("https://medpix.nlm.nih.gov/case?id=48e1dd0e")
    '48e1dd0e'
    """
    match = re.search(r"[?&]id=([^&#\s]+)", url)
    return match.group(1) if match else ""


def read_row(raw: dict[str, Any], split: str, *, note: RowRejects) -> Row:
    """One of the authors' objects as a row; every run of white space becomes one space."""
    if isinstance(raw["qid"], str):
        note.repaired("qid", "qid is text", before=raw["qid"], after=note.identity)
    fields = ("image_name", "image_organ", "question", "question_type", "answer", "answer_type", *EXTRA_TEXT)
    text = {}
    for field in fields:
        if field not in raw:
            note.repaired(field, f"{field} is absent", before=None, after="")
        text[field] = note.text(raw.get(field), field, missing=MISSING, collapse=True)
    text["image_name"] = note.path(text["image_name"], "image_name")
    question_type = normalise_question_type(text["question_type"])
    if question_type != text["question_type"]:
        reason = "question_type written otherwise"
        note.repaired("question_type", reason, before=text["question_type"], after=question_type)
    case = case_id(text["image_case_url"])
    if not case:
        note.repaired("case_id", "no case in image_case_url", before=raw.get("image_case_url"), after="")
    common = common_row(
        text["image_name"],
        image_id=Path(text["image_name"]).stem,
        case_id=case,
        question_id=note.identity,
        question=text["question"],
        answer=text["answer"],
        answer_type=text["answer_type"].lower(),
        question_type=question_type,
        organ=ORGANS.get(text["image_organ"], text["image_organ"].lower()),
        location=text["image_organ"],
        source=Builder.SOURCE,
        split=split,
        language="en",
        yes_no=is_yes_no(text["answer"]),
    )
    return common | {field: text[field] for field in EXTRA_TEXT}
