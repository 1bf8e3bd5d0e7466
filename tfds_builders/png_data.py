"""Checks that the image data of a PNG file are complete: decoders fill up a valid but short stream with black."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# The passes of an interlaced image: first column and row, steps between columns and between rows (PNG, section 8.2).
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
BLOCK = 1 << 20


def check_png(data: bytes) -> None:
    """Raises ValueError if a PNG file has fewer image data than its head says; other files pass."""
    if not data.startswith(SIGNATURE) or len(data) < 33:
        return
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in CHANNELS:
        return
    bits = depth * CHANNELS[colour]
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    needed = sum(_pass_bytes(width, height, bits, *one) for one in passes)
    inflate, total = zlib.decompressobj(), 0
    for part in _image_data(data):
        while part and total < needed:
            total += len(inflate.decompress(part, BLOCK))
            part = inflate.unconsumed_tail
    if total < needed:
        raise ValueError(f"the image data end after {total} of {needed} bytes; get the file again")


def _pass_bytes(width: int, height: int, bits: int, left: int, top: int, across: int, down: int) -> int:
    """The number of bytes of one pass over an image, with a filter byte for each row."""
    columns, rows = -(-(width - left) // across), -(-(height - top) // down)
    return rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0


def _image_data(data: bytes) -> Iterator[bytes]:
    """Yields the content of every IDAT chunk."""
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            yield data[place + 8 : place + 8 + size]
        place += 12 + size
