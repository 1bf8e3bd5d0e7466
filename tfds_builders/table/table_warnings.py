"""Warnings about a table as a whole, which need a person's attention."""

import collections
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tfds_builders.table.columns import LIKE_A_CASE, Columns, is_missing
from tfds_builders.table.shards import SHARD
from tfds_builders.table.table_files import file_split
from tfds_builders.table.table_rows import MadeRow

COPIED = 0.5  # share of a file's rows in another one at which it may be a copy or an older version
# Options that programs write for a missing value; an author may also mean `None` and `N/A`.
SHORTENED = re.compile(r"\d([.,]\d+)?E\+\d\d+", re.IGNORECASE)
LIKE_NO_OPTION = ("NA", "NaN", "nan", "NULL", "null", "NaT")


def table_warnings(columns: Columns, made: Sequence[MadeRow], *, hidden: bool) -> list[str]:
    """All warnings about a table whose rows have their splits.

    They show no id and, if ids are hidden, no name of an image.
    """
    images = [*_images_of_cases(made), *_other_folders(made, hidden=hidden)]
    return [*_case_warnings(columns, made), *images, *_copies(made), *_option_warnings(made), *_lost_splits(made)]


def count_missing(made: Sequence[MadeRow]) -> dict[str, dict[str, int]]:
    """{feature: {cell: rows}} of the cells that were read as missing values."""
    found: dict[str, collections.Counter[str]] = {}
    for one in made:
        for feature, cell in one.missing.items():
            found.setdefault(feature, collections.Counter())[cell] += 1
    return {feature: dict(cells) for feature, cells in found.items()}


def _case_warnings(columns: Columns, made: Sequence[MadeRow]) -> list[str]:
    """Warnings that rows of one patient may not be recognised as such; they show no id."""
    if "case_id" not in columns.of:
        looks = [column for name, column in columns.extra.items() if name.replace("_", "") in LIKE_A_CASE]
        return [
            f"the column {column!r} seems to name a patient, and no column is case_id: rows of a patient may be in "
            f"several splits, and no audit sees it. If so, give --config.data.columns=\"(('case_id','{column}'),)\"."
            for column in looks[:1]
        ]
    spellings: dict[str, set[str]] = {}
    shortened = 0
    for one in (one for one in made if not one.fault):
        case = columns.text(one.raw.cells, "case_id")
        if case and not is_missing(case):
            plain = re.sub(r"\.0+$", "", case.casefold()).lstrip("0")
            spellings.setdefault(plain, set()).add(case)
            shortened += bool(SHORTENED.fullmatch(case))
    several, column = sum(len(found) > 1 for found in spellings.values()), columns.of["case_id"][0]
    return [
        f"{shortened} ids in the column {column!r} are numbers that a spreadsheet has shortened, such as 2.02E+12: "
        "many patients may have one id. Export the table again with this column as text."
    ] * bool(shortened) + [
        f"{several} ids in the column {column!r} have several spellings, which differ in capitals, "
        "leading zeros or a final .0: they count as several patients, whose rows may be in several splits. Spell each "
        "alike."
    ] * bool(several)


def _images_of_cases(made: Sequence[MadeRow]) -> list[str]:
    """A warning of files that are the image of several cases."""
    rows: dict[str, dict[str, int]] = {}  # {hash of the file: {case: number of its first row}}
    for one in made:
        if not one.fault and one.row["case_id"]:
            rows.setdefault(one.identity, {}).setdefault(one.row["case_id"], one.raw.number)
    several = [numbers for numbers in rows.values() if len(numbers) > 1]
    return [
        f"{len(several)} images have rows of several cases, the first of them rows {first} and {second}. Check whether "
        "it is the image of both."
        for first, second, *_ in (found.values() for found in several[:1])
    ]


def _other_folders(made: Sequence[MadeRow], *, hidden: bool) -> list[str]:
    """A warning of images that were found in another folder than the table names."""
    moved = [one for one in made if not one.fault and one.found.shortened and one.found.alike]
    return [
        f"the images of {len(moved)} rows are in another folder than the table says, the first of row {one.raw.number}"
        + f" in {one.found.name}" * (not hidden)
        + ". Check whether they are the same images."
        for one in moved[:1]
    ]


def _copies(made: Sequence[MadeRow]) -> list[str]:
    """A warning of two files of one split, such as a copy or an older version, that have the same questions."""
    first: dict[tuple[str, ...], str] = {}  # {a question about an image: the first file that has it}
    rows, shared = collections.Counter[str](), collections.Counter[tuple[str, str]]()
    for one in (one for one in made if one.identity and not SHARD.match(PurePosixPath(one.raw.file).stem)):
        rows[one.raw.file] += 1
        asked = (one.raw.split, one.identity, one.row["question"], one.row["caption"])
        if (other := first.setdefault(asked, one.raw.file)) != one.raw.file:
            shared[other, one.raw.file] += 1
    found = [pair for pair, count in shared.items() if count >= COPIED * min(rows[pair[0]], rows[pair[1]])]
    return [
        f"{shared[one, other]} rows of {other} ask what {one} asks about the same images, and both count as "
        f"{file_split(one)}: is one a copy or an older version? If so, remove it and prepare the set anew."
        for one, other in found[:1]
    ]


def _option_warnings(made: Sequence[MadeRow]) -> list[str]:
    """A warning of options that may be missing values."""
    rows = [one for one in made if not one.fault and not {*LIKE_NO_OPTION}.isdisjoint(one.row["choices"])]
    return [
        f"{len(rows)} rows, the first of them row {rows[0].raw.number}, have an option such as NA or NaN, which "
        "programs write for a missing value. It stays an option; empty the cell if there is none."
        for _ in rows[:1]
    ]


def _lost_splits(made: Sequence[MadeRow]) -> list[str]:
    """Warnings about splits without a usable row, one sentence each."""
    found: dict[str, list[str]] = {}
    for one in made:
        found.setdefault(one.row["split"] or "train", []).append(one.fault.split(": ")[0])
    return [
        f"no row of {split} can be used, so that there is no such split: {len(faults)} are left out, the first because "
        f"{faults[0]}."
        for split, faults in found.items()
        if all(faults)
    ]
