"""VQA-RAD from its official files (https://osf.io/89kps/), every known defect handled by a stated rule.

The rules are in the README beside this file. Every row that is left out and every text that differs from the authors'
is one line of `rejects.jsonl` in the folder of the prepared data set.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from tfds_builders.features import common_features, common_row

JSON_NAME = "VQA_RAD Dataset Public.json"
IMAGE_FOLDER = "VQA_RAD Image Folder"
SOURCE = "VQA-RAD (osf.io/89kps)"

INSTRUCTIONS = f"""\
VQA-RAD is downloaded by hand. Get the files from https://osf.io/89kps/ (no registration) and give the folder that holds
  {JSON_NAME}
  {IMAGE_FOLDER}/synpic<digits>.jpg   (315 files)
as manual_dir: --config.data.manual_dir=FOLDER.
"""

ORGANS = {"CHEST": "chest", "ABD": "abdomen", "HEAD": "head"}
TYPING_ERRORS = {"PRSE": "PRES", "ATRIB": "ATTRIB"}  # in question_type
MISSING = "NULL"  # how the authors write that a text is missing

# Fields that VQA-RAD alone offers, under the authors' names.
EXTRA_TEXT = {
    "phrase_type": "freeform, para, test_freeform or test_para; test_ marks the official test split",
    "evaluation": "evaluated, not evaluated or given",
    "question_rephrase": "the question in other words; empty if there is none",
    "question_relation": "how the rephrasing relates to the question; empty if not said",
    "question_frame": "the question in a fixed frame; empty if there is none",
    "qid_linked_id": "one id for a question and its rephrasings",
    "image_case_url": "the case in MedPix",
}

# What the official release holds after the rules: a difference is an error that names it.
EXPECTED = {
    "rows in train": 1797,
    "rows in test": 451,
    "images in train": 313,
    "images in test": 203,
    "closed in train": 1027,
    "closed in test": 272,
    "yes/no in train": 942,
    "yes/no in test": 251,
    "files that no row uses": 1,
    "rows left out": 0,
    "qid is text": 1,
    "answer is a number": 5,
    "question_rephrase is absent": 2,
}


@dataclasses.dataclass
class VqaRadConfig(tfds.core.BuilderConfig):
    """Whether the counts must be those of the official release."""

    check_counts: bool = True


@dataclasses.dataclass
class Rejects:
    """What was changed or left out, and how often each kind of change was made."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def repaired(self, question_id: str, field: str, reason: str, *, before: Any, after: Any) -> None:
        """Notes that a value differs from the authors'."""
        line = {"action": "repaired", "question_id": question_id, "field": field, "reason": reason}
        self.rows.append(line | {"before": before, "after": after})

    def dropped(self, question_id: str, reason: str, *, row: dict[str, Any]) -> None:
        """Notes that a row is left out."""
        self.rows.append({"action": "dropped", "question_id": question_id, "reason": reason, "row": row})

    def count(self, *, action: str, reason: str | None = None) -> int:
        """Returns the number of lines of that kind."""
        return sum(line["action"] == action and reason in (None, line["reason"]) for line in self.rows)


def find_root(manual_dir: str | Path) -> Path:
    """Returns the folder with the official files: `manual_dir`, or a folder directly below it."""
    manual_dir = Path(manual_dir).expanduser()
    below = sorted(path for path in manual_dir.glob("*") if path.is_dir()) if manual_dir.is_dir() else []
    for folder in [manual_dir, *below]:
        if (folder / JSON_NAME).is_file() and (folder / IMAGE_FOLDER).is_dir():
            return folder
    raise ValueError(f"manual_dir={str(manual_dir)!r} does not hold VQA-RAD's official files. {INSTRUCTIONS}")


def normalise_question_type(raw: str) -> str:
    """Returns the codes in capitals, known typing errors mended, each once, in alphabetical order.

    >>> normalise_question_type("PRSE, Atrib"), normalise_question_type("PRES, POS")
    ('ATTRIB, PRES', 'POS, PRES')
    """
    codes = {code.strip().upper() for code in raw.split(",") if code.strip()}
    return ", ".join(sorted({TYPING_ERRORS.get(code, code) for code in codes}))


def case_id(url: str) -> str:
    """Returns the MedPix case of an image_case_url; empty if the url names none.

    >>> case_id("https://medpix.nlm.nih.gov/case?id=48e1dd0e")
    '48e1dd0e'
    """
    match = re.search(r"[?&]id=([^&#\s]+)", url)
    return match.group(1) if match else ""


def clean_text(row: dict[str, Any], field: str, *, question_id: str, rejects: Rejects) -> str:
    """Returns a field as text: numbers written out, the authors' NULL empty, every run of white space one space."""
    if field not in row:
        rejects.repaired(question_id, field, f"{field} is absent", before=None, after="")
        return ""
    raw = row[field]
    if raw is None or raw == MISSING:
        return ""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(f"VQA-RAD question {question_id}: {field} must be text or a number; got {raw!r}.")
    if not isinstance(raw, str):
        rejects.repaired(question_id, field, f"{field} is a number", before=raw, after=str(raw))
        return str(raw)
    text = " ".join(raw.split())
    if text != raw:
        rejects.repaired(question_id, field, "white space", before=raw, after=text)
    return text


def clean_row(row: dict[str, Any], *, rejects: Rejects) -> dict[str, Any]:
    """Returns the common and extra features of one of the authors' rows, without its image."""
    question_id = str(row["qid"]).strip()
    if isinstance(row["qid"], str):
        rejects.repaired(question_id, "qid", "qid is text", before=row["qid"], after=question_id)
    text = {
        field: clean_text(row, field, question_id=question_id, rejects=rejects)
        for field in ("image_name", "image_organ", "question", "question_type", "answer", "answer_type", *EXTRA_TEXT)
    }
    question_type = normalise_question_type(text["question_type"])
    if question_type != text["question_type"]:
        reason = "question_type written otherwise"
        rejects.repaired(question_id, "question_type", reason, before=text["question_type"], after=question_type)
    case = case_id(text["image_case_url"])
    if not case:
        rejects.repaired(
            question_id, "case_id", "no case in image_case_url", before=row.get("image_case_url"), after=""
        )
    common = common_row(
        text["image_name"],
        image_id=Path(text["image_name"]).stem,
        case_id=case,
        question_id=question_id,
        question=text["question"],
        answer=text["answer"],
        answer_type=text["answer_type"].lower(),
        question_type=question_type,
        organ=ORGANS.get(text["image_organ"], text["image_organ"].lower()),
        source=SOURCE,
        language="en",
        yes_no=text["answer"].casefold() in ("yes", "no"),
    )
    return common | {field: text[field] for field in EXTRA_TEXT}


def image_fault(folder: Path, name: str) -> str:
    """Returns why an image cannot be used, or an empty string."""
    if not re.fullmatch(r"\w[\w.-]*\.jpe?g", name, re.ASCII | re.IGNORECASE):
        return "image name is not that of a JPEG file in the image folder"
    if not (folder / name).is_file():
        return "image file is absent"
    try:
        with Image.open(folder / name) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return f"image cannot be decoded: {error}"
    return ""


def read_json(path: Path) -> list[dict[str, Any]]:
    """Returns the authors' rows as they are."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error}). Get it again: {INSTRUCTIONS}") from error
    if not (isinstance(rows, list) and all(isinstance(row, dict) and "qid" in row for row in rows)):
        raise ValueError(f"{path} must be a list of objects with a qid each. Get it again: {INSTRUCTIONS}")
    return rows


def read_rows(root: Path, *, rejects: Rejects) -> dict[str, list[dict[str, Any]]]:
    """Returns {split: rows} of the official files, in their order; rows whose image cannot be used are rejects."""
    folder = root / IMAGE_FOLDER
    faults: dict[str, str] = {}
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for raw in read_json(root / JSON_NAME):
        row = clean_row(raw, rejects=rejects)
        name, question_id = row["image"], row["question_id"]
        if question_id in seen:
            raise ValueError(f"{root / JSON_NAME}: qid {question_id} occurs twice. Get the file again: {INSTRUCTIONS}")
        seen.add(question_id)
        if name not in faults:
            faults[name] = image_fault(folder, name)
        fault = faults[name] or ("" if row["question"] and row["answer"] else "question or answer is empty")
        if fault:
            rejects.dropped(question_id, fault, row=raw)
            continue
        row["image"] = str(folder / name)
        splits["test" if row["phrase_type"].startswith("test_") else "train"].append(row)
    return splits


def measure(splits: dict[str, list[dict[str, Any]]], root: Path, *, rejects: Rejects) -> dict[str, int]:
    """Returns the figures that EXPECTED names."""
    files = {path.name for path in (root / IMAGE_FOLDER).iterdir() if path.suffix.lower() in (".jpg", ".jpeg")}
    used = {Path(row["image"]).name for rows in splits.values() for row in rows}
    found: dict[str, int] = {}
    for split, rows in splits.items():
        types = collections.Counter(row["answer_type"] for row in rows)
        found[f"rows in {split}"] = len(rows)
        found[f"images in {split}"] = len({row["image_id"] for row in rows})
        found[f"closed in {split}"] = types["closed"]
        found[f"yes/no in {split}"] = sum(row["yes_no"] for row in rows)
    found["files that no row uses"] = len(files - used)
    found["rows left out"] = rejects.count(action="dropped")
    for reason in ("qid is text", "answer is a number", "question_rephrase is absent"):
        found[reason] = rejects.count(action="repaired", reason=reason)
    return found


def check_counts(found: dict[str, int], *, rejects: Rejects) -> None:
    """Raises ValueError that names every figure that is not the official release's."""
    wrong = [f"{name}: {found[name]} instead of {number}" for name, number in EXPECTED.items() if found[name] != number]
    if not wrong:
        return
    reasons = collections.Counter(line["reason"] for line in rejects.rows if line["action"] == "dropped")
    left_out = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(5))
    raise ValueError(
        f"These are not VQA-RAD's official files: {'; '.join(wrong)}."
        + (f" Rows were left out: {left_out}." if left_out else "")
        + " Get them again from https://osf.io/89kps/, or build as they are: --config.builder_config=unchecked."
    )


class Builder(tfds.core.GeneratorBasedBuilder):
    """VQA-RAD, rows in the order of the official file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 read by TFDS
    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        VqaRadConfig(name="official", description="The counts must be those of the official release."),
        VqaRadConfig(name="unchecked", description="Any files in the official layout.", check_counts=False),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        extra = {name: tfds.features.Text(doc=doc) for name, doc in EXTRA_TEXT.items()}
        # Evaluation then asks in the official order, and a subset can be found again in the official file.
        return self.dataset_info_from_configs(
            features=common_features(**extra), homepage="https://osf.io/89kps/", disable_shuffling=True
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        root = find_root(str(dl_manager.manual_dir))
        rejects = Rejects()
        splits = read_rows(root, rejects=rejects)
        config = self.builder_config
        if not isinstance(config, VqaRadConfig) or config.check_counts:
            check_counts(measure(splits, root, rejects=rejects), rejects=rejects)
        # data_dir is the temporary folder that becomes the data set's folder when all is written.
        with (Path(self.data_dir) / "rejects.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in rejects.rows)
        return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(rows)
