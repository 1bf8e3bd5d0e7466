"""Spreadsheets of users: no row is hidden or misread, and a small file cannot fill the memory."""

import math
import re
import zipfile
from pathlib import Path
from typing import Any

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


def sheet(path: Path, rows: str, *, shared: str = "", name: str = "xl/sharedStrings.xml") -> Path:
    """Writes a spreadsheet whose only sheet has these rows, in XML."""
    xlsx(path, "A1")
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = f"<worksheet><sheetData>{rows}</sheetData></worksheet>".encode()
    if shared:
        members[name] = f"<sst>{shared}</sst>".encode()
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
