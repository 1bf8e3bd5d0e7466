"""The images of a table: files of its folder, found for any spelling of their paths, or bytes in Parquet."""

import collections
import functools
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa

from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.parquet_files import UNREADABLE, Embedded, damaged, open_parquet
from tfds_builders.table.table_files import Table


class Converted(NamedTuple):
    """An image of another kind, such as DICOM, as PNG."""

    png: bytes
    notes: list[str]  # the window, and what a person must look at


Convert = Callable[[bytes], Converted | None]  # None: the bytes are an ordinary image


class TableFiles(OfficialFiles):
    """The files of a folder, and the images in its Parquet files, each named by its place."""

    def __init__(self, files: OfficialFiles, table: Table, *, convert: Convert | None = None) -> None:
        """Takes over the files of a folder that were found already, and what turns other kinds of images into PNG."""
        vars(self).update(vars(files))
        self._convert = convert
        # A path in a table is meant from the table's own folder; elsewhere the end of the path decides.
        self._folders = list(dict.fromkeys(PurePosixPath(name).parts[:-1] for name in table.names))
        self._group = functools.lru_cache(maxsize=1)(self._read_group)  # rows follow each other

    def __contains__(self, name: str) -> bool:
        return isinstance(name, Embedded) or super().__contains__(name)

    def find(self, cell: Any) -> str:
        """The name to read an image by, for the cell of a row.

        Raises:
            ValueError: saying why there is no image.
        """
        if isinstance(cell, Embedded):
            return cell
        if isinstance(cell, dict):  # the hub's struct in a JSON file
            cell = cell.get("path")
        name = cell.strip().replace("\\", "/") if isinstance(cell, str) else ""
        if not name:
            raise ValueError("image is empty")
        if re.match(r"[a-z]+://", name, re.IGNORECASE):
            raise ValueError("image is an address; get the file first")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ValueError("image leaves the folder with '..'")
        # The end of an absolute path, or of one from elsewhere: as long a one as there is.
        ends = [*(folder + parts for folder in self._folders), *(parts[start:] for start in range(len(parts)))]
        for end in map("/".join, ends):
            if end in self:
                return end
        # A table from a system that does not tell capitals apart.
        alike = self._folded.get("/".join(parts).casefold(), set())
        if len(alike) == 1:
            return next(iter(alike))
        raise ValueError("image file is absent")

    @functools.cached_property
    def _folded(self) -> dict[str, set[str]]:
        """Every end of every path in small letters -> the paths."""
        found: dict[str, set[str]] = collections.defaultdict(set)
        for name in self.paths():
            parts = name.split("/")
            for start in range(len(parts)):
                found["/".join(parts[start:]).casefold()].add(name)
        return dict(found)

    def read(self, name: str) -> bytes:
        """A file, or an image of a Parquet file, as bytes that the rule for images takes.

        Raises:
            ValueError: if there is none, or it cannot be converted.
        """
        data = self.read_as_it_is(name)
        converted = self.convert(data)
        return data if converted is None else converted.png

    def convert(self, data: bytes) -> Converted | None:
        """An image of another kind as PNG, None for an ordinary one."""
        return self._convert(data) if self._convert else None

    def read_as_it_is(self, name: str) -> bytes:
        """The bytes of a file, or of an image in a Parquet file; raises ValueError if there are none."""
        if not isinstance(name, Embedded):
            return super().read(name)
        data = self._group(name.file, name.column, name.group)[name.row].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not data:
            raise ValueError("image is empty")
        return data

    def _read_group(self, name: str, column: str, group: int) -> pa.ChunkedArray:
        try:
            return open_parquet(self, name).read_row_group(group, columns=[column]).column(column)
        except UNREADABLE as error:
            raise damaged(self, name, error) from error
