"""Finds the file that a path in a table means, never one in another folder, such as another patient's or split's."""

import collections
import itertools
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from tfds_builders.table.table_files import file_split

ABSENT = "image file is absent"
Parts = tuple[str, ...]


class Written(NamedTuple):
    """A path as it is written in a row."""

    parts: Parts
    absolute: bool  # from the root of a machine: `/mnt/a.png`, `C:\\data\\a.png`


class Found(NamedTuple):
    """The file of a row."""

    name: str
    shortened: bool = False  # whether leading folders of the path in the table were removed to find it
    alike: tuple[str, ...] = ()  # the files in deeper folders that the path may mean; they must be equal


class ImagePaths:
    """The files of a folder by the paths in a table.

    A path is relative to the folder of the row's own table, or to the whole folder. If no file is there, it may mean a
    file in a deeper folder whose path ends in the whole path of the table, but none in the folder of another table or
    of another split. All such files are in the result. Otherwise, leading folders that all paths of the table share are
    removed (relative and absolute paths are compared among themselves), so that two paths never mean one file. At each
    step, a name may differ in capitals and in the form of Unicode if it matches only one file.
    """

    def __init__(self, names: Iterable[str], *, tables: Sequence[str]) -> None:
        """Takes the paths of all files, and of the table's files among them."""
        self._names = list(dict.fromkeys(names))
        self._there = set(self._names)
        self._folders = {_folder(table) for table in tables}
        self._has_several = len(tables) > 1  # the name of a single table does not tell a split
        self._by_depth: dict[int, Mapping[str, list[str]]] = {}
        self._shared = {False: 0, True: 0}  # leading folders that all relative, and all absolute, paths share

    def learn(self, cells: Iterable[Any]) -> None:
        """Takes the cells of all rows, to know which leading folders their paths share."""
        folders: dict[bool, set[Parts]] = {False: set(), True: set()}
        for cell in cells:
            try:
                written = read_path(cell)
            except ValueError:
                continue  # find raises the error for the row
            folders[written.absolute].add(written.parts[:-1])
        self._shared = {kind: _shared(own) for kind, own in folders.items()}

    def find(self, cell: Any, table: str, split: str = "") -> Found:
        """The file that the cell of a row means.

        Args:
            cell: the cell.
            table: the file that the row is in.
            split: of the row, if a column gives it.

        Raises:
            ValueError: saying why there is none.
        """
        written = read_path(cell)
        for start in range(self._shared[written.absolute] + 1):
            # What remains of a shortened relative path is the whole path of the file: no deeper folder is searched.
            deeper = written.absolute or not start
            if found := self._look(written.parts[start:], table, split, deeper=deeper):
                return found._replace(shortened=start > 0)
        name = _plain(written.parts[-1:])
        near = self._ending(1).get(name, [])
        hint = f"; {near[0]} has that name in another folder" if near else ""
        raise ValueError(f"{ABSENT}: {'/'.join(written.parts)}{self._unescaped(written, table, split) or hint}")

    def _unescaped(self, written: Written, table: str, split: str) -> str:
        """A hint at the file that a path means if its `%20` are escapes of an address; empty if there is none."""
        path = "/" * written.absolute + "/".join(written.parts)
        if (plain := urllib.parse.unquote(path)) == path:
            return ""
        try:
            found = self.find(plain, table, split)
        except ValueError:
            return ""
        return f"; {found.name} is there, without escapes such as %20: write its path so"

    def _look(self, parts: Parts, table: str, split: str, *, deeper: bool) -> Found | None:
        places = [(*_folder(table), *parts), parts]
        if whole := next((name for name in map("/".join, places) if name in self._there), ""):
            return Found(whole)
        alike = self._ending(len(parts)).get(_plain(parts), [])
        alike = [
            name for name in alike if not self._is_of_another(_folder(name)[: 1 - len(parts) or None], table, split)
        ]
        in_place = [name for name in alike if _plain(name.split("/")) in map(_plain, places)]
        if found := _meant(in_place, parts):
            return Found(found[0])
        found = _meant(alike, parts) if deeper else ()
        return Found(found[0], alike=found) if found else None

    def _is_of_another(self, above: Parts, table: str, split: str) -> bool:
        """Whether the folders above the written path belong to another table or split than the row's own."""
        own = _folder(table)
        if any(above[: len(folder)] == folder != own[: len(folder)] for folder in self._folders):
            return True
        same = _shared([above, own])
        mine = split or (file_split("/".join(table.split("/")[same:])) if self._has_several else "")
        its = file_split("/".join((*above[same:], "file")))
        return bool(mine and its) and mine != its

    def _ending(self, depth: int) -> Mapping[str, list[str]]:
        """Plain spellings of the last `depth` parts of paths -> the paths."""
        if depth not in self._by_depth:
            found: dict[str, list[str]] = collections.defaultdict(list)
            for name in self._names:
                parts = name.split("/")
                if len(parts) >= depth:
                    found[_plain(parts[-depth:])].append(name)
            self._by_depth[depth] = dict(found)
        return self._by_depth[depth]


def read_path(cell: Any) -> Written:
    r"""The parts of the path in a cell, or in the Hugging Face hub's object {bytes, path} in a JSON file.

    >>> read_path("C:\\data\\a.png")
    Written(parts=('C:', 'data', 'a.png'), absolute=True)

    Raises:
        ValueError: if there is no path, or if it is a web address or leaves the folder.
    """
    if isinstance(cell, dict):
        cell = cell.get("path")
    name = cell.strip().replace("\\", "/") if isinstance(cell, str) else ""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts:
        raise ValueError("image is empty")
    if re.match(r"[a-z]+://", name, re.IGNORECASE):
        raise ValueError("image is an address; get the file first")
    if ".." in parts:
        raise ValueError("image leaves the folder with '..'")
    return Written(parts, bool(re.match(r"/|[a-z]:/", name, re.IGNORECASE)))


def as_written(cell: Any) -> str:
    """The path in a cell for a message."""
    return "/".join(read_path(cell).parts)


def _folder(name: str) -> Parts:
    return PurePosixPath(name).parts[:-1]


def _shared(folders: Iterable[Parts]) -> int:
    """The number of leading parts that all folders share."""
    every = list(folders)
    pairs = zip(min(every), max(every), strict=False) if every else ()
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _plain(parts: Sequence[str]) -> str:
    """A path in lower case and one form of Unicode: archives of a Mac write an umlaut as two characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", "/".join(parts)).casefold())


def _meant(names: Sequence[str], parts: Parts) -> tuple[str, ...]:
    """The files with exactly this name, or the only one with another spelling of it.

    Raises:
        ValueError: if none has exactly this name, and several have other spellings.
    """
    exact = [name for name in names if tuple(name.split("/"))[-len(parts) :] == parts]
    if not exact and len(names) > 1:
        end = "/".join(parts)
        raise ValueError(f"image is the name of several files in another spelling: {end}; {', '.join(names[:3])}")
    return tuple(exact or names)
