"""Cells of an xlsx file whose number format shows them differently from what they hold, such as 50% for 0.5."""

import re
import zipfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from xml.parsers import expat

from radvqa_jax.evaluation.readers.foreign_rows import Formatted, in_text

# Formats with a number of their own that show a number as it is, or may; the others (percent, fractions, powers of ten,
# currencies, dates) never do.
_BUILT_IN = {0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00"}
_BUILT_IN |= {12: "# ?/?", 13: "# ??/??", 49: "@"}
_AS_IT_IS = ("general", "@")
_MOST_GENERAL = 11  # characters of a number that these formats show
_RELATIONSHIPS = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)
_AMBIGUOUS = re.compile(r"&.*;|[\x00-\x1f]")  # the library resolves no references of XML in the names of parts


def mark(archive: zipfile.ZipFile, rows: list[list[Any]]) -> None:
    """Replaces each cell of the first sheet that is shown differently by one of type `Formatted`."""
    codes = _codes(archive)
    if all(code.lower() in _AS_IT_IS for code in codes) and all(
        shows_as_held(value, "General") for row in rows for value in row
    ):
        return
    row = column = 0

    def start(kind: str, _: str, attributes: dict[str, str]) -> None:
        nonlocal row, column
        if kind == "row":
            row, column = _number(attributes.get("r", "")) or row + 1, 0
        elif kind == "c":
            place = attributes.get("r", "")
            column = column_number(place.rstrip("0123456789")) or column + 1
            at, style = _number(place) or row, _number(attributes.get("s", ""))
            if at > len(rows) or column > len(rows[at - 1]):
                return  # an empty cell behind the last one that holds something
            value, code = rows[at - 1][column - 1], codes[style] if style < len(codes) else "General"
            if not shows_as_held(value, code):
                rows[at - 1][column - 1] = Formatted(value, place or f"R{at}C{column}", code)

    _parse(archive, first_sheet(archive), start)


def first_sheet(archive: zipfile.ZipFile) -> str:
    """The name of the first sheet's part, as `key` writes it.

    Raises:
        LookupError: if the workbook names no sheet, a part that holds its names is absent, or the sheet may be one of
            several parts.
    """
    sheets: list[tuple[str, list[str], str]] = []  # its name; what its ids are called, and their values
    targets: dict[str, str] = {}

    def sheet(kind: str, _: str, attributes: dict[str, str]) -> None:
        if kind == "sheet":
            ids = {name: value for name, value in attributes.items() if name.rpartition(" ")[2] == "id"}
            sheets.append((attributes.get("name", ""), list(ids), "".join(ids.values())))

    def target(kind: str, _: str, attributes: dict[str, str]) -> None:
        if kind == "Relationship":
            if (identifier := attributes.get("Id", "")) in targets:
                raise LookupError(f"its workbook has two relationships {identifier[:60]!r}")
            targets[identifier] = attributes.get("Target", "")

    _parse(archive, "xl/workbook.xml", sheet, namespaces=True)
    _parse(archive, "xl/_rels/workbook.xml.rels", target)
    if not sheets:
        raise LookupError("its workbook names no sheet")
    name, called, identifier = sheets[0]
    if called not in [[f"{space} id"] for space in _RELATIONSHIPS]:  # the library takes the last id of any namespace
        found = ", ".join(called)[:200] or "none"
        raise LookupError(f"its sheet {name[:60]!r} must have one id, that of a relationship (r:id), and has: {found}")
    if identifier not in targets:
        raise LookupError(f"its sheet {name[:60]!r} has the id {identifier[:60]!r}, and no relationship has it")
    part = targets[identifier].lower()
    return part[1:] if part.startswith("/") else f"xl/{part}"


def shows_as_held(value: Any, code: str) -> bool:
    """Whether a format shows a cell as the text that is read from it; other values than numbers and text pass.

    >>> [shows_as_held(value, "#,##0") for value in (7.0, 7000.0, "yes")]
    [True, False, True]
    >>> [shows_as_held(0.5, code) for code in ("General", "0.0", "0.00", "0%", "# ?/?", '0.0" mm"')]
    [True, True, False, False, False, False]
    >>> [shows_as_held(value, "General") for value in (1 / 3, 0.1 + 0.2, 1e-5, 123456789012.0, -12.25, 12345678901.0)]
    [False, False, False, False, True, True]
    >>> [shows_as_held(value, "0_);[Red](0)") for value in (5.0, -5.0)], shows_as_held("yes", '"A: "@')
    ([True, False], False)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return True
    sections = re.sub(r'"[^"]*"|\\.|_.|\* |\[\$-\w*\]', _literal, code).split(";")
    if isinstance(value, str):
        at = sections[3] if len(sections) > 3 else sections[-1] if "@" in sections[-1] else "@"
        return at.lower() in _AS_IT_IS
    if value < 0 and len(sections) > 1:
        return False  # a section for negative numbers leaves out the sign
    section = sections[2] if value == 0 and len(sections) > 2 else sections[0]
    decimals = re.fullmatch(r"(#,##)?0(?:\.(0+))?", section)
    if not decimals:
        return section.lower() in _AS_IT_IS and _fits_general(in_text(value))
    return f"{value:{',' if decimals[1] else ''}.{len(decimals[2] or '')}f}" == in_text(value)


def column_number(letters: str) -> int:
    """The number of a column from 1.

    >>> column_number("A"), column_number("XFD")
    (1, 16384)
    """
    number = 0
    for letter in letters[:8].upper():
        number = number * 26 + (ord(letter) - 64 if "A" <= letter <= "Z" else 0)
    return number


def _fits_general(text: str) -> bool:
    """Whether the format General shows a number as this text: no exponent, and not more characters than it shows."""
    plain = f"{Decimal(text):f}"
    return plain == text and len(plain.lstrip("-")) <= _MOST_GENERAL


def _number(text: str) -> int:
    """The digits of a text as a number; 0 without one."""
    return int(re.sub(r"[^0-9]", "", text)[:12] or 0)


def _literal(found: re.Match[str]) -> str:
    """A mark for text that a format adds; nothing for spaces and languages."""
    return "\0" if found[0][0] in '"\\' else ""


def _codes(archive: zipfile.ZipFile) -> list[str]:
    """The number format of each style of a workbook."""
    known: dict[str, str] = {str(number): code for number, code in _BUILT_IN.items()}
    styles: list[str] = []

    def start(kind: str, parent: str, attributes: dict[str, str]) -> None:
        if (parent, kind) == ("numFmts", "numFmt"):
            known[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif (parent, kind) == ("cellXfs", "xf"):
            styles.append(attributes.get("numFmtId", "0"))

    if "xl/styles.xml" in _members(archive):
        _parse(archive, "xl/styles.xml", start)
    return [known.get(number, f"number {number}") for number in styles]


def key(name: str) -> str:
    """The name of a part as the library compares it: case does not count, and a backslash is a slash.

    >>> key(r"xl\\Workbook.xml")
    'xl/workbook.xml'
    """
    return name.replace("\\", "/").lower()


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The parts by their names, as `key` writes them.

    Raises:
        LookupError: if one name may mean two parts.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if _AMBIGUOUS.search(member.filename):
            raise LookupError(f"the name of its part {member.filename[:200]!r} has a reference or a control character")
        if (other := members.setdefault(key(member.filename), member)) is not member:
            raise LookupError(
                f"the names of its parts {other.filename[:200]!r} and {member.filename[:200]!r} must differ in more "
                "than case and slashes"
            )
    return members


def _parse(
    archive: zipfile.ZipFile,
    part: str,
    start: Callable[[str, str, dict[str, str]], None],
    *,
    namespaces: bool = False,
) -> None:
    """Calls `start` with name, parent and attributes of each element of a part.

    Args:
        archive: the workbook.
        part: the name of a part, as `key` writes it.
        start: the function to call. It gets the names of elements without their prefixes.
        namespaces: write each attribute with a prefix as its namespace, a space and its name.
    """
    inside = [""]

    def opened(name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(" " if namespaces else ":")[2]
        start(kind, inside[-1], attributes)
        inside.append(kind)

    parser = expat.ParserCreate(namespace_separator=" " if namespaces else None)
    parser.StartElementHandler, parser.EndElementHandler = opened, lambda _: inside.pop()
    with archive.open(_members(archive)[part]) as stream:
        while block := stream.read(1 << 16):
            parser.Parse(block)
    parser.Parse(b"", True)
