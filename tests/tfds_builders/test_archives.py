"""Archives from outside: hostile members are refused by name, and files are found at any depth."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from tfds_builders import archive_rules
from tfds_builders.archives import SafeZip
from tfds_builders.dummy import zip_bytes
from tfds_builders.official_files import OfficialFiles


def save(tmp_path: Path, data: bytes, name: str = "a.zip") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def one(name: str, *, mode: int = 0, data: bytes = b"x") -> bytes:
    """An archive with one member of that name and Unix mode."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.filename = name
        info.external_attr = mode << 16
        archive.writestr(info, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../escape.jpg", "leaves its folder"),
        ("imgs/../../escape.jpg", "leaves its folder"),
        ("/etc/passwd", "absolute path"),
        ("C:/windows/x.jpg", "absolute path"),
        ("imgs\\..\\escape.jpg", "leaves its folder"),
        ("imgs\\x.jpg", "backslash"),
        ("..", "no proper name"),
    ],
)
def test_a_member_cannot_leave_its_folder(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"a\.zip: member .* {why}.*The archive is refused"):
        SafeZip(save(tmp_path, one(name)))


@pytest.mark.parametrize(
    ("kind", "why"),
    [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "neither a file"), (stat.S_IFCHR, "neither a file")],
)
def test_links_and_devices_are_refused(kind: int, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        SafeZip(save(tmp_path, one("x.jpg", mode=kind | 0o777, data=b"/etc/passwd")))


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.jpg", b"1")
        archive.writestr("x.jpg", b"2")
    with pytest.raises(ValueError, match=r"'x.jpg' occurs twice"):
        SafeZip(save(tmp_path, file.getvalue()))


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zip_bytes({"x.jpg": bytes(200_000)})
    SafeZip(save(tmp_path, bomb)).close()  # small in total: a blank mask also packs well
    monkeypatch.setattr(archive_rules, "FREE_TOTAL", 100_000)
    with pytest.raises(ValueError, match=r"would unpack from \d+ to 200000 bytes"):
        SafeZip(save(tmp_path, bomb))
    monkeypatch.setattr(archive_rules, "MAX_RATIO", 1e6)
    monkeypatch.setattr(archive_rules, "MAX_TOTAL", 150_000)
    with pytest.raises(ValueError, match=r"than 150000 bytes"):
        SafeZip(save(tmp_path, bomb))
    monkeypatch.setattr(archive_rules, "MAX_MEMBER", 150_000)
    with pytest.raises(ValueError, match=r"would have 200000 bytes, more than 150000"):
        SafeZip(save(tmp_path, bomb))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Two entries of the directory share one member's data, as in archives that unpack without end."""
    data = bytearray(zip_bytes({"a.jpg": b"1" * 50, "b.jpg": b"2" * 50}))
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # the offset of b.jpg becomes that of a.jpg
    with pytest.raises(ValueError, match=r"overlaps member|not a zip archive|cannot be read"):
        SafeZip(save(tmp_path, bytes(data)))


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(one("x.jpg"))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match="is encrypted"):
        SafeZip(save(tmp_path, bytes(data)))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    data = zip_bytes({"x.jpg": bytes(range(256)) * 8})
    middle = data.find(b"x.jpg") + 40
    archive = SafeZip(save(tmp_path, data[:middle] + b"\xff\xff\xff" + data[middle + 3 :]))
    with pytest.raises(ValueError, match=r"member 'x.jpg' (is damaged|cannot be read)"):
        archive.read(archive.members[0])


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"<html>", zip_bytes({"x": b"1"})[:-8]])
def test_a_file_that_is_not_an_archive_is_named(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.zip is not a zip archive"):
        SafeZip(save(tmp_path, data))


def test_files_that_a_mac_adds_are_skipped(tmp_path: Path) -> None:
    names = ["imgs/x.jpg", "__MACOSX/imgs/._x.jpg", "imgs/._x.jpg", "imgs/.DS_Store"]
    archive = SafeZip(save(tmp_path, zip_bytes(dict.fromkeys(names, b"1"))))
    assert [member.parts for member in archive.members] == [("imgs", "x.jpg")]


def test_files_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    save(tmp_path, zip_bytes({"imgs/imgs/xmlab0/source.jpg": b"0", "imgs/imgs/xmlab1/source.jpg": b"1"}))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "train.json").write_text("[]")
    files = OfficialFiles.below(tmp_path)
    assert files.read("xmlab1/source.jpg") == b"1"
    assert files.read("train.json") == files.read("er/train.json") == b"[]"
    assert files.first("validate.json", "train.json") == "train.json" and not files.first("test.json")
    for name in ("../train.json", "/etc/passwd", "source.jp", "", "mlab1/source.jpg", str(tmp_path / "a.zip")):
        assert name not in files
    with pytest.raises(ValueError, match=r"has no file test\.json"):
        files.read("test.json")


def test_the_same_file_twice_is_one_and_different_files_are_refused(tmp_path: Path) -> None:
    save(tmp_path, zip_bytes({"imgs/x.jpg": b"same", "imgs/y.jpg": b"one"}))
    for name, data in (("x.jpg", b"same"), ("y.jpg", b"two")):
        (tmp_path / name).write_bytes(data)
    files = OfficialFiles.below(tmp_path)
    assert files.read("x.jpg") == b"same"
    assert files.names().count("x.jpg") == 1
    with pytest.raises(ValueError, match=r"has y.jpg more than once, and the files differ.*Keep one"):
        files.read("y.jpg")


def test_cycles_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"1")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert OfficialFiles.below(tmp_path).names() == ["x.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[{", "a.json is not JSON"),
        ("a.json", "{}", "must hold a list of objects"),
        ("a.json", "[1]", "must hold a list of objects"),
        ("a.json", '[{"qid": 1}, {}]', "object 1: lacks qid"),
        ("a.jsonl", '{"qid": 1}\n{"qi', "line 2, is not JSON"),
        ("a.json", '[{"qid": 1, "answer": "no", "answer": "yes"}]', "a.json .*the field 'answer' occurs twice"),
        ("a.jsonl", '{"qid": 1}\n{"qid": 2, "qid": 3}', "a.jsonl, line 2, .*the field 'qid' occurs twice"),
    ],
)
def test_broken_json_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        OfficialFiles.below(tmp_path).read_objects(name, required=("qid",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks the columns \['a', 'b'\]"),
        ("a,c\n1,2\n", r"lacks the columns \['b'\]; it has \['a', 'c'\]"),
        ("a,b\n1\n", "line 2: 1 cells instead of 2"),
        ('a,b\n1,"x\n', "unexpected end of data"),
    ],
)
def test_broken_tables_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        OfficialFiles.below(tmp_path).read_csv("t.csv", required=("a", "b"))


def test_tables_keep_empty_cells_and_the_word_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeffa , b\n,None\nNaN,"x\ny"\n\n'.encode())
    rows = OfficialFiles.below(tmp_path).read_csv("t.csv", required=("a", "b"))
    assert rows == [{"a": "", "b": "None"}, {"a": "NaN", "b": "x\ny"}]
