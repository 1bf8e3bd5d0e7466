"""The images of a table: files of its folder, or bytes in Parquet."""

import collections
import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tfds_builders.archive_rules import Member
from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.image_paths import ABSENT, Found, ImagePaths, as_written
from tfds_builders.table.parquet_files import UNREADABLE, Embedded, damaged, open_parquet
from tfds_builders.table.table_files import Table


class ImageCell(NamedTuple):
    """The image of a row, as its table has it."""

    cell: Any
    table: str  # the file that the row is in
    split: str  # of the row, if a column gives it; otherwise empty


class Converted(NamedTuple):
    """An image of another kind, such as DICOM, as PNG."""

    png: bytes
    notes: list[str]  # the window, and what a person must look at


Convert = Callable[[bytes], Converted | None]  # None: the bytes are an ordinary image


class TableFiles(OfficialFiles):
    """The files of a folder, and the images in its Parquet files, each named by its place."""

    def __init__(self, files: OfficialFiles, table: Table, *, convert: Convert | None = None) -> None:
        """Takes the files of a folder, and a function that converts other kinds of images to PNG."""
        vars(self).update(vars(files))
        self._convert = convert
        self._meant = ImagePaths(self.paths(), tables=table.names)
        self._asked: list[ImageCell] = []
        self._equal: dict[tuple[str, ...], bool] = {}
        self._group = functools.lru_cache(maxsize=1)(self._read_group)  # rows are read in order

    def __contains__(self, name: str) -> bool:
        return isinstance(name, Embedded) or super().__contains__(name)

    def learn(self, cells: Iterable[ImageCell]) -> None:
        """Takes the image cells of all rows; call it before the first `find`."""
        self._asked = [asked for asked in cells if not isinstance(asked.cell, Embedded)]
        self._meant.learn(asked.cell for asked in self._asked)

    def find(self, asked: ImageCell) -> Found:
        """The file of a row's image; `read` takes its name.

        Raises:
            ValueError: with the reason if there is no image.
        """
        try:
            return Found(asked.cell) if isinstance(asked.cell, Embedded) else self._find_file(asked)
        except ValueError:
            self.lacks_images = True
            raise

    def _find_file(self, asked: ImageCell) -> Found:
        found = self._meant.find(*asked)
        if len(found.alike) > 1 and not self._are_equal(found.alike):
            some = ", ".join(found.alike[:3])
            raise ValueError(f"image is the name of several files that differ: {as_written(asked.cell)}; {some}")
        if found.alike and self._repeated:
            raise ValueError(
                f"{ABSENT}: {as_written(asked.cell)}; {found.name} has that name in a deeper folder, and names "
                f"repeat there ({self._repeated}): write the whole path"
            )
        return found

    @functools.cached_property
    def _repeated(self) -> str:
        """A path of the table that fits different files in several folders; empty if there is none.

        A path that fits only one file may then mean an absent one, and that file be another patient's, or a mask.
        """
        for asked in self._asked:
            with contextlib.suppress(ValueError):
                found = self._meant.find(*asked)
                if len(found.alike) > 1 and not self._are_equal(found.alike):
                    return as_written(asked.cell)
        return ""

    def _are_equal(self, names: tuple[str, ...]) -> bool:
        if names not in self._equal:
            self._equal[names] = len({hashlib.sha256(self.read_as_it_is(name)).digest() for name in names}) == 1
        return self._equal[names]

    def read(self, name: str) -> bytes:
        """The bytes of a file or of an image in a Parquet file, converted to PNG if they are of another kind.

        Raises:
            ValueError: if there are none, or they cannot be converted.
        """
        data = self.read_as_it_is(name)
        converted = self.convert(data)
        return data if converted is None else converted.png

    def convert(self, data: bytes) -> Converted | None:
        """An image of another kind as PNG; None for an ordinary one."""
        return self._convert(data) if self._convert else None

    def read_as_it_is(self, name: str) -> bytes:
        """The bytes of a file, or of an image in a Parquet file; raises ValueError if there are none."""
        if not isinstance(name, Embedded):
            try:
                return super().read(name)
            except ValueError as error:  # the reason of many rows comes first, and then the file
                raise ValueError(f"image file cannot be read: {str(error).removeprefix(f'{self.what}: ')}") from error
        data = self._group(name.file, name.column, name.group)[name.row].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not data:
            raise ValueError("image is empty")
        return data

    def _find(self, name: str) -> list[Path | Member]:
        return self._whole.get(name) or super()._find(name)

    @functools.cached_property
    def _whole(self) -> Mapping[str, list[Path | Member]]:
        """Files by their whole path, which comes before other files whose paths end in it."""
        found: dict[str, list[Path | Member]] = collections.defaultdict(list)
        for parts, entry in self._entries:
            found["/".join(parts)].append(entry)
        return dict(found)

    def _read_group(self, name: str, column: str, group: int) -> pa.ChunkedArray:
        try:
            return open_parquet(self, name).read_row_group(group, columns=[column]).column(column)
        except UNREADABLE as error:
            raise damaged(self, name, error) from error
