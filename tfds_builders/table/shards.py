"""Checks by their names that the files of a table are complete, and that each occurs once."""

import collections
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

SHARD = re.compile(r"(?P<of>.*?)(?P<number>\d{1,9})-of-(?P<count>\d{1,9})(?!\d)", re.DOTALL)
COPY = re.compile(r"(?P<original>.+) \(\d+\)", re.DOTALL)  # a browser's name for a second download
# The endings that browsers, huggingface-cli, wget, curl and aria2 give to a download that has not ended.
UNFINISHED = (".crdownload", ".opdownload", ".download", ".part", ".partial", ".incomplete", ".aria2")
SHOWN = 3
ALONE = "To read only one file, name it: --config.data.table=FILE."


def check_whole(tables: Sequence[str], everything: Iterable[str], *, kinds: tuple[str, ...], what: str) -> None:
    """Raises ValueError if files of a table are missing, occur twice or are still being downloaded.

    Shards with names such as `train-00000-of-00002` are counted from 0 or from 1. Files without such names count as
    complete.

    Args:
        tables: paths of the table's files.
        everything: paths of all files of the folder.
        kinds: endings of tables.
        what: the folder, for messages.
    """
    # Parquet files have the images inside: any unfinished download in the folder is then a part of the table.
    is_packed = all(name.casefold().endswith(".parquet") for name in tables)
    for name in everything:
        whole, ending = PurePosixPath(name).stem, PurePosixPath(name).suffix
        if ending.casefold() in UNFINISHED and (is_packed or whole.casefold().endswith(kinds)):
            raise ValueError(f"{what}: {name} is a download that has not ended. Finish it, or remove the file. {ALONE}")
    for name in tables:
        path = PurePosixPath(name)
        copy = COPY.fullmatch(path.stem)
        if copy and (original := str(path.with_name(copy["original"] + path.suffix))) in tables:
            raise ValueError(f"{what}: {name} looks like a second download of {original}. Remove one. {ALONE}")
    _check_shards(tables, what)


def _check_shards(tables: Sequence[str], what: str) -> None:
    found: dict[str, dict[int, dict[int, list[str]]]] = {}  # by name without numbers, count, number
    for name in tables:
        path = PurePosixPath(name)
        if shard := SHARD.match(path.stem):
            counts = found.setdefault(str(path.with_name(shard["of"] + path.suffix)), {})
            counts.setdefault(int(shard["count"]), collections.defaultdict(list))[int(shard["number"])].append(name)
    for counts in found.values():
        one = [next(iter(numbers.values()))[0] for numbers in counts.values()]
        if len(one) > 1:
            raise ValueError(
                f"{what}: {one[0]} and {one[1]} name different numbers of files: they are not of one download. Remove "
                f"the older ones. {ALONE}"
            )
        for count, numbers in counts.items():
            if twice := next((names for names in numbers.values() if len(names) > 1), None):
                raise ValueError(f"{what}: {twice[0]} and {twice[1]} are the same part of a table. Remove one. {ALONE}")
            first = 0 if 0 in numbers else 1
            wanted = range(first, first + count)
            if over := next((names for number, names in numbers.items() if number not in wanted), None):
                raise ValueError(f"{what}: {over[0]} has a number that its count of files does not allow. {ALONE}")
            if len(numbers) < count:
                missing = itertools.islice((number for number in wanted if number not in numbers), SHOWN)
                raise ValueError(
                    f"{what}: {one[0]} is one of {count} files, and {count - len(numbers)} of them are missing: number "
                    f"{', '.join(f'{number:05d}' for number in missing)}{', …' * (count - len(numbers) > SHOWN)}. "
                    f"Download them. {ALONE}"
                )
