"""Hostile tables, DICOM headers and archives, made by code: an error of ours, no traceback, no hang, no gigabyte.

Each reader gets bytes that hypothesis makes and good files that it damages. RLIMIT_AS would be too coarse with jax;
memory is measured where a small file once took too much (tests/data/test_dicom_damaged.py).
"""

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radvqa_jax.data.dicom import read_dicom
from radvqa_jax.data.image import decode_image
from tfds_builders.archives import open_archive
from tfds_builders.dummy import encode, noise, zip_bytes
from tfds_builders.json_text import load_json
from tfds_builders.official_files import OfficialFiles

from .limits import survives

FEW = settings(max_examples=60, deadline=5000, suppress_health_check=list(HealthCheck))
TAGS = struct.pack("<HH2sH", 8, 5, b"CS", 10) + b"ISO_IR 100" + struct.pack("<HH2sH", 8, 0x16, b"UI", 2) + b"1\0"


def breaks(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with some of its bytes replaced and its end cut."""
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)

    def broken(parts: tuple[list[tuple[int, int]], int]) -> bytes:
        data = bytearray(whole)
        for place, value in parts[0]:
            data[place] = value
        return bytes(data[: len(data) - parts[1]])

    return st.tuples(changes, st.integers(0, len(whole) // 2)).map(broken)


@FEW
@given(st.binary(max_size=400))
def test_any_bytes_as_a_table(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("tables")
    for name in ("t.csv", "t.json", "t.jsonl"):
        (folder / name).write_bytes(data)
    files = OfficialFiles.below(folder)
    survives(lambda: files.read_csv("t.csv", required=("a",)))
    survives(lambda: files.read_objects("t.json", required=("a",)))
    survives(lambda: files.read_objects("t.jsonl", required=("a",)))


@FEW
@given(breaks(b'a,b,"c ""d"""\r\n1,"two\nlines",3\n' * 3))
def test_a_broken_table(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "t.csv").write_bytes(data)
    survives(lambda: OfficialFiles.below(folder).read_csv("t.csv", required=("a", "b")))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 50_000, "9" * 10_000, "[1e999]", '["\\ud800"]', '{"a": NaN}', "[1,]", "", "\x00"],
)
def test_json_that_breaks_parsers(text: str) -> None:
    survives(lambda: load_json(text))


def test_nan_is_a_missing_value_and_not_a_number() -> None:
    assert load_json('[{"answer": NaN, "other": Infinity}]') == [{"answer": None, "other": None}]


@FEW
@given(st.binary(max_size=600))
def test_any_bytes_as_dicom(data: bytes) -> None:
    pytest.importorskip("pydicom")
    survives(lambda: read_dicom(data))
    survives(lambda: read_dicom(TAGS + data))
    survives(lambda: read_dicom(bytes(128) + b"DICM" + data))


def small_dicom() -> bytes:
    """A whole file of 4 x 4 pixels, without preamble, in the shortest form."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        if vr == b"OW":
            return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    numbers = [(2, 1), (0x10, 4), (0x11, 4), (0x100, 16), (0x101, 16), (0x102, 15), (0x103, 0)]
    parts = [element(0x28, number, b"US", struct.pack("<H", value)) for number, value in numbers]
    parts.insert(1, element(0x28, 4, b"CS", b"MONOCHROME2"))
    windows = element(0x28, 0x1050, b"DS", b"40") + element(0x28, 0x1051, b"DS", b"400")
    return TAGS + b"".join(parts) + windows + element(0x7FE0, 0x10, b"OW", bytes(range(32)))


@FEW
@given(breaks(small_dicom()))
def test_a_broken_dicom_header(data: bytes) -> None:
    pytest.importorskip("pydicom")
    survives(lambda: read_dicom(data))


@FEW
@given(breaks(encode(noise(1), "PNG")) | breaks(encode(noise(1), "TIFF")) | breaks(encode(noise(1), "WEBP")))
@pytest.mark.filterwarnings("ignore")
def test_a_broken_image(data: bytes) -> None:
    survives(lambda: decode_image(data))


def tar_bytes(kind: str) -> bytes:
    """A tar archive with two files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=kind) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType] one of its modes
        for name in ("imgs/a.jpg", "train.json"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"[1]"))
    return file.getvalue()


ZIP = zip_bytes({"imgs/a.jpg": b"1", "b.json": b"[]" * 40})


@FEW
@given(st.one_of(*(st.tuples(st.just(name), breaks(data)) for name, data in [("a.zip", ZIP)])))
def test_a_broken_archive_index(tmp_path_factory: pytest.TempPathFactory, named: tuple[str, bytes]) -> None:
    _read_all(tmp_path_factory.mktemp("archives") / named[0], named[1])


@FEW
@given(st.sampled_from(["w", "w:gz", "w:bz2"]).flatmap(lambda kind: breaks(tar_bytes(kind))))
def test_a_broken_tar(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    _read_all(tmp_path_factory.mktemp("archives") / "a.tar.gz", data)


def _read_all(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    survives(lambda: [member.read() for archive in open_archive(path) for member in archive.members])


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2"])
def test_tar_archives_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "release.tar.gz").write_bytes(tar_bytes(kind))
    files = OfficialFiles.below(tmp_path)
    assert files.read("a.jpg") == b"[1]" and files.read_json("train.json") == [1]


def test_archives_in_archives_are_read_up_to_a_depth(tmp_path: Path) -> None:
    data = zip_bytes({"imgs/x.jpg": b"1"})
    for depth in range(3):
        data = zip_bytes({f"inner{depth}.zip": data})
    (tmp_path / "release.zip").write_bytes(data)
    assert OfficialFiles.below(tmp_path).read("x.jpg") == b"1"
    (tmp_path / "release.zip").write_bytes(zip_bytes({"one.zip": data}))
    with pytest.raises(ValueError, match="is an archive 5 deep, more than 4"):
        OfficialFiles.below(tmp_path)


def test_a_bomb_of_archives_counts_by_the_outermost(tmp_path: Path) -> None:
    """Each of two layers packs a hundredfold, which is allowed; both together are too much."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}.bin", bytes(4 << 20))
    (tmp_path / "a.zip").write_bytes(zip_bytes({"inner.zip": file.getvalue()}))
    with pytest.raises(ValueError, match=r"a\.zip would unpack from \d+ to \d+ bytes"):
        OfficialFiles.below(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match=r"is a link|is neither a plain file nor a folder"):
        OfficialFiles.below(tmp_path)


def test_archives_that_are_not_opened_are_named(tmp_path: Path) -> None:
    (tmp_path / "imgs.7z").write_bytes(b"7z")
    files = OfficialFiles.below(tmp_path)
    assert files.lack(["imgs/a.jpg"]) == "lacks imgs/a.jpg; not opened, unpack it: imgs.7z"


def test_objects_of_another_form_are_reported(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"a": 1}, [2]]))
    with pytest.raises(ValueError, match="must hold a list of objects"):
        OfficialFiles.below(tmp_path).read_objects("t.json")
