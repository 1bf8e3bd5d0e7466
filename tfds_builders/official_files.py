"""The authors' files, wherever they lie below one folder or in zip archives in it, found by the end of their path."""

import collections
import csv
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfds_builders.archives import Member, SafeZip, is_clutter


class OfficialFiles:
    """Files by the last parts of their path: `xmlab0/source.jpg` finds `Slake1.0/imgs/imgs/xmlab0/source.jpg`.

    So it does not matter how deep a release is unpacked, or whether its archives are. A name is only ever compared with
    the files that there are: one with `..` in it finds nothing. What is found twice must be the same file, byte for
    byte; then the first one is taken, a file before a member of an archive.

    Raises:
        ValueError: for an archive that cannot be trusted (`archives.py`).
    """

    def __init__(self, named: Iterable[tuple[str, Path]], *, what: str) -> None:
        """Takes (path to go by, file) of each file; `what` names the whole in messages."""
        self.what = what
        self._entries: list[tuple[tuple[str, ...], Path | Member]] = []
        archives = []
        for name, path in sorted(named):
            if name.lower().endswith(".zip"):
                archives.append(SafeZip(path))
            elif not is_clutter(parts := tuple(name.split("/"))):
                self._entries.append((parts, path))
        for archive in archives:
            self._entries += [(member.parts, member) for member in archive.members]
        self._by_depth: dict[int, dict[tuple[str, ...], list[Path | Member]]] = {}

    @classmethod
    def below(cls, folder: Path) -> "OfficialFiles":
        """Returns the files below a folder. Links to folders are followed, each folder once."""
        return cls(((str(path.relative_to(folder).as_posix()), path) for path in _walk(folder)), what=str(folder))

    def __contains__(self, name: str) -> bool:
        return bool(self._find(name))

    def names(self, *, depth: int = 1) -> list[str]:
        """Returns the last `depth` parts of every file's path, each once."""
        return ["/".join(parts) for parts in self._index(depth)]

    def read(self, name: str) -> bytes:
        """Returns the bytes of the file whose path ends in `name`.

        Raises:
            ValueError: if there is none, or if there are several that differ.
        """
        found = self._find(name)
        if not found:
            raise ValueError(f"{self.what} has no file {name}.")
        if len(found) > 1 and len({_digest(entry) for entry in found}) > 1:
            places = ", ".join(map(_place, found[:3]))
            raise ValueError(f"{self.what} has {name} more than once, and the files differ: {places}. Keep one.")
        entry = found[0]
        return entry.archive.read(entry) if isinstance(entry, Member) else entry.read_bytes()

    def paths(self) -> list[str]:
        """Returns the whole path of every file, in order, as `read` takes it."""
        return ["/".join(parts) for parts, _ in self._entries]

    def open(self, name: str) -> Path | io.BytesIO:
        """Returns what a library reads a large file from: the file itself, or the bytes of an archive's member."""
        found = self._find(name)
        return found[0] if len(found) == 1 and isinstance(found[0], Path) else io.BytesIO(self.read(name))

    def first(self, *names: str) -> str:
        """Returns the first of the names that there is, or an empty string."""
        return next((name for name in names if name in self), "")

    def read_json(self, name: str) -> Any:
        """Returns the value in a JSON file."""
        try:
            return json.loads(self.read_text(name), strict=False)  # a raw control character in a text is harmless
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.what}: {name} is not JSON ({error}). Get it again.") from error

    def read_objects(self, name: str, *, required: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Returns the objects of a JSON list, or of a file with one JSON object a line, as they are.

        Raises:
            ValueError: if it is anything else, or if an object lacks one of the `required` keys.
        """
        if name.endswith(".jsonl"):
            rows = [
                self._line(name, i, line) for i, line in enumerate(self.read_text(name).split("\n"), 1) if line.strip()
            ]
        else:
            rows = self.read_json(name)
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise ValueError(f"{self.what}: {name} must hold a list of objects. Get it again.")
        for number, row in enumerate(rows):
            if missing := [key for key in required if key not in row]:
                raise ValueError(f"{self.what}: {name}, object {number}: lacks {', '.join(missing)}. Get it again.")
        return rows

    def read_csv(self, name: str, *, required: Iterable[str]) -> list[dict[str, str]]:
        """Returns the rows of a CSV file as text, an empty cell as ""; blanks around column names are removed.

        Raises:
            ValueError: if a required column is missing, or a row has more or fewer cells than the head.
        """
        table = csv.reader(io.StringIO(self.read_text(name), newline=""), strict=True)
        rows = []
        try:
            head = [column.strip() for column in next(table, [])]
            if missing := [column for column in required if column not in head]:
                raise ValueError(f"{self.what}: {name} lacks the columns {missing}; it has {head}. Get it again.")
            for cells in filter(None, table):
                if len(cells) != len(head):
                    place = f"{self.what}: {name}, line {table.line_num}"
                    raise ValueError(f"{place}: {len(cells)} cells instead of {len(head)}. Get it again.")
                rows.append(dict(zip(head, cells, strict=True)))
        except csv.Error as error:
            raise ValueError(f"{self.what}: {name}, line {table.line_num}: {error}. Get it again.") from error
        return rows

    def read_text(self, name: str) -> str:
        """Returns a file as text: UTF-8, with or without a byte order mark."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.what}: {name} is not UTF-8 ({error}). Get it again.") from error

    def _line(self, name: str, number: int, line: str) -> Any:
        try:
            return json.loads(line, strict=False)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.what}: {name}, line {number}, is not JSON ({error}). Get it again.") from error

    def _index(self, depth: int) -> Mapping[tuple[str, ...], list[Path | Member]]:
        if depth not in self._by_depth:
            index = collections.defaultdict(list)
            for parts, entry in self._entries:
                if len(parts) >= depth:
                    index[parts[-depth:]].append(entry)
            self._by_depth[depth] = dict(index)
        return self._by_depth[depth]

    def _find(self, name: str) -> list[Path | Member]:
        parts = tuple(name.split("/"))
        return self._index(len(parts)).get(parts, [])


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder; a folder that links lead to twice is entered once."""
    entered = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(root) / file for file in files)


def _digest(entry: Path | Member) -> tuple[int, int]:
    """Returns size and CRC-32."""
    if isinstance(entry, Member):
        return entry.info.file_size, entry.info.CRC
    data = entry.read_bytes()
    return len(data), zlib.crc32(data)


def _place(entry: Path | Member) -> str:
    return f"{entry.archive.path}!{entry.info.filename}" if isinstance(entry, Member) else str(entry)
