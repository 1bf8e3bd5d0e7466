"""The cells of an xlsx file, after a check of its size: the library allocates every cell up to the last one."""

import io
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from xml.parsers import expat

import python_calamine

from radvqa_jax.evaluation.readers import xlsx_formats
from radvqa_jax.files import open_regular

MAX_BYTES = 1 << 30  # unpacked; no file of answers is larger
MAX_CELLS = 10_000_000  # rows x columns up to the last cell: 100,000 answers with a hundred columns
LEAST_ELEMENTS = 2_000_000  # elements of all parts; a larger file may have four for each of its bytes
LEAST_TEXT, MOST_TIMES = 64 << 20, 100  # characters of all cells: a minimum, and a multiple of the file's size
_WAY_OUT = "Save it as csv."
_SHEETS = {"worksheets", "chartsheets", "dialogsheets"}  # folders of sheets
_START = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe", b"\xfe\xff")  # of XML in UTF-8 or UTF-16


def read_cells(path: Path) -> list[list[Any]]:
    """The rows of the first sheet.

    Raises:
        ValueError: if the file is not an xlsx file, is damaged, or its cells would not fit in memory.
    """
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES:,} bytes. Save it as tsv or csv, or split it.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > MAX_BYTES:
                raise ValueError(f"{path} unpacks to {size:,} bytes; a table of answers may have {MAX_BYTES:,}.")
            found = _Size(path, len(data))
            parts = [member for member in archive.infolist() if _is_xml(archive, member)]
            for member in parts:
                with archive.open(member) as stream:
                    found.read(stream)
            if (sheet := xlsx_formats.first_sheet(archive)) not in [xlsx_formats.key(part.filename) for part in parts]:
                raise ValueError(f"{path}: the part of its first sheet, {sheet}, is not XML. Save it again.")
            found.check_shared()
            book = python_calamine.CalamineWorkbook.from_object(io.BytesIO(data))
            for number, sheet in enumerate(book.sheets_metadata):
                if number and sheet.typ == python_calamine.SheetTypeEnum.WorkSheet and _has_cells(book, number):
                    raise ValueError(
                        f"{path} has cells in its sheet {sheet.name!r}, too, and only the first sheet is read. Save "
                        "each sheet as a file of its own, or remove the others."
                    )
            rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
            xlsx_formats.mark(archive, rows)
        return rows
    except (
        python_calamine.CalamineError,
        zipfile.BadZipFile,
        zlib.error,
        expat.ExpatError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        LookupError,
    ) as error:
        raise ValueError(f"{path} is not a readable xlsx file: {error}. Save it again.") from error


def _has_cells(book: python_calamine.CalamineWorkbook, number: int) -> bool:
    return book.get_sheet_by_index(number).height > 0


def _is_xml(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a part is XML by name, folder or start: the library skips what is before the first element."""
    name = xlsx_formats.key(member.filename)
    if name.endswith("/") and not member.file_size:
        return False  # a folder
    with archive.open(member) as stream:
        return (
            name.endswith((".xml", ".rels"))
            or not _SHEETS.isdisjoint(name.split("/")[:-1])
            or stream.read(4).startswith(_START)
        )


class _Size:
    """Counts the memory that an XML part of a workbook would take, without keeping any of it."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._most_text = min(MAX_BYTES, max(LEAST_TEXT, MOST_TIMES * size))
        self._most_elements = max(LEAST_ELEMENTS, 4 * size)
        self._shared: list[list[int]] = []  # of each part: characters of the texts that cells share
        self._used: Counter[int] = Counter()  # indices of such texts, one for each cell that uses one
        self._text = self._elements = self._rows = self._columns = self._last = 0
        self._in: list[str] = []
        self._kind, self._number = "", ""
        self._place, self._parts = "", set[str]()  # of the cell that is read: where it is, and its elements

    def read(self, stream: Any) -> None:
        """Counts one part.

        Raises:
            ValueError: if there are too many cells or characters, a row comes twice, a cell would be read as empty and
                is not, or the part defines entities.
        """
        self._rows = self._columns = self._last = 0
        self._shared.append([])
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        while block := stream.read(1 << 16):
            parser.Parse(block)
        parser.Parse(b"", True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2]
        self._in.append(kind)
        self._elements += 1
        if self._elements > self._most_elements:
            raise ValueError(
                f"{self._path} has more than {self._most_elements:,} cells, rows and other elements, which is too many "
                f"for its size. {_WAY_OUT}"
            )
        if kind == "si":
            self._shared[-1].append(0)
        elif kind == "c":
            self._kind, self._number = attributes.get("t", ""), ""
            self._place, self._parts = attributes.get("r", ""), set()
        elif self._in[-2:-1] == ["c"]:
            self._parts.add(kind)
        if kind in ("c", "row") and (place := attributes.get("r")):
            self._reach(kind, place)

    def _reach(self, kind: str, place: str) -> None:
        """Tracks the extent of a sheet's cells: the library allocates all cells up to the last one."""
        letters = place.rstrip("0123456789").upper()
        row = int(place[len(letters) :][:12] or 0)
        if kind == "row":
            if row <= self._last:
                raise ValueError(
                    f"{self._path}: row {row:,} comes after row {self._last:,}; one of them would be lost."
                )
            self._last = row
        self._rows, self._columns = max(self._rows, row), max(self._columns, xlsx_formats.column_number(letters))
        if self._rows * max(1, self._columns) > MAX_CELLS:
            raise ValueError(
                f"{self._path}: its cells reach to row {self._rows:,} and column {self._columns:,}, and {MAX_CELLS:,} "
                f"cells are read. Remove cells far outside the table. {_WAY_OUT}"
            )

    def _characters(self, data: str) -> None:
        if "si" in self._in:
            self._shared[-1][-1] += len(data)
        elif self._in[-1:] == ["v"] and self._kind == "s" and len(self._number) < 12:
            self._number += data[:12]
        self._take(len(data))

    def _end(self, _: str) -> None:
        if self._in.pop() != "c":
            return
        if self._number.strip().isdecimal():
            self._used[int(self._number)] += 1
        if self._kind == "e" or ("f" in self._parts and not self._parts & {"v", "is"}):
            what = "an error, such as #NAME?," if self._kind == "e" else "a formula without a result"
            raise ValueError(
                f"{self._path}: cell {self._place or 'without a place'} holds {what} and would be read as empty. Write "
                "its text there (a text that begins with = or - needs a ' before it)."
            )

    def check_shared(self) -> None:
        """Raises ValueError if the shared texts of all cells would be too long together; each cell gets a copy."""
        for lengths in self._shared:
            self._take(sum(times * lengths[number] for number, times in self._used.items() if number < len(lengths)))

    def _take(self, characters: int) -> None:
        self._text += characters
        if self._text > self._most_text:
            raise ValueError(
                f"{self._path} would have more than {self._most_text:,} characters of text in memory; a workbook may "
                f"have {MOST_TIMES} times its own size, and at least {LEAST_TEXT:,}. {_WAY_OUT}"
            )

    def _doctype(self, *_: Any) -> None:
        raise ValueError(f"{self._path} defines entities of XML, which no workbook needs. Save it again.")
