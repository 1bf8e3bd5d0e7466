"""The cells of an xlsx file, after a look at its size: the library makes room for every cell up to the last one."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import python_calamine

from radvqa_jax.files import open_regular

MAX_BYTES = 1 << 30  # unpacked; more is no file of answers
MAX_CELLS = 10_000_000  # rows x columns up to the last cell: 100,000 answers with a hundred columns
_START = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe", b"\xfe\xff")  # of XML in UTF-8 or UTF-16


def read_cells(path: Path) -> list[list[Any]]:
    """The rows of the first sheet.

    Raises:
        ValueError: if the file is no xlsx file, is damaged, or its cells would not fit in memory.
    """
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES:,} bytes. Save it as tsv or csv, or split it.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > MAX_BYTES:
                raise ValueError(f"{path} unpacks to {size:,} bytes; a table of answers may have {MAX_BYTES:,}.")
            for member in archive.infolist():
                with archive.open(member) as stream:
                    is_xml = stream.read(4).startswith(_START)
                if is_xml:
                    with archive.open(member) as stream:
                        _check_size(path, stream)
        book = python_calamine.CalamineWorkbook.from_object(io.BytesIO(data))
        return book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (
        python_calamine.CalamineError,
        zipfile.BadZipFile,
        zlib.error,
        ElementTree.ParseError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        IndexError,
    ) as error:
        raise ValueError(f"{path} is not a readable xlsx file: {error}. Save it again.") from error


def _check_size(path: Path, stream: Any) -> None:
    """Raises ValueError if a sheet reaches over more than MAX_CELLS cells."""
    rows = columns = 0
    root: Any = None
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):
        if event == "end":
            if root is not None and element is not root:
                element.clear()
            continue
        root = element if root is None else root
        kind = element.tag.rpartition("}")[2]
        if kind in ("c", "row") and (place := element.get("r")):
            letters = place.rstrip("0123456789").upper()
            rows = max(rows, int(place[len(letters) :] or 0))
            columns = max(columns, _column(letters))
            if rows * max(1, columns) > MAX_CELLS:
                raise ValueError(
                    f"{path}: its cells reach to row {rows:,} and column {columns:,}, and {MAX_CELLS:,} cells are "
                    "read. Remove what lies far outside the table, or save it as csv."
                )
    # Children of the root stay as empty elements; their number is bounded by the file's size.


def _column(letters: str) -> int:
    """The number of a column from 1.

    >>> _column("A"), _column("XFD")
    (1, 16384)
    """
    number = 0
    for letter in letters[:8]:
        number = number * 26 + (ord(letter) - 64 if "A" <= letter <= "Z" else 0)
    return number
