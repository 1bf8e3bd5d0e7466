"""Checks before a DICOM file is read: its format, the size of its pixels, and whether a decoder is installed."""

import struct
import types
import zlib
from typing import Any

from tfds_builders.images import MAX_PIXELS

MAX_BYTES = 512 << 20  # of a file, as it is and inflated: a thousand frames of 512 x 512 in 16 bits
DEFLATED = b"1.2.840.10008.1.2.1.99"
VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
FIRST_GROUPS = (0x0002, 0x0008)  # file meta information, and the beginning of a data set without it
# Transfer syntax -> the packages that decode it, unless pydicom does so alone. All are in the extra `dicom`.
PACKAGES = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"), "pillow or python-gdcm"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), "python-gdcm"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls or python-gdcm"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "pylibjpeg-openjpeg, python-gdcm or pillow"),
    **{f"1.2.840.10008.1.2.4.{number}": "pylibjpeg and pylibjpeg-openjpeg" for number in (201, 202, 203)},
}
MAX_SAMPLES = 4  # of a pixel
EXTENDED = "1.2.840.10008.1.2.4.51"


class Refused(ValueError):
    """An error of ours, whose message contains no value of the file except allowed ones."""


def load_pydicom() -> types.ModuleType:
    """Pydicom; ValueError with the way out if it is not installed."""
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.pixels
    except ImportError as error:
        raise ValueError("Reading DICOM needs pydicom: pip install -e '.[dicom]'.") from error
    return pydicom


def is_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file (PS3.10: 128 bytes, then DICM), or begin with tags as one without them."""
    return data[128:132] == b"DICM" or _starts_with_tags(data)


def _starts_with_tags(data: bytes) -> bool:
    """Whether the first two tags are those of a data set that has neither preamble nor, perhaps, meta."""
    for order in "<>":
        end = 0
        last = (0, 0)
        for _ in range(2):
            if len(data) < end + 12:
                return False
            tag = struct.unpack_from(f"{order}HH", data, end)
            vr = data[end + 4 : end + 6]
            if vr not in VRS:
                start, length = 8, struct.unpack_from(f"{order}I", data, end + 4)[0]
            elif vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
                start, length = 12, struct.unpack_from(f"{order}I", data, end + 8)[0]
            else:
                start, length = 8, struct.unpack_from(f"{order}H", data, end + 6)[0]
            first = tag[0] in FIRST_GROUPS if last == (0, 0) else tag[0] <= 0x0020
            if not first or tag <= last or length % 2 or length > 1024:
                break
            end, last = end + start + length, tag
        else:
            return True
    return False


def size_fault(data: bytes) -> str:
    """The reason why a file is too large to be read, as it is or inflated, or an empty string."""
    if len(data) > MAX_BYTES:
        return f"has {len(data)} bytes, more than {MAX_BYTES}; write the frame that you want to a file of its own"
    if DEFLATED not in data[: 1 << 12]:
        return ""
    # PS3.10: the meta group, which is not deflated, gives its length in its first element.
    if data[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return "is deflated and does not say where its data begin"
    begin = 144 + int.from_bytes(data[140:144], "little")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, data[begin:]
    try:
        while rest and not inflate.eof:
            total += len(inflate.decompress(rest, 1 << 20))
            if total > MAX_BYTES // 2:  # both the deflated and the inflated data are held
                return f"would inflate from {len(data)} to more than {MAX_BYTES // 2} bytes; write it without deflating"
            rest = inflate.unconsumed_tail
    except zlib.error:
        return "is deflated, and damaged"
    return ""


def frame_fault(ds: Any) -> str:
    """The reason why the pixels of a file cannot match its header, or an empty string."""
    rows, columns = int(ds.get("Rows", 0) or 0), int(ds.get("Columns", 0) or 0)
    if rows < 1 or columns < 1:
        return f"has frames of {columns} x {rows} pixels"
    if rows * columns > MAX_PIXELS:
        return f"has frames of {columns} x {rows} pixels, more than {MAX_PIXELS}, the limit for one image"
    frames = ds.get("NumberOfFrames")
    if frames is not None and frames != "" and int(frames) < 1:
        return f"says that it has {int(frames)} frames"
    grey = str(ds.PhotometricInterpretation).startswith(("MONOCHROME", "PALETTE"))
    samples = int(ds.get("SamplesPerPixel", 1) or 1)
    if samples != (1 if grey else 3):
        kind = "grey levels or a palette" if grey else "colour"
        return f"says that its pixels are {kind} and have {samples} sample{'s' * (samples != 1)} each"
    high, stored = ds.get("HighBit"), ds.get("BitsStored")
    if high is not None and stored is not None and int(high) != int(stored) - 1:
        return f"has HighBit={int(high)} with BitsStored={int(stored)}: its values are not in the bits that are read"
    return ""


def decoder_fault(pixels: Any, syntax: Any, bits: int) -> str:
    """The missing packages for decoding a transfer syntax, in words, or an empty string.

    Args:
        pixels: the module pydicom.pixels.
        syntax: the file's transfer syntax, a pydicom UID.
        bits: bits stored of a sample.
    """
    if not syntax.is_compressed:
        return ""
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        return f"no package decodes {syntax.name}; write the file uncompressed"
    if str(syntax) == EXTENDED and bits > 8 and "pylibjpeg" not in decoder.available_plugins:
        return (
            f"{syntax.name} with {bits} bits needs pylibjpeg-libjpeg, which is under the GPL and so no part of the "
            "extra: pip install pylibjpeg pylibjpeg-libjpeg, or write the file uncompressed"
        )
    if not decoder.is_available:
        return f"{syntax.name} needs {PACKAGES.get(syntax, 'another decoder')}: pip install -e '.[dicom]'"
    return ""


def codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """(width, height, samples) from the header of a JPEG, JPEG-LS or JPEG 2000 frame; None if it has none.

    >>> codestream_size(bytes.fromhex("ffd8 ffc3 000b 0c 0010 0020 01"))
    (32, 16, 1)
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 42:
        x1, y1, x0, y0 = struct.unpack_from(">4I", frame, 8)
        return x1 - x0, y1 - y0, int.from_bytes(frame[40:42], "big")
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 10 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        # Every start of frame: C0 to CF except the tables C4 and CC and the reserved C8; and F7 of JPEG-LS.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width, samples = struct.unpack_from(">HHB", frame, at + 5)
            return width, height, samples
        at += 1 if marker == 0xFF else 2 + length
    return None


def codestream_fault(frame: bytes) -> str:
    """The reason why a compressed frame is too large to be decoded, whatever its file's header says; or empty."""
    size = codestream_size(frame)
    if size is None or (0 < size[0] * size[1] <= MAX_PIXELS and size[2] <= MAX_SAMPLES):
        return ""
    return (
        f"holds a compressed frame of {size[0]} x {size[1]} pixels with {size[2]} samples each; the limits are "
        f"{MAX_PIXELS} and {MAX_SAMPLES}"
    )
