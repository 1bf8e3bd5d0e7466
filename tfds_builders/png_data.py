"""Whether the image data of a PNG file are whole: decoders fill up with black what a proper but short stream lacks."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
BLOCK = 1 << 20


def check_png(data: bytes) -> None:
    """Raises ValueError if a PNG file, not interlaced, has the data of fewer rows than its head says; others pass."""
    if not data.startswith(SIGNATURE) or len(data) < 33:
        return
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if interlaced or colour not in CHANNELS:
        return
    row = 1 + -(-width * depth * CHANNELS[colour] // 8)
    inflate, total = zlib.decompressobj(), 0
    for part in _image_data(data):
        while part and total < row * height:
            total += len(inflate.decompress(part, BLOCK))
            part = inflate.unconsumed_tail
    if total < row * height:
        raise ValueError(f"the image data end after {total // row} of {height} rows; get the file again")


def _image_data(data: bytes) -> Iterator[bytes]:
    """Yields the content of every IDAT chunk."""
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            yield data[place + 8 : place + 8 + size]
        place += 12 + size
