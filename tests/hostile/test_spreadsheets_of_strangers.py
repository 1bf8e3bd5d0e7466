"""Spreadsheets of users: no row is hidden or misread, and a small file cannot fill the memory."""

import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest

from radvqa_jax.evaluation.convert import read_rows
from radvqa_jax.evaluation.readers import vlmevalkit, xlsx_cells
from radvqa_jax.evaluation.readers.foreign_rows import optional


def xlsx(path: Path, *cells: str) -> Path:
    """Writes a minimal spreadsheet: one sheet with text in these cells."""
    office = "http://schemas.openxmlformats.org"
    kinds = f"{office}/officeDocument/2006/relationships"
    rows = "".join(
        f'<row r="{c.lstrip("ABCDEFX")}"><c r="{c}" t="inlineStr"><is><t>x</t></is></c></row>' for c in cells
    )
    members = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{kinds}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{office}/spreadsheetml/2006/main" xmlns:r="{kinds}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{kinds}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{office}/spreadsheetml/2006/main"><sheetData>{rows}'
        "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_spreadsheet_of_two_distant_cells_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    header, _ = vlmevalkit.read_table(xlsx(tmp_path / "m_small.xlsx", "A1"))
    assert header == ["x"]
    with pytest.raises(ValueError, match="reach to row 1,048,576 and column 16,384, and 10,000,000 cells are read"):
        vlmevalkit.read_table(xlsx(tmp_path / "m_far.xlsx", "A1", "XFD1048576"))
    (tmp_path / "m_cut.xlsx").write_bytes(xlsx(tmp_path / "m_a.xlsx", "A1").read_bytes()[:-30])
    with pytest.raises(ValueError, match="is not a readable xlsx file"):
        vlmevalkit.read_table(tmp_path / "m_cut.xlsx")


@pytest.mark.parametrize("filled", [False, True])
def test_a_second_sheet_may_be_there_but_not_be_filled(filled: bool, tmp_path: Path) -> None:
    path = xlsx(tmp_path / "m_two.xlsx", "A1")
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry).decode() for entry in archive.namelist()}
    second = members["xl/worksheets/sheet1.xml"] if filled else "<worksheet><sheetData/></worksheet>"
    edits = {
        "xl/workbook.xml": ("</sheets>", '<sheet name="b" sheetId="2" r:id="r2"/></sheets>'),
        "xl/_rels/workbook.xml.rels": (
            "</Relationships>",
            '<Relationship Id="r2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
            'worksheet" Target="worksheets/sheet2.xml"/></Relationships>',
        ),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (members | {"xl/worksheets/sheet2.xml": second}).items():
            archive.writestr(name, text.replace(*edits.get(name, ("", ""))) if name in edits else text)
    if not filled:
        assert vlmevalkit.read_table(path)[0] == ["x"]
        return
    with pytest.raises(ValueError, match=r"m_two.xlsx has cells in its sheet 'b', too, and only the first"):
        vlmevalkit.read_table(path)


def sheet(
    path: Path,
    rows: str,
    *,
    shared: str = "",
    name: str = "xl/sharedStrings.xml",
    codes: Sequence[tuple[int, str]] = (),
) -> Path:
    """Writes a spreadsheet whose only sheet has these rows, in XML.

    Args:
        path: of the file.
        rows: the elements of the sheet.
        shared: the texts that cells share.
        name: of the part with these texts.
        codes: number formats of the styles 0, 1, 2, …: their numbers, and the codes of those that have one.
    """
    xlsx(path, "A1")
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = f"<worksheet><sheetData>{rows}</sheetData></worksheet>".encode()
    if shared:
        members[name] = f"<sst>{shared}</sst>".encode()
    if codes:
        formats = "".join(f"<numFmt numFmtId='{n}' formatCode={quoteattr(code)}/>" for n, code in codes if code)
        styles = "".join(f"<xf numFmtId='{number}'/>" for number, _ in codes)
        members["xl/styles.xml"] = (
            f"<styleSheet><numFmts>{formats}</numFmts><cellXfs>{styles}</cellXfs></styleSheet>".encode()
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in members.items():
            archive.writestr(entry, data)
    return path


@pytest.mark.parametrize(
    ("rows", "shared", "message"),
    [
        ('<row><c t="s"><v>0</v></c></row>' * 500, f"<si><t>{'x' * 200_000}</t></si>", "67,108,864 characters of text"),
        ("<row/>" * 20_001, "", "more than 20,000 cells, rows and other elements"),
        ('<row r="2"/><row r="2"/>', "", "row 2 comes after row 2"),
        (f'<row r="{"9" * 5000}"/>', "", "reach to row 999,999,999,999"),
        ('</sheetData></worksheet><!DOCTYPE x [<!ENTITY a "b">]>', "", "is not a readable xlsx file"),
    ],
)
def test_a_small_spreadsheet_cannot_fill_the_memory_or_hide_a_row(
    rows: str, shared: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts that cells share may have any name in the archive, and come after the sheet."""
    monkeypatch.setattr(xlsx_cells, "LEAST_ELEMENTS", 20_000)
    path = sheet(tmp_path / "m_d.xlsx", rows, shared=shared, name="zz.xml")
    assert path.stat().st_size < 5_000
    with pytest.raises(ValueError, match=message):
        vlmevalkit.read_table(path)


@pytest.mark.parametrize("name", ["sheet1.xml", "sheet1.bin"])
@pytest.mark.parametrize("before", [" ", "\n\n\n\n\n", "x"])
def test_a_part_is_checked_whatever_its_name_and_its_first_character(before: str, name: str, tmp_path: Path) -> None:
    """The library skips what is before the first element."""
    path = sheet(tmp_path / "m_d.xlsx", '<row r="2"/><row r="2"/>')
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry).decode().replace("sheet1.xml", name) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in members.items():
            archive.writestr(entry.replace("sheet1.xml", name), (before if "sheet1" in entry else "") + text)
    with pytest.raises(ValueError, match=r"row 2 comes after row 2|is not a readable xlsx file|sheet1.bin, is not XML"):
        vlmevalkit.read_table(path)


def rewritten(path: Path, changes: dict[str, tuple[str, str]], more: dict[str, str]) -> Path:
    """Writes a spreadsheet whose parts have other text, and which has more parts."""
    with zipfile.ZipFile(sheet(path, '<row r="1"/>')) as archive:
        members = {entry: archive.read(entry).decode() for entry in archive.namelist()}
    for name, (old, new) in changes.items():
        assert old in members[name]
        members[name] = members[name].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in [*members.items(), *more.items()]:
            archive.writestr(name, text)
    return path


WORKBOOK, TARGETS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
HIDDEN = 'x    <worksheet><sheetData><row r="2"/><row r="2"/></sheetData></worksheet>'  # the library reads it
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
R1, FIRST, END = 'r:id="r1"', "worksheets/sheet1.xml", "</Relationships>"
OTHER = END, f'<Relationship Id="r2" Type="{KIND}/worksheet" Target="o/s.bin"/>{END}'


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({WORKBOOK: (R1, 'xmlns:x="urn:x" x:id="r1" r:id="r2"'), TARGETS: OTHER}, "xl/o/s.bin", "one id"),
        ({WORKBOOK: (R1, 'xmlns:x="urn:x" r:id="r1" x:id="r2"'), TARGETS: OTHER}, "xl/o/s.bin", "one id"),
        ({WORKBOOK: (R1, 'id="r1"')}, "", "sheet 'a' must have one id, that of a relationship (r:id), and has: id"),
        ({WORKBOOK: (R1, "")}, "", "sheet 'a' must have one id, that of a relationship (r:id), and has: none"),
        ({WORKBOOK: ("r1", "r9")}, "", "its sheet 'a' has the id 'r9', and no relationship has it"),
        ({TARGETS: (FIRST, "/o/s")}, "o/s", "the part of its first sheet, o/s, is not XML"),
        ({TARGETS: (FIRST, "o/&#115;")}, "xl/o/&#115;", "has a reference or a control character"),
        ({TARGETS: (END, OTHER[1].replace("r2", "r1"))}, "xl/o/s.bin", "has two relationships 'r1'"),
        ({}, "xl/worksheets/s.bin", "syntax error"),
        ({}, "xl/a/Chartsheets/s", "syntax error"),
        ({}, "xl/dialogsheets/s.png", "syntax error"),
    ],
)
def test_the_part_that_the_library_reads_is_the_one_that_is_checked(
    changes: dict[str, tuple[str, str]], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        vlmevalkit.read_table(rewritten(tmp_path / "m_d.xlsx", changes, {name: HIDDEN} if name else {}))


@pytest.mark.parametrize("name", ["xl/worksheets/Sheet1.xml", "xl\\worksheets\\sheet1.xml", "XL/WORKBOOK.XML"])
def test_two_parts_whose_names_differ_in_case_are_refused(name: str, tmp_path: Path) -> None:
    """The library reads the last of them."""
    with pytest.raises(ValueError, match=re.escape(f"and {name!r} must differ in more than case and slashes")):
        vlmevalkit.read_table(rewritten(tmp_path / "m_d.xlsx", {}, {name: "<worksheet/>"}))


@pytest.mark.parametrize(
    "attribute",
    [f'xmlns:q="{KIND}" q:id="r1"', 'xmlns:r="http://purl.oclc.org/ooxml/officeDocument/relationships" r:id="r1"'],
)
def test_a_relationship_may_have_any_prefix_and_the_strict_namespace(attribute: str, tmp_path: Path) -> None:
    more = {"xl/worksheets/": "", "xl/media/a.png": "\x89PNG"}
    path = rewritten(tmp_path / "m_d.xlsx", {WORKBOOK: (R1, attribute)}, more)
    assert vlmevalkit.read_table(path)[0] == []


def test_entities_of_xml_are_refused(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "m_d.xlsx", "A1")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.xml", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>')
    with pytest.raises(ValueError, match="defines entities of XML"):
        vlmevalkit.read_table(path)


CELLS = "".join(
    f'<c t="inlineStr"><is><t>{name}</t></is></c>' for name in ("index", "question", "answer", "prediction")
)
ROW = '<c><v>7</v></c><c t="inlineStr"><is><t>q</t></is></c><c t="inlineStr"><is><t>yes</t></is></c>'


def test_an_answer_that_is_not_text_is_a_bad_row_and_not_an_empty_answer(tmp_path: Path) -> None:
    """Excel reads TRUE as a boolean."""

    def read(cell: str) -> Any:
        return read_rows(sheet(tmp_path / "m_d.xlsx", f"<row>{CELLS}</row><row>{ROW}{cell}</row>"), kind="vlmevalkit")

    assert [read(cell).records[0].predictions for cell in ("<c/>", "<c><v>2</v></c>")] == [[""], ["2"]]
    assert [bad.reason for bad in read('<c t="b"><v>1</v></c>').bad] == ["prediction must be text; got 'True' (bool)"]
    assert optional({"a": None, "b": math.nan}, "a", "b") == "" and optional({"a": 2.0}, "a") == "2"
    for value in (True, ["yes"], {"text": "yes"}):
        with pytest.raises(ValueError, match=r"^b must be text; got"):
            optional({"a": None, "b": value}, "a", "b")


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ('<c r="D2" t="e"><v>#NAME?</v></c>', "cell D2 holds an error, such as #NAME?, and would be read as empty"),
        ('<c r="D2"><f>B2</f></c>', "cell D2 holds a formula without a result"),
        ('<c r="D2" t="str"><f>B2</f></c>', "cell D2 holds a formula without a result"),
    ],
)
def test_a_cell_that_is_read_as_empty_and_is_not_is_refused(cell: str, what: str, tmp_path: Path) -> None:
    path = sheet(tmp_path / "m_d.xlsx", f"<row>{CELLS}</row><row>{ROW}{cell}</row>")
    with pytest.raises(ValueError, match=re.escape(what)):
        read_rows(path, kind="vlmevalkit")
    whole = '<c r="D2" t="str"><f>B2</f><v>yes</v></c>'
    path = sheet(tmp_path / "m_d.xlsx", f"<row>{CELLS}</row><row>{ROW}{whole}</row>")
    assert read_rows(path, kind="vlmevalkit").records[0].predictions == ["yes"]


@pytest.mark.parametrize(
    ("number", "code", "value", "read"),
    [
        (0, "", "0.5", "0.5"),
        (49, "", "0.5", "0.5"),
        (164, "General", "3", "3"),  # as LibreOffice writes it
        (1, "", "3", "3"),
        (165, "0.00_ ", "0.25", "0.25"),
        (2, "", "0.5", None),  # 0.50
        (1, "", "0.5", None),  # 1, or 0
        (9, "", "0.5", None),  # 50%
        (10, "", "0.5", None),
        (166, '0.0" %"', "0.5", None),
        (12, "", "0.5", None),  # 1/2
        (11, "", "1000", None),  # 1.00E+03
        (3, "", "1000", None),  # 1,000
        (44, "", "5", None),  # $ 5.00
        (167, "[$€-407]0", "5", None),
        (168, "000", "7", None),  # 007
        (169, '"Q"0', "7", None),  # Q7
        (170, ";;;", "7", None),  # nothing
        (0, "", "1234567890123456789", None),  # a spreadsheet keeps 15 digits
        (0, "", "0.3333333333333333", None),  # 0.333333333
        (164, "General", "0.30000000000000004", None),  # 0.3
        (49, "", "0.30000000000000004", None),
        (0, "", "1E-5", None),  # read as 1e-05
        (0, "", "123456789012", None),  # 1.23457E+11
        (0, "", "12345678901", "12345678901"),
        (0, "", "-12.25", "-12.25"),
        (0, "", "0.001", "0.001"),
        (0, "", "0.123456789", "0.123456789"),
        (0, "", "0.1234567891", None),
        (0, "", "nan", None),  # it was read as empty
        (0, "", "1e999", None),
    ],
)
def test_a_number_that_is_shown_differently_from_what_it_is_makes_a_bad_row(
    number: int, code: str, value: str, read: str | None, tmp_path: Path
) -> None:
    """Nobody who sees 50% expects an answer of 0.5."""
    other = '<c r="E1" t="inlineStr"><is><t>share</t></is></c>', '<c r="E2" s="2"><v>0.5</v></c><c r="F9" s="2"/>'
    rows = f'<row r="1">{CELLS}{other[0]}</row><row r="2">{ROW}<c r="D2" s="1"><v>{value}</v></c>{other[1]}</row>'
    found = read_rows(sheet(tmp_path / "m_d.xlsx", rows, codes=[(0, ""), (number, code), (9, "")]), kind="vlmevalkit")
    if read is not None:
        assert [record.predictions for record in found.records] == [[read]] and not found.bad
    else:
        (bad,) = found.bad
        assert bad.reason.startswith("prediction must be text; ") and bad.line == 2


def test_a_bad_number_names_its_cell_and_the_way_out_and_only_the_first_sheet_counts(tmp_path: Path) -> None:
    rows = f"<row>{CELLS}</row><row>{ROW}<c s='1'><v>0.5</v></c></row>"
    path = sheet(tmp_path / "m_d.xlsx", rows, codes=[(0, ""), (9, "")])
    assert [bad.reason for bad in read_rows(path, kind="vlmevalkit").bad] == [
        "prediction must be text; cell R2C4 holds '0.5' and shows it with the format '0%'. Format the column as text "
        "and write there what is meant"
    ]
    sheet(path, rows.replace("s='1'", ""), codes=[(0, ""), (9, "")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/worksheets/sheet0.xml", f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
    assert read_rows(path, kind="vlmevalkit").records[0].predictions == ["0.5"]


def test_a_text_that_a_format_adds_to_is_a_bad_row(tmp_path: Path) -> None:
    cell = "<c r='D2' s='1' t='inlineStr'><is><t>3</t></is></c>"
    rows = f"<row r='1'>{CELLS}</row><row r='2'>{ROW}{cell}</row>"
    for code, good in (('"no "@', False), ("0%", True), ('_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)', True)):
        found = read_rows(sheet(tmp_path / "m_d.xlsx", rows, codes=[(0, ""), (164, code)]), kind="vlmevalkit")
        assert (len(found.records), len(found.bad)) == ((1, 0) if good else (0, 1)), code
