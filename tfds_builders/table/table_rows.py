"""Turns rows of a table into rows of common features, and into cells that rejects.jsonl may show."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Any

from tfds_builders.builder import Row
from tfds_builders.features import YES_NO, common_row, is_yes_no
from tfds_builders.images import read_image
from tfds_builders.rejects import Rejects, RowRejects
from tfds_builders.right_choice import find_choice, misplaced_letter, settle
from tfds_builders.table.columns import Columns, cell_text, is_missing, language_of, split_name
from tfds_builders.table.image_paths import Found
from tfds_builders.table.table_files import TableRow
from tfds_builders.table.table_images import ImageCell, TableFiles

SOURCE = "own data"
IDS = ("case_id", "image_id", "question_id")


class Hide:
    """Replaces an id by a keyed hash: equal for equal ids, and impossible to guess without the key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def active(self) -> bool:
        """Whether ids are replaced."""
        return bool(self._key)

    def __call__(self, identity: str) -> str:
        if not self._key or not identity:
            return identity
        return hmac.new(self._key, identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]


class Images:
    """Identifies a table's images by a hash of the file, and of its pixels if these decide the split."""

    def __init__(self, files: TableFiles, *, pixels: bool) -> None:
        self._files, self._pixels = files, pixels
        self._known: dict[str, tuple[str, str]] = {}

    def learn(self, cells: Iterable[ImageCell]) -> None:
        """Takes the image cells of all rows; call it before the first `find`."""
        self._files.learn(cells)

    def find(self, asked: ImageCell) -> Found:
        """The image of a row; raises ValueError if there is none."""
        return self._files.find(asked)

    def __call__(self, name: str, *, note: RowRejects) -> tuple[str, str]:
        """(16 digits of the sha256 of the file, the sha256 of its pixels or of the file)."""
        if name not in self._known:
            data = self._files.read_as_it_is(name)
            whole = hashlib.sha256(data).hexdigest()
            if converted := self._files.convert(data):
                data = converted.png
                for text in converted.notes:
                    note.repaired("image", f"image converted: {text}", before=whole[:16], after="PNG")
            self._known[name] = whole[:16], self._of_pixels(data) if self._pixels else whole
        return self._known[name]

    @staticmethod
    def _of_pixels(data: bytes) -> str:
        image, _ = read_image(data)
        return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()


class MadeRow:
    """A row of the table as a row of common features, or the reason why it cannot be used."""

    def __init__(self, raw: TableRow, columns: Columns, images: Images, rejects: Rejects, hide: Hide) -> None:
        self.raw, self.fault, self.identity, self.pixels = raw, raw.fault, "", ""
        self.found = Found("")  # the file of its image
        self.missing: dict[str, str] = {}  # {feature: the cell that was read as a missing value}
        note = rejects.row(raw.split or "train", f"row {raw.number}")
        self.row: Row = common_row("", question_id=f"row {raw.number}", source=SOURCE, split=raw.split)
        self.row |= {"derived": "", **dict.fromkeys(columns.extra, "")}
        self.cells = self._shown(columns, hide)
        try:
            if not self.fault:
                self._fill(columns, images, note, hide)
        except ValueError as error:
            # The part after the colon may be the name of a file.
            self.fault = str(error).split(": ")[0] if hide.active else str(error)

    def keys(self) -> list[tuple[str, str]]:
        """The keys that connect this row with others."""
        named = [(name, self.row[name]) for name in ("case_id", "image_id") if self.row[name]]
        return [*named, ("pixels", self.pixels)]

    def leave_out_for(self, fault: str) -> None:
        """Leaves the row out for an empty text or an absent image; names the cell that was read as a missing value."""
        if fault and not self.fault:
            words = fault.split(": ")[0].split()
            read = next((cell for feature, cell in self.missing.items() if feature in words), "")
            self.fault = fault + f": {read} is a missing value" * bool(read)

    def _shown(self, columns: Columns, hide: Hide) -> dict[str, Any]:
        """The cells and the number of the row as rejects.jsonl may show them."""
        if hide.active and self.raw.fault:  # a cell may be in the column of another
            return {"row": self.raw.number}
        secret = {column for name in ("image", *IDS) for column in columns.of.get(name, [])} if hide.active else set()
        cells = {key: hide(cell_text(cell)) if key in secret else cell for key, cell in self.raw.cells.items()}
        return cells | {"row": self.raw.number}

    def _fill(self, columns: Columns, images: Images, note: RowRejects, hide: Hide) -> None:
        cells, row = self.raw.cells, self.row
        for feature in columns.of:
            if feature not in ("image", "choices", "answer_index", "split"):
                text = columns.text(cells, feature)
                if is_missing(text):
                    self.missing[feature], text = text, ""
                # Before anything is noted or can fail: rejects.jsonl names a row by its id.
                row[feature] = note.text(hide(text) if feature in IDS else text, feature)
        row["question_id"] = row["question_id"] or f"row {self.raw.number}"
        for feature, column in columns.extra.items():
            row[feature] = cell_text(cells.get(column))
        if "split" in columns.of:
            row["split"] = split_name(written := columns.text(cells, "split"))
            if not row["split"]:
                raise ValueError(f"split is not train, validation or test: {written!r}")
        self._settle(columns, note)
        self._derive()
        asked = image_cell(self.raw, columns)
        self.found = found = images.find(asked)
        row["image"] = found.name
        if found.shortened:
            before, after = ("", "") if hide.active else (cell_text(asked.cell), found.name)
            note.repaired("image", "the end of the path decides", before=before, after=after)
        try:
            self.identity, self.pixels = images(row["image"], note=note)
        except ValueError as error:
            if hide.active:  # the reason may name the file
                raise ValueError("image cannot be read") from error
            raise
        row["image_id"] = row["image_id"] or self.identity

    def _settle(self, columns: Columns, note: RowRejects) -> None:
        """Finds the right choice by the index or letter in `answer_index`, by the answer's text, or by its letter.

        A number is an index only in the column `answer_index`: in `answer` it could count from 0 or from 1.
        """
        row, choices = self.row, columns.choices(self.raw.cells)
        if not choices:
            return
        if fault := misplaced_letter(choices):
            raise ValueError(f"choices are in another order than their letters: {fault}")
        given = columns.text(self.raw.cells, "answer_index")
        index = _index(given, len(choices)) if given and not is_missing(given) else None
        answer, written = row["answer"], columns.text(self.raw.cells, "answer")
        if find_choice(choices, written):
            answer = written  # `None` means a missing answer, unless it is one of the options
            self.missing.pop("answer", None)
        if len(answer) == 1 and answer.isalpha() and answer.casefold() not in [one.casefold() for one in choices]:
            letter, answer = _index(answer, len(choices)), ""
            if index not in (None, letter):
                raise ValueError("the index and the letter name different choices")
            index = letter
        right = settle(choices, index=index, answer=answer, note=note)
        if right.fault:
            raise ValueError(right.fault)
        row |= {"choices": choices, "answer": right.answer, "answer_index": right.index}

    def _derive(self) -> None:
        """Fills the language and answer_type if the table does not give them, and yes_no."""
        row, derived = self.row, []
        row["language"] = row["language"].casefold()
        if not row["language"]:
            row["language"] = language_of(row["question"], row["answer"], row["caption"])
            derived.append("language")
        if row["language"] not in YES_NO:
            raise ValueError(f"language is not {' or '.join(YES_NO)}: {row['language']!r}")
        row["yes_no"] = is_yes_no(row["answer"], language=row["language"])
        row["answer_type"] = row["answer_type"].casefold()
        if row["answer_type"] not in ("", "closed", "open"):
            raise ValueError(f"answer_type is not closed or open: {row['answer_type']!r}")
        if row["question"] and not row["answer_type"]:
            row["answer_type"] = "closed" if row["yes_no"] or row["choices"] else "open"
            derived.append("answer_type")
        row["derived"] = " ".join(derived)


def image_cell(raw: TableRow, columns: Columns) -> ImageCell:
    """The image of a row as its table has it."""
    (column,) = columns.of["image"]
    return ImageCell(raw.cells.get(column), raw.file, split_name(columns.text(raw.cells, "split")))


def _index(text: str, count: int) -> int:
    """The index of a letter or of a number from 0; `count`, which is not a valid index, for anything else."""
    if len(text) == 1 and text.isalpha() and text.isascii():
        return ord(text.upper()) - ord("A")
    number = re.fullmatch(r"([0-9]{1,9})(?:\.0+)?", text)  # a column with a gap is written as 1.0
    return int(number[1]) if number else count
