"""PathVQA from its official files: questions about pathology figures. Its pickles are read as plain values only.

The README in this folder has the rules.
"""

from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row, is_yes_no
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import RowRejects
from tfds_builders.unpickle import load_plain

SPLITS = {"train": "train", "validation": "val", "test": "test"}  # ours -> the authors'
CLOSED = ("yes/no",)

INSTRUCTIONS = """\
PathVQA is downloaded by hand. Get the folder linked from https://github.com/UCSD-AI4H/PathVQA (Google Drive, no
registration) and give the folder that holds, for each of train, val, test
  qas/<split>_vqa.pkl, or qas/<split>/<split>_qa.pkl
  images/<split>/<split>_<number>.jpg
as manual_dir: --config.data.manual_dir=FOLDER. The pickles are never executed.
"""


class Builder(OfficialFilesBuilder):
    """PathVQA, rows in the order of the official files."""

    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        tfds.core.BuilderConfig(name="official", description="The official splits, exact duplicates included.")
    ]
    HOMEPAGE = "https://github.com/UCSD-AI4H/PathVQA"
    SOURCE = "PathVQA"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def extra_features(self) -> dict[str, Any]:
        return {"pvqa_question_id": tfds.features.Text(doc="the authors' question_id; empty in the simple form")}

    def missing(self, files: OfficialFiles) -> list[str]:
        absent = [f"qas/{theirs}_vqa.pkl" for theirs in SPLITS.values() if not files.first(*tables(theirs))]
        images = any(name.startswith("train_") and name.endswith(".jpg") for name in files.names())
        return absent + ([] if images else ["images/<split>/<split>_<number>.jpg"])

    def read(self, reading: Reading) -> None:
        for split, theirs in SPLITS.items():
            reading.start(split)
            name = reading.files.first(*tables(theirs))
            for number, raw in enumerate(read_table(reading.files, name)):
                question_id = f"{theirs}_{number:05d}"  # only one form of the table has the authors' ids
                note = reading.rejects.row(split, question_id)
                reading.add(split, read_row(raw, split, question_id, note=note, where=name), raw=raw)


def tables(theirs: str) -> tuple[str, str]:
    """The names that the table of a split may have: with question types, and the simple form."""
    return f"{theirs}_vqa.pkl", f"{theirs}_qa.pkl"


def read_table(files: OfficialFiles, name: str) -> list[dict[str, Any]]:
    """The objects of a pickle.

    Raises:
        ValueError: if it holds anything but a list of dicts of plain values.
    """
    rows = load_plain(files.read(name), name=f"{files.what}: {name}")
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ValueError(f"{files.what}: {name} must hold a list of dicts. Get it again.")
    return rows


def read_row(raw: dict[str, Any], split: str, question_id: str, *, note: RowRejects, where: str) -> Row:
    """One of the authors' objects, of either form, as a row."""
    for needed in (("img_id", "image"), ("sent", "question")):
        if not any(key in raw for key in needed):
            raise ValueError(f"{where}: {question_id} has no {' or '.join(needed)}; it has {sorted(map(str, raw))}.")
    image_id = note.path(raw.get("img_id", raw.get("image")), "img_id").removesuffix(".jpg")
    answer = note.text(_answer(raw, note=note), "answer")
    kind = note.text(raw.get("answer_type"), "answer_type")
    yes_no = is_yes_no(answer)
    common = common_row(
        f"{image_id}.jpg",
        image_id=image_id,
        question_id=question_id,
        question=note.text(raw.get("sent", raw.get("question")), "question"),
        answer=answer,
        # The simple form has no type; a yes or no is closed in both.
        answer_type="closed" if kind in CLOSED or yes_no else "open",
        question_type=note.text(raw.get("question_type"), "question_type"),
        source=Builder.SOURCE,
        split=split,
        language="en",
        yes_no=yes_no,
    )
    return common | {"pvqa_question_id": str(raw.get("question_id", ""))}


def _answer(raw: dict[str, Any], *, note: RowRejects) -> Any:
    """The answer; of several in `label`, {answer: weight}, the heaviest. A weight that is no number counts as 0."""
    label = raw.get("label")
    if not isinstance(label, dict):
        return raw.get("answer")
    if not label:
        return ""
    weights = {one: weight if isinstance(weight, int | float) and weight > 0 else 0 for one, weight in label.items()}
    answer = max(weights, key=lambda one: weights[one])
    if len(label) > 1:
        note.repaired("label", "several answers; the heaviest is kept", before=label, after=answer)
    return answer
