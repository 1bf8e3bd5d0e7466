"""Your own data: a folder of images with one table of questions and answers, or of captions.

The README in this folder has the rules.
"""

import collections
import dataclasses
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.official_files import OfficialFiles
from tfds_builders.regular_files import read_regular
from tfds_builders.rejects import Rejects, write_whole
from tfds_builders.table.columns import Columns
from tfds_builders.table.splits import divide, groups
from tfds_builders.table.table_files import Table, find_table, read_rows, under
from tfds_builders.table.table_images import Convert, TableFiles
from tfds_builders.table.table_rows import SOURCE, Hide, Images, MadeRow, image_cell
from tfds_builders.table.table_warnings import count_missing, table_warnings

INSTRUCTIONS = """\
Give a folder, or one archive, with images and one table (CSV, TSV, JSON Lines, JSON or Parquet) as manual_dir:
--config.data.manual_dir=FOLDER. Its columns: image, question, answer; or image, caption.
"""
FACTS_FILE = "table.json"
IMAGES_FILE = "images.jsonl"
KEY_FILE = ".radvqa_id_key"
DERIVED = "features that the table does not give and a rule of the README made, with spaces between"


@dataclasses.dataclass
class TableConfig(tfds.core.BuilderConfig):
    """One table: its name, and how it is read."""

    columns: tuple[tuple[str, str], ...] = ()  # (feature, column) if the names differ
    table: str = ""  # the file, if the folder has several
    seed: int = 0  # of the split, if the table has none
    hash_ids: bool = False  # ids of cases, images and questions are replaced by a keyed hash
    extra: tuple[str, ...] = ()  # features of the table's other columns, all text


def table_config(folder: Path, *, name: str, **options: Any) -> TableConfig:
    """The builder config of the table in a folder or an archive; reads the names of its columns.

    Raises:
        ValueError: if there is no table, or its columns do not fit.
    """
    config = TableConfig(name=name, **options)
    files = under(_own_folder(folder, name))
    table = find_table(files, named=config.table)
    return dataclasses.replace(config, extra=tuple(_columns(table, config).extra))


def _own_folder(folder: Path, name: str) -> Path:
    """The folder below `folder` that has the table's name, or `folder` itself if there is none."""
    own = folder / name
    return own if folder.is_dir() and own.is_dir() else folder


def _columns(table: Table, config: TableConfig) -> Columns:
    return Columns(table.head, mapped=config.columns, what=", ".join(table.names[:2]))


class Builder(OfficialFilesBuilder):
    """A table, its rows in their order.

    `convert` turns images of other kinds, such as DICOM, into PNG.
    """

    BUILDER_CONFIGS = []  # noqa: RUF012 of TFDS; table_config makes one for each table
    HOMEPAGE = ""  # the data are the user's
    SOURCE = SOURCE
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def __init__(self, *, convert: Convert | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert = convert
        self.window = ""  # of DICOM files, as their converter gets it
        self.archive: Path | None = None  # instead of a folder: TFDS takes only a folder as manual_dir

    @property
    def _config(self) -> TableConfig:
        config = self.builder_config
        assert isinstance(config, TableConfig)
        return config

    def extra_features(self) -> dict[str, Any]:
        extra = {name: tfds.features.Text(doc="a column of the table") for name in self._config.extra}
        return extra | {"derived": tfds.features.Text(doc=DERIVED)}

    def find(self, dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
        return self.find_below(self.archive or Path(str(dl_manager.manual_dir)))

    def find_below(self, folder: Path) -> OfficialFiles:
        return under(_own_folder(folder, self._config.name))

    def options(self) -> dict[str, Any]:
        config = self._config
        own = {"columns": config.columns, "table": config.table, "split_seed": config.seed, "hash_ids": config.hash_ids}
        return super().options() | own | {"window": self.window}

    def missing(self, files: OfficialFiles) -> list[str]:
        return []  # find_table raises for a missing table

    def read_files(self, files: OfficialFiles) -> Reading:
        table = find_table(files, named=self._config.table)
        reading = Reading(TableFiles(files, table, convert=self._convert), Rejects(self.name))
        self._facts = _read(reading, table, _columns(table, self._config), self._config, self._hide())
        return reading

    def read(self, reading: Reading) -> None:
        raise AssertionError("read_files reads a table")

    def expected(self) -> dict[str, Any]:
        return {}  # only its owner knows what a table should contain

    def image_label(self, row: Row) -> str:
        return row["image_id" if self._config.hash_ids else "image"]

    def _check_counts(self, reading: Reading) -> list[str]:
        return []

    def finish(self, folder: Path, *, reading: Reading) -> None:
        facts = self._facts
        write_whole(folder / FACTS_FILE, json.dumps(facts["said"], indent=1, ensure_ascii=False) + "\n")
        if not self._config.hash_ids:
            lines = (json.dumps({"image_id": one, "file": file}) + "\n" for one, file in facts["files"].items())
            write_whole(folder / IMAGES_FILE, "".join(lines))

    def _hide(self) -> Hide:
        return Hide(_id_key(self.home) if self._config.hash_ids else b"")


def _id_key(root: Path) -> bytes:
    """The key in <data_dir>/.radvqa_id_key, made once, written whole, and readable only by its owner.

    Raises:
        ValueError: if the file holds anything but 64 hexadecimal digits, since a short key could be guessed.
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
            os.link(new, path)  # unlike a rename, it never replaces the key of a simultaneous build
        except (FileExistsError, FileNotFoundError):
            pass  # another build has made the key meanwhile, and may have removed the new one: use that one
        finally:
            new.unlink(missing_ok=True)
    for left in root.glob(f"{KEY_FILE}.{8 * '[0-9a-f]'}"):  # of killed builds
        left.unlink(missing_ok=True)
    key = read_regular(path).decode("ascii", "replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError(
            f"{path} must hold the key of hashed ids, 64 hexadecimal digits. Restore it from a copy; or remove it and "
            "prepare every table with data.hash_ids again (data.rebuild=True): their ids will change."
        )
    return bytes.fromhex(key)


def _read(reading: Reading, table: Table, columns: Columns, config: TableConfig, hide: Hide) -> dict[str, Any]:
    """Reads the whole table into `reading` and returns the facts that `finish` writes."""
    assert isinstance(reading.files, TableFiles)
    has_split = "split" in columns.of or len(table.names) > 1
    images = Images(reading.files, pixels=not has_split)
    rows = list(read_rows(reading.files, table, images=columns.of["image"]))
    images.learn(image_cell(raw, columns) for raw in rows)
    made = [MadeRow(raw, columns, images, reading.rejects, hide) for raw in rows]
    several = _tell_images_apart(made)
    by_split = has_split and _number_by_split(made)
    for one in made:
        one.leave_out_for(reading.fault_of(one.row))
    _leave_out_repeated(made)
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
        reading.add(split, one.row, raw=one.cells, fault=one.fault)
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
        "question ids": "count within their split, which is in front of them" if by_split else "count over all rows",
        "images found in a deeper folder": sum(bool(one.found.alike) for one in made),
        "read as missing": count_missing(made),
        "warnings": [*several, *table_warnings(columns, made, hidden=config.hash_ids)],
    }
    files: dict[str, str] = {}
    for one in made:
        if not one.fault:
            files.setdefault(one.row["image_id"], one.row["image"])
    return {"said": facts, "files": files}


def _tell_images_apart(made: list[MadeRow]) -> list[str]:
    """Puts the hash of the file behind an image_id that different files have, and warns of such ids.

    Such ids often count the images within a study.
    """
    files: dict[str, set[str]] = {}
    for one in (one for one in made if one.identity):
        files.setdefault(one.row["image_id"], set()).add(one.identity)
    several = {name for name, found in files.items() if len(found) > 1}
    for one in made:
        if one.identity and one.row["image_id"] in several:
            one.row["image_id"] = f"{one.row['image_id']} {one.identity}"
    return [
        f"{len(several)} values of image_id name more than one image: the hash of the file is put behind them, so that "
        "each image counts by itself."
    ] * bool(several)


def _number_by_split(made: list[MadeRow]) -> bool:
    """Puts the split in front of all question ids if two splits give one id to different rows; returns whether it did.

    Tools that write a file for each split often number the questions of each from 0.
    """
    found: dict[str, dict[str, set[tuple[str, ...]]]] = {}  # question_id -> split -> the rows of that id
    for one in made:
        row = tuple(one.row[name] for name in ("image_id", "question", "caption"))
        found.setdefault(one.row["question_id"], {}).setdefault(one.row["split"], set()).add(row)
    several = any(len(splits) > 1 and len(set.union(*splits.values())) > 1 for splits in found.values())
    for one in made if several else ():
        one.row["question_id"] = f"{one.row['split']} {one.row['question_id']}".strip()
    return several


def _leave_out_repeated(made: list[MadeRow]) -> None:
    """Marks rows that repeat an earlier row's question_id as faulty, and gives them an id with their number.

    A row that is left out anyway takes no id from a usable one.
    """
    first: dict[str, int] = {}
    for one in sorted(made, key=lambda one: bool(one.fault)):
        number = first.setdefault(identity := one.row["question_id"], one.raw.number)
        if number != one.raw.number:
            one.fault = one.fault or f"an earlier row has the same question_id: row {number}"
            one.row["question_id"] = f"row {one.raw.number}, repeats {identity}"


def _shared(made: list[MadeRow]) -> dict[str, int]:
    """The numbers of cases and images that are in more than one split, where the table gives the splits."""
    found: dict[str, dict[str, set[str]]] = {"case_id": {}, "image_id": {}}
    for one in made:
        for name, splits in found.items():
            if one.row[name] and not one.fault:
                splits.setdefault(one.row[name], set()).add(one.row["split"])
    return {name: sum(len(splits) > 1 for splits in values.values()) for name, values in found.items()}
