"""Your own data: a folder of images with one table of questions and answers, or of captions.

The rules are in the README beside this file.
"""

import collections
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.choices import settle
from tfds_builders.features import YES_NO, common_row, is_yes_no
from tfds_builders.images import read_image
from tfds_builders.official_files import OfficialFiles
from tfds_builders.regular_files import read_regular
from tfds_builders.rejects import Rejects, RowRejects, write_whole
from tfds_builders.table.columns import Columns, cell_text, language_of, split_name
from tfds_builders.table.splits import divide, groups
from tfds_builders.table.table_files import Convert, Table, TableFiles, TableRow, find_table, read_rows, under

INSTRUCTIONS = """\
Give a folder, or one archive, with images and one table (CSV, TSV, JSON Lines, JSON or Parquet) as manual_dir:
--config.data.manual_dir=FOLDER. Its columns: image, question, answer; or image, caption.
"""
FACTS_FILE = "table.json"
IMAGES_FILE = "images.jsonl"
KEY_FILE = ".radvqa_id_key"
DERIVED = "features that the table does not give and a rule of the README made, with spaces between"
MISSING = ("NULL", "null", "None", "NaN", "nan", "N/A", "n/a")


@dataclasses.dataclass
class TableConfig(tfds.core.BuilderConfig):
    """One table: its name, and how it is read."""

    columns: tuple[tuple[str, str], ...] = ()  # (feature, column) where names differ
    table: str = ""  # the file, where the folder holds several
    seed: int = 0  # of the split, where the table has none
    hash_ids: bool = False  # ids of cases, images and questions are replaced by a keyed hash
    extra: tuple[str, ...] = ()  # features of the table's other columns, all text


def table_config(folder: Path, *, name: str, **options: Any) -> TableConfig:
    """Returns the builder config of the table in a folder, or in an archive; reads its head.

    Raises:
        ValueError: if there is no table, or its columns do not fit.
    """
    config = TableConfig(name=name, **options)
    files = under(_own_folder(folder, name))
    table = find_table(files, named=config.table)
    return dataclasses.replace(config, extra=tuple(_columns(table, config).extra))


def _own_folder(folder: Path, name: str) -> Path:
    """Returns the folder below `folder` that bears the table's name, where several tables lie side by side."""
    own = folder / name
    return own if folder.is_dir() and own.is_dir() else folder


def _columns(table: Table, config: TableConfig) -> Columns:
    return Columns(table.head, mapped=config.columns, what=", ".join(table.names[:2]))


class Builder(OfficialFilesBuilder):
    """A table, rows in its own order.

    `convert` turns images of other kinds, such as DICOM, into PNG.
    """

    BUILDER_CONFIGS = []  # noqa: RUF012 of TFDS; each table is one, made by table_config
    HOMEPAGE = ""  # the data are their owner's
    SOURCE = "own data"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def __init__(self, *, convert: Convert | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert = convert
        self.window = ""  # of DICOM files, as whoever converts them was told

    @property
    def _config(self) -> TableConfig:
        config = self.builder_config
        assert isinstance(config, TableConfig)
        return config

    def extra_features(self) -> dict[str, Any]:
        extra = {name: tfds.features.Text(doc="a column of the table") for name in self._config.extra}
        return extra | {"derived": tfds.features.Text(doc=DERIVED)}

    def find(self, dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
        return under(_own_folder(Path(str(dl_manager.manual_dir)), self._config.name))

    def find_below(self, folder: Path) -> OfficialFiles:
        return under(_own_folder(folder, self._config.name))

    def options(self) -> dict[str, Any]:
        config = self._config
        own = {"columns": config.columns, "table": config.table, "split_seed": config.seed, "hash_ids": config.hash_ids}
        return super().options() | own | {"window": self.window}

    def missing(self, files: OfficialFiles) -> list[str]:
        return []  # find_table says what is

    def read_files(self, files: OfficialFiles) -> Reading:
        table = find_table(files, named=self._config.table)
        reading = Reading(TableFiles(files, table, convert=self._convert), Rejects(self.name))
        self._facts = _read(reading, table, _columns(table, self._config), self._config, self._hide())
        return reading

    def read(self, reading: Reading) -> None:
        raise AssertionError("read_files reads a table")

    def expected(self) -> dict[str, Any]:
        return {}  # nobody but its owner knows what a table should hold

    def _check_counts(self, reading: Reading) -> list[str]:
        return []

    def finish(self, folder: Path, *, reading: Reading) -> None:
        facts = self._facts
        write_whole(folder / FACTS_FILE, json.dumps(facts["said"], indent=1, ensure_ascii=False) + "\n")
        if not self._config.hash_ids:
            lines = (json.dumps({"image_id": one, "file": file}) + "\n" for one, file in facts["files"].items())
            write_whole(folder / IMAGES_FILE, "".join(lines))

    def _hide(self) -> "Hide":
        return Hide(_id_key(self.home) if self._config.hash_ids else b"")


class Hide:
    """Replaces an id by a keyed hash, the same for the same id, which nobody without the key can guess."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, identity: str) -> str:
        if not self._key or not identity:
            return identity
        return hmac.new(self._key, identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]


def _id_key(root: Path) -> bytes:
    """Returns the key in <data_dir>/.radvqa_id_key, made once, whole, and readable by its owner alone.

    Raises:
        ValueError: if the file holds anything but 64 hexadecimal digits: anyone could compute the ids of a short key.
    """
    path = root / KEY_FILE
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        new = root / f"{KEY_FILE}.{secrets.token_hex(4)}"
        try:
            with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            os.link(new, path)  # unlike a rename, never replaces the key of a build at the same time
        except FileExistsError:
            pass  # made by another build meanwhile: its ids are the ones
        finally:
            new.unlink(missing_ok=True)
    key = read_regular(path).decode("ascii", "replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError(
            f"{path} must hold the key of hashed ids, 64 hexadecimal digits. Restore it from a copy; or remove it and "
            "prepare every table with data.hash_ids anew (data.rebuild=True), whose ids then change."
        )
    return bytes.fromhex(key)


def _read(reading: Reading, table: Table, columns: Columns, config: TableConfig, hide: Hide) -> dict[str, Any]:
    """Reads the whole table into `reading`, and returns what is to be said of it."""
    assert isinstance(reading.files, TableFiles)
    has_split = "split" in columns.of or len(table.names) > 1
    images = Images(reading.files, pixels=not has_split)
    made = [_Made(raw, columns, images, reading.rejects, hide) for raw in read_rows(reading.files, table)]
    said = "as the table says"
    if not has_split:
        usable = [one for one in made if not one.fault]
        members = groups([one.keys() for one in usable])
        for one, split in zip(usable, divide(members, [one.pixels for one in usable], seed=config.seed), strict=True):
            one.row["split"] = split
        by = "case" if "case_id" in columns.of else "image"
        said = f"drawn by {by}, 80/10/10 of the rows, seed {config.seed}: the table has no column `split`"
    seen: set[tuple[str, ...]] = set()
    for one in made:
        split = one.row["split"] or "train"
        reading.start(split)
        reading.add(split, one.row, raw=one.raw.cells | {"row": one.raw.number}, fault=one.fault)
        triple = tuple(one.row[name] for name in ("image_id", "question", "answer", "caption"))
        reading.counts.add(split, "repeated rows", int(not one.fault and triple in seen))
        seen.add(triple)
    derived = collections.Counter(name for one in made if not one.fault for name in one.row["derived"].split())
    facts = {
        "files": table.names,
        "columns": {feature: names if len(names) > 1 else names[0] for feature, names in columns.of.items()},
        "other columns": columns.extra,
        "split": said,
        "shared between splits": _shared(made),
        "derived": dict(derived),
    }
    return {"said": facts, "files": images.files}


def _shared(made: "list[_Made]") -> dict[str, int]:
    """Returns how many cases and images are in more than one split: what a given split leaks."""
    found: dict[str, dict[str, set[str]]] = {"case_id": {}, "image_id": {}}
    for one in made:
        for name, splits in found.items():
            if one.row[name] and not one.fault:
                splits.setdefault(one.row[name], set()).add(one.row["split"])
    return {name: sum(len(splits) > 1 for splits in values.values()) for name, values in found.items()}


class Images:
    """What identifies the images of a table: a hash of the file, and of its pixels where rows are divided by them."""

    def __init__(self, files: TableFiles, *, pixels: bool) -> None:
        self._files, self._pixels = files, pixels
        self._known: dict[str, tuple[str, str]] = {}
        self.files: dict[str, str] = {}  # image_id -> file

    def find(self, cell: Any) -> str:
        """Returns the name of a row's image; raises ValueError if there is none."""
        return self._files.find(cell)

    def __call__(self, name: str, *, note: RowRejects) -> tuple[str, str]:
        """Returns (16 digits of the sha256 of the file, the sha256 of its pixels or of the file)."""
        if name not in self._known:
            data = self._files.read_as_it_is(name)
            whole = hashlib.sha256(data).hexdigest()
            if converted := self._files.convert(data):
                data = converted.png
                for text in converted.notes:
                    note.repaired("image", f"image converted: {text}", before=whole[:16], after="PNG")
            self._known[name] = whole[:16], self._of_pixels(data) if self._pixels else whole
            self.files.setdefault(whole[:16], name)
        return self._known[name]

    @staticmethod
    def _of_pixels(data: bytes) -> str:
        image, _ = read_image(data)
        return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()


class _Made:
    """A row of the table as a row of common features, or why it cannot be used."""

    def __init__(self, raw: TableRow, columns: Columns, images: Images, rejects: Rejects, hide: Hide) -> None:
        self.raw, self.fault, self.pixels = raw, raw.fault, ""
        note = rejects.row(raw.split or "train", f"row {raw.number}")
        self.row: Row = common_row("", question_id=f"row {raw.number}", source=Builder.SOURCE, split=raw.split)
        self.row |= {"derived": "", **dict.fromkeys(columns.extra, "")}
        try:
            if not self.fault:
                self._fill(columns, images, note, hide)
        except ValueError as error:
            self.fault = str(error)

    def keys(self) -> list[tuple[str, str]]:
        """Returns what ties this row to others."""
        named = [(name, self.row[name]) for name in ("case_id", "image_id") if self.row[name]]
        return [*named, ("pixels", self.pixels)]

    def _fill(self, columns: Columns, images: Images, note: RowRejects, hide: Hide) -> None:
        cells, row = self.raw.cells, self.row
        for feature in columns.of:
            if feature not in ("image", "choices", "answer_index", "split"):
                row[feature] = note.text(columns.text(cells, feature), feature, missing=MISSING)
        for feature, column in columns.extra.items():
            row[feature] = cell_text(cells.get(column))
        if "split" in columns.of:
            row["split"] = split_name(written := columns.text(cells, "split"))
            if not row["split"]:
                raise ValueError(f"split is not train, validation or test: {written!r}")
        self._settle(columns, note)
        self._derive()
        (column,) = columns.of["image"]
        row["image"] = images.find(cells.get(column))
        identity, self.pixels = images(row["image"], note=note)
        row["image_id"] = row["image_id"] or identity
        for name in ("case_id", "image_id", "question_id"):
            if name in columns.of:
                row[name] = hide(row[name]) or (f"row {self.raw.number}" if name == "question_id" else row[name])

    def _settle(self, columns: Columns, note: RowRejects) -> None:
        """Finds the right choice: by an index or letter of its own column, by its text, or by the answer's letter."""
        row, choices = self.row, columns.choices(self.raw.cells)
        if not choices:
            return
        given = columns.text(self.raw.cells, "answer_index")
        index, answer = _index(given, len(choices)) if given else None, row["answer"]
        same = [choice.casefold() for choice in choices]
        if index is None and answer.casefold() not in same and len(answer) == 1:
            index, answer = _index(answer, len(choices)), ""
        right = settle(choices, index=index, answer=answer, note=note)
        if right.fault:
            raise ValueError(right.fault)
        row |= {"choices": choices, "answer": right.answer, "answer_index": right.index}

    def _derive(self) -> None:
        """Fills what the table does not give: the language, and whether a question is closed."""
        row, derived = self.row, []
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


def _index(text: str, count: int) -> int:
    """Returns the number from 0 of a letter, or of a number from 0; `count`, which is none, for anything else."""
    if len(text) == 1 and text.isalpha() and text.isascii():
        return ord(text.upper()) - ord("A")
    return int(text) if text.isdecimal() and text.isascii() else count
