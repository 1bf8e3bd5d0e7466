"""Damaged, compressed and hostile DICOM files: the error names the reason, and nothing about the patient is shown."""

import io
import logging
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.data import dicom_guard
from radvqa_jax.data.dicom import is_dicom, read_dicom

from .dicom_case import broken, ct

try:
    import pydicom
    import pydicom.config
    import pydicom.encaps
    import pydicom.pixels
    from pydicom.pixels.decoders.base import Decoder, get_decoder
    from pydicom.uid import UID
except ImportError:
    pytest.skip("pydicom is not installed: pip install -e '.[dicom]'", allow_module_level=True)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleSlope": 0}, "RescaleSlope is 0"),
        ({"RescaleSlope": 1e-300, "RescaleIntercept": 1e300}, "RescaleSlope is 1e-300 with an intercept of 1e.300"),
        ({"BitsStored": 12, "HighBit": 15}, "HighBit=15 with BitsStored=12"),
        ({"RescaleSlope": 1e308, "RescaleIntercept": 1e308}, "not finite after rescaling"),
        ({"WindowCenter": 40, "WindowWidth": 0}, "window has the width 0 and the function LINEAR"),
        ({"WindowCenter": 40, "WindowWidth": -5}, "window has the width -5"),
        ({"WindowCenter": 4, "WindowWidth": 5, "VOILUTFunction": "DOE JANE"}, "a function that the standard does not"),
        ({"NumberOfFrames": -1}, "says that it has -1 frames"),
        ({"NumberOfFrames": 0}, "says that it has 0 frames"),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "RGB"}, "pixels are colour and have 1 sample each"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "MONOCHROME2"}, "grey levels .* have 3 samples each"),
        ({"Rows": 0}, "has frames of 3 x 0 pixels"),
        ({"Rows": 30000, "Columns": 30000}, "30000 x 30000 pixels, more than 50000000"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_headers_that_contradict_themselves_are_refused(tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_dicom(ct(**tags))
    assert "DOE" not in str(raised.value)


def as_syntax(uid: str, frame: bytes = b"", **tags: Any) -> bytes:
    """A file that names this transfer syntax, with one compressed frame if one is given."""
    ds = pydicom.dcmread(io.BytesIO(ct(**tags)))
    ds.file_meta.TransferSyntaxUID = UID(uid)
    if frame:
        ds.PixelData = pydicom.encaps.encapsulate([frame + b"\0" * (len(frame) % 2)])
        ds["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return file.getvalue()


JPEG = bytes.fromhex("ffd8ffc3000b0c0003000301")


@pytest.mark.parametrize(
    ("uid", "needs"),
    [
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless.*needs python-gdcm: pip install -e"),
        ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless.*needs pyjpegls or python-gdcm: pip install -e"),
        ("1.2.840.10008.1.2.4.91", "JPEG 2000.*needs pylibjpeg-openjpeg, python-gdcm or pillow: pip"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000.*needs pylibjpeg and pylibjpeg-openjpeg: pip"),
        ("1.2.840.10008.1.2.4.102", "no package decodes MPEG-4 AVC.*write the file uncompressed"),
    ],
)
def test_the_missing_decoder_is_named(uid: str, needs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(ValueError, match=needs):
        read_dicom(as_syntax(uid, JPEG))


def test_jpeg_of_twelve_bits_names_the_package_that_it_needs() -> None:
    if "pylibjpeg" in get_decoder(UID("1.2.840.10008.1.2.4.51")).available_plugins:
        pytest.skip("pylibjpeg-libjpeg is installed")
    with pytest.raises(
        ValueError, match=r"JPEG Extended .* with 12 bits needs pylibjpeg-libjpeg, which is under the GPL"
    ):
        read_dicom(as_syntax("1.2.840.10008.1.2.4.51", JPEG, BitsStored=12, HighBit=11))


def test_compression_is_not_blamed_where_there_is_none() -> None:
    with pytest.raises(ValueError) as raised:
        read_dicom(broken(ct()))
    assert str(raised.value) == "The DICOM file's pixels (Explicit VR Little Endian) cannot be read (ValueError)."


def test_logs_of_decoders_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A frame of another size than the header's: pydicom logs it with a traceback, under its decoder's own name."""
    frame = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(frame, "JPEG")
    data = as_syntax("1.2.840.10008.1.2.4.50", frame.getvalue(), BitsAllocated=8, BitsStored=8, HighBit=7)
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="cannot be read"):
        read_dicom(data)
    assert not caplog.records
    logging.getLogger("pydicom.pixels").error("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_a_private_transfer_syntax_is_not_shown() -> None:
    with pytest.raises(ValueError, match="not one of the standard's") as raised:
        read_dicom(as_syntax("1.2.826.0.1.19500101"))
    assert "1950" not in str(raised.value)


@pytest.mark.parametrize(
    "frame",
    [
        bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc3000b0cfffffffe01"),
        bytes.fromhex("ffd8fff7000b0c75307530 01"),
        bytes.fromhex("ff4fff51002f0000") + (30000).to_bytes(4, "big") * 2 + bytes(8) + bytes(16) + b"\0\1",
        bytes.fromhex("ff4fff51002f0000") + (30).to_bytes(4, "big") * 2 + bytes(8) + bytes(16) + b"\x40\0",
    ],
    ids=["JPEG lossless", "JPEG-LS", "JPEG 2000", "16384 samples"],
)
def test_a_compressed_frame_is_measured_before_it_is_decoded(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a frame is decoded")

    monkeypatch.setattr(pydicom.pixels, "pixel_array", refuse)
    with pytest.raises(ValueError, match=r"holds a compressed frame of \d+ x \d+ pixels with \d+ samples"):
        read_dicom(as_syntax("1.2.840.10008.1.2.4.70", frame))


def deflated(content: bytes, *, times: int = 1) -> bytes:
    """A deflated file with this content, repeated, after its meta information."""
    head = as_syntax("1.2.840.10008.1.2.1")
    meta = head[: 144 + int.from_bytes(head[140:144], "little")].replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.1.99"
    )
    length = int.from_bytes(meta[140:144], "little") + 2
    pack = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = b"".join(pack.compress(content) for _ in range(times)) + pack.flush()
    return meta[:140] + length.to_bytes(4, "little") + meta[144:] + packed


def test_a_deflated_file_is_measured_before_it_is_inflated(tmp_path: Path) -> None:
    """In a separate process, whose memory is measured: 400 kB once became 1.2 GB."""
    path = tmp_path / "bomb.dcm"
    path.write_bytes(deflated(bytes(1 << 20), times=400))
    assert path.stat().st_size < 1 << 20
    code = f"""
import pathlib, resource
from radvqa_jax.data.dicom import read_dicom
data = pathlib.Path({str(path)!r}).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_dicom(data)
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert "would inflate from" in message and "write it without deflating" in message
    assert int(grown) < 200
    plain = ct()
    assert read_dicom(deflated(plain[144 + int.from_bytes(plain[140:144], "little") :])).image.shape == (3, 3, 3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_a_file_without_preamble_is_read_where_its_first_tags_are_plausible(syntax: str) -> None:
    ds = pydicom.dcmread(io.BytesIO(ct(Modality="CT")))
    expected = read_dicom(ct()).image
    if syntax.endswith(".2.2"):
        ds.PixelData = ds.pixel_array.astype(">u2").tobytes()
    del ds.file_meta
    ds.preamble = None
    file = io.BytesIO()
    pydicom.dcmwrite(
        file, ds, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not syntax.endswith(".2.2"),
        enforce_file_format=False,
    )  # fmt: skip
    data = file.getvalue()
    assert data[128:132] != b"DICM" and is_dicom(data)
    assert np.array_equal(read_dicom(data).image, expected)


@pytest.mark.parametrize(
    "data",
    [b"BM" + bytes(40), b"II*\0" + bytes(40), b"plain text, and more of it, and more", bytes(64), b"\x08\0" * 32],
)
def test_bytes_that_only_resemble_dicom_are_not_dicom(data: bytes) -> None:
    assert not is_dicom(data)
    with pytest.raises(ValueError, match="not a DICOM file"):
        read_dicom(data)


def test_a_large_file_is_refused_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_guard, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100; write the frame that you want to a file of its own"):
        read_dicom(ct())
