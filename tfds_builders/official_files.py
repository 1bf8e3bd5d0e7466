"""The authors' files, anywhere below one folder or in archives in it, found by the end of their path."""

import collections
import csv
import difflib
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfds_builders.archive_rules import MAX_MEMBER, Member, is_archive, is_clutter, is_unopened
from tfds_builders.archives import open_archive
from tfds_builders.json_text import NotJson, load_json
from tfds_builders.regular_files import is_pointer, open_regular

TABLES = (".json", ".jsonl")  # one form or the other: the content of the file decides


class OfficialFiles:
    """Files by the last parts of their path: `xmlab0/source.jpg` finds `Slake1.0/imgs/imgs/xmlab0/source.jpg`.

    So a release may be unpacked at any depth, and its archives (zip or tar, or one in another) may be unpacked or not.
    A name is only compared with the existing files: one with `..` in it finds nothing. Files that are found under one
    name must be equal byte for byte; then the first one is taken, a file before a member of an archive.

    Attributes:
        unopened: paths of archives of kinds that are not opened.
        used: the files of the folder that were read, by their path in it.
        lacks_images: whether a row names an image that is absent.

    Raises:
        ValueError: for an archive that cannot be trusted (`archives.py`).
    """

    def __init__(self, named: Iterable[tuple[str, Path]], *, what: str, kind: str = "folder") -> None:
        """Takes (path that it is found by, file) of each file; messages name all of them as `what`, and origin.json
        has `kind`."""
        self.what = what
        self.kind = kind
        self.unopened: list[str] = []
        self.used: set[str] = set()
        self.lacks_images = False
        self.files: dict[str, Path] = {}
        self._entries: list[tuple[tuple[str, ...], Path | Member]] = []
        self._origin: dict[str, str] = {}  # of a file, or of the archive that a member is in, by its path
        archives = []
        for name, path in sorted(named):
            if is_clutter(parts := tuple(name.split("/"))):
                continue
            self.files[name] = path
            self._origin[str(path)] = name
            if is_archive(name):
                archives.append((name, path))
            else:
                self.unopened += [name] * is_unopened(name)
                self._entries.append((parts, path))
        for name, path in archives:
            for archive in open_archive(path, name=name):
                self._origin[archive.place] = name
                self._entries += [(member.parts, member) for member in archive.members]
        self._by_depth: dict[int, dict[tuple[str, ...], list[Path | Member]]] = {}

    @classmethod
    def below(cls, folder: Path) -> "OfficialFiles":
        """The files below a folder. Links to folders are followed, each folder once."""
        return cls(((str(path.relative_to(folder).as_posix()), path) for path in _walk(folder)), what=str(folder))

    def __contains__(self, name: str) -> bool:
        return bool(self._find(name))

    def names(self, *, depth: int = 1) -> list[str]:
        """The last `depth` parts of every file's path, each once."""
        return ["/".join(parts) for parts in self._index(depth)]

    def read(self, name: str) -> bytes:
        """The bytes of the file whose path ends in `name`.

        Raises:
            ValueError: if there is no such file, or there are several that differ.
        """
        found = self._find(name)
        if not found:
            raise ValueError(f"{self.what} has no file {name}.")
        if len(found) > 1 and len({_digest(entry) for entry in found}) > 1:
            places = ", ".join(map(_place, found[:3]))
            raise ValueError(f"{self.what} has {name} more than once, and the files differ: {places}. Keep one.")
        entry = found[0]
        self.used.add(self._origin[entry.archive.place if isinstance(entry, Member) else str(entry)])
        data = entry.read() if isinstance(entry, Member) else _read_file(entry)
        if is_pointer(data):
            raise ValueError(
                f"{self.what}: {name} is a Git LFS pointer, not the file. Fetch the files with `git lfs pull`."
            )
        return data

    def paths(self) -> list[str]:
        """The whole path of every file, in order; `read` takes it."""
        return ["/".join(parts) for parts, _ in self._entries]

    def open(self, name: str) -> Path | io.BytesIO:
        """The source from which a library reads a large file: the file itself, or the bytes of an archive's member."""
        found = self._find(name)
        if len(found) != 1 or not isinstance(found[0], Path):
            return io.BytesIO(self.read(name))
        with open_regular(found[0]) as file:
            if is_pointer(file.read(64)):
                return io.BytesIO(self.read(name))  # which raises the error about the pointer
        self.used.add(self._origin[str(found[0])])
        return found[0]

    def first(self, *names: str) -> str:
        """The first of the names that exists, or an empty string.

        If none exists, a table is found whose name differs from one of them only in capitals, spaces, `_`, `-`, or
        `.jsonl` instead of `.json`, if it is the only one: `VQA_RAD_Dataset_Public.json` for
        `VQA_RAD Dataset Public.json`.
        """
        if exact := next((name for name in names if name in self), ""):
            return exact
        for name in names:
            alike = [other for other in self.names() if _is_alike(other, name.split("/")[-1])]
            if len(alike) == 1:
                return alike[0]
        return ""

    def lack(self, missing: Iterable[str]) -> str:
        """The message about missing files, with the nearest existing names, and archives that were not opened.

        >>> OfficialFiles([("tain.json", Path("tain.json"))], what="folder").lack(["train.json"])
        'lacks train.json (there is tain.json)'
        """
        there = [name for name in self.names() if not name.startswith(".")]
        parts = []
        for name in missing:
            wanted = [re.sub(r"<[^>]*>.*", "", option).split("/")[-1] for option in name.split(" or ")]
            near = [found for one in wanted if (found := _nearest(one, there))]
            parts.append(name + (f" (there is {near[0]})" if near else ""))
        told = f"; not opened, unpack it: {', '.join(self.unopened[:3])}" if self.unopened else ""
        return f"lacks {', '.join(parts)}{told}"

    def read_json(self, name: str) -> Any:
        """The value in a JSON file."""
        try:
            return load_json(self.read_text(name))
        except NotJson as error:
            raise ValueError(f"{self.what}: {name} is not JSON ({error}). Get it again.") from error

    def read_objects(self, name: str, *, required: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The objects of a JSON list, or of a file with one JSON object per line, unchanged.

        A `.json` file may have one object per line, and a `.jsonl` file a list: the first lines decide.

        Raises:
            ValueError: if it is anything else, or if an object lacks one of the `required` keys.
        """
        text = self.read_text(name)
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if _has_lines(name, [line for _, line in lines[:2]]):
            rows = [self._line(name, number, line) for number, line in lines]
        else:
            rows = self.read_json(name)
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise ValueError(f"{self.what}: {name} must hold a list of objects. Get it again.")
        for number, row in enumerate(rows):
            if missing := [key for key in required if key not in row]:
                raise ValueError(f"{self.what}: {name}, object {number}: lacks {', '.join(missing)}. Get it again.")
        return rows

    def read_csv(self, name: str, *, required: Iterable[str]) -> list[dict[str, str]]:
        """The rows of a CSV file as text, an empty cell as ""; blanks around column names are removed.

        Raises:
            ValueError: if a required column is missing, or a row has more or fewer cells than the head.
        """
        table = csv.reader(io.StringIO(self.read_text(name), newline=""), strict=True)
        rows = []
        try:
            head = [column.strip() for column in next(table, [])]
            if twice := [column for column in required if head.count(column) > 1]:
                raise ValueError(f"{self.what}: {name} has the columns {twice} more than once. Get it again.")
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
        """A file as text: UTF-8, with or without a byte order mark."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.what}: {name} is not UTF-8 ({error}). Get it again.") from error

    def _line(self, name: str, number: int, line: str) -> Any:
        try:
            return load_json(line)
        except NotJson as error:
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


def _has_lines(name: str, lines: list[str]) -> bool:
    """Whether a file has one object on each line, according to its first two lines that are not blank."""
    if name.lower().endswith(".jsonl"):
        return not (lines and lines[0].lstrip().startswith("["))
    return len(lines) == 2 and all(line.lstrip().startswith("{") for line in lines)


def _nearest(name: str, there: Iterable[str]) -> str:
    """The file of the same kind whose name is nearest, or an empty string."""
    path = Path(name)
    stems = {Path(other).stem: other for other in there if Path(other).suffix.lower() in (path.suffix, *TABLES)}
    near = difflib.get_close_matches(path.stem, stems, n=1, cutoff=0.75) if path.stem else []
    return stems[near[0]] if near else ""


def _is_alike(name: str, wanted: str) -> bool:
    """Whether two names of tables differ only in capitals, spaces, `_`, `-` and the form of JSON."""

    def plain(text: str) -> tuple[str, str]:
        stem, dot, suffix = text.casefold().rpartition(".")
        return re.sub(r"[\s_\-]+", "", stem), "json" if dot + suffix in TABLES else suffix

    return plain(name) == plain(wanted)


def _read_file(path: Path) -> bytes:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_MEMBER:
            raise ValueError(f"{path} has {size} bytes, more than {MAX_MEMBER}. It is not read.")
        return file.read()


def _digest(entry: Path | Member) -> tuple[int, int]:
    """Size and CRC-32."""
    crc = getattr(entry.info, "CRC", None) if isinstance(entry, Member) else None
    if isinstance(entry, Member) and crc is not None:
        return entry.size, crc
    data = entry.read() if isinstance(entry, Member) else _read_file(entry)
    return len(data), zlib.crc32(data)


def _place(entry: Path | Member) -> str:
    return f"{entry.archive.place}!{'/'.join(entry.parts)}" if isinstance(entry, Member) else str(entry)
