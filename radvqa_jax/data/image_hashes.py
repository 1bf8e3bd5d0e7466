"""Finds images that are the same, exactly or nearly: a sha256 of the pixels and perceptual hashes, kept with the data.

The perceptual hash is imagehash's pHash (Zauner 2010) with 16 x 16 low frequencies: 256 bits. An image has one hash
of the whole, one without an even border, and one for each cut in CUTS, to find copies that lost or gained a border.

The distance of two images is that of their two most similar views. Measured on the 315 images of VQA-RAD and 181 of
MedPix 2.0: of 122,582 pairs from different cases the closest are 62 bits apart, one in ten thousand is within 70, the
median is 116. Copies, of every third image: JPEG of quality 20, at most 8 bits; scaled to a quarter or by 1.5, or to
another shape, 4; a fifth brighter 18, a fifth less contrast 6; with a black or white border of 5 %, 20; without up to 6
% on each side 26, and 99 % within 20; made square by black bars, 99 % within 20. Hence 20 is the default of
audit.near_bits: an image within it is a copy, or a neighbouring slice of the same examination (8 to 20 bits; other
slices are farther).

Not always found: another gamma (of 1.5: one in nine is missed), cuts of more than 6 %, or of 2 % on one side alone (two
in five). Never found: mirrored or turned images. Up to 64 bits the audit lists the closest pairs for inspection.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

from radvqa_jax import progress
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.text_index import read_sidecar, stamp, write_sidecar

VERSION = "2"  # of the file's content; a file of another version is made again
HASH_SIZE = 16
BITS = HASH_SIZE**2
SHRUNK = 256  # pixels; views are taken from an image of this size
CUTS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)  # shares of width and height that a view leaves out on each side
VIEWS = 2 + len(CUTS)  # the whole, without its border, cut
BORDER_SPREAD = 16  # grey levels by which a border's pixels may differ from the corners'
BORDER_SPECKS = 0.01  # share of a border line's pixels that may differ more: artefacts of JPEG
# Below this spread of grey levels, in an image shrunk as for the hash, its frequencies are noise.
LEAST_SPREAD = 4
CHUNK = 64  # images hashed at a time
PAIRS_AT_A_TIME = 2**22  # distances computed at a time: 16 MB


class ImageHashes(NamedTuple):
    """The images of some rows, each once."""

    of_row: Int32[np.ndarray, " rows"]  # which image a row shows; -1 = none
    image_ids: list[str]  # the first id of each image
    exact: list[str]  # sha256 of shape and pixels
    near: Bool[np.ndarray, "images views bits"]  # perceptual hashes
    structured: Bool[np.ndarray, "images views"]  # False for an even surface, whose perceptual hash has no meaning


Box = tuple[float, float, float, float]


def _content(shrunk: Image.Image) -> Box:
    """The box of an image without its border: edge lines that have the one grey level of the corners."""
    levels = np.asarray(shrunk, np.int16)
    border = np.median([levels[0, 0], levels[0, -1], levels[-1, 0], levels[-1, -1]])
    differs = np.abs(levels - border) > BORDER_SPREAD
    rows, columns = (np.flatnonzero(differs.mean(axis) > BORDER_SPECKS) for axis in (1, 0))
    if not (len(rows) and len(columns)):
        return 0, 0, *shrunk.size
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _perceptual(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[bytes, bytes]:
    """The perceptual hashes of an image's views, and for each view a bit that is set if it has structure."""
    grey = Image.fromarray(pixels).convert("L")
    shrunk = grey.resize((SHRUNK, SHRUNK), Image.Resampling.LANCZOS)
    whole = (0.0, 0.0, float(SHRUNK), float(SHRUNK))
    cut: list[Box] = [(SHRUNK * c, SHRUNK * c, SHRUNK * (1 - c), SHRUNK * (1 - c)) for c in CUTS]
    hashes, structured = [], []
    for box in (whole, _content(shrunk), *cut):
        view = shrunk.resize((HASH_SIZE * 4, HASH_SIZE * 4), Image.Resampling.LANCZOS, box)
        low, high = view.getextrema()
        structured.append(high - low >= LEAST_SPREAD)  # pyright: ignore[reportOperatorIssue] one band: two numbers
        hashes.append(imagehash.phash(view, hash_size=HASH_SIZE).hash.ravel())
    return np.packbits(hashes).tobytes(), np.packbits(structured).tobytes()


def _hash_image(row: Row, name: str) -> tuple[str, bytes, bytes]:
    """(sha256 of the pixels, perceptual hashes, structure); all empty for a row without an image."""
    if not row["image"]:
        return "", b"", b""
    try:
        pixels = decode_image(row["image"])
    except ValueError as error:
        raise ValueError(f"{name}, image {row['image_id']!r}: {error}") from error
    return sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest(), *_perceptual(pixels)


def _hash_rows(rows: RowSource) -> Iterator[tuple[str, bytes, bytes]]:
    """Yields the hashes of each row's image; each image is read and decoded once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin in progress.bar(range(0, len(rows), CHUNK), name=f"hashes of {rows.name}", unit_scale=CHUNK):
            part = rows.select(range(begin, min(begin + CHUNK, len(rows))))
            yield from pool.map(lambda row: _hash_image(row, rows.name), part)


def _make_table(rows: RowSource) -> pa.Table:
    """image_id, exact, near and structured of each different image_id among the rows."""
    ids = rows.column("image_id")
    first = {image_id: index for index, image_id in reversed(list(enumerate(ids)))}
    order = sorted(first.values())
    exact, near, structured = zip(*_hash_rows(rows.select(order)), strict=True) if order else ((), (), ())
    columns: dict[str, Any] = {
        "image_id": pa.array([ids[index] for index in order], pa.string()),
        "exact": pa.array(exact, pa.string()),
        "near": pa.array(near, pa.binary()),
        "structured": pa.array(structured, pa.binary()),
    }
    return pa.table(columns)


def _load_table(rows: RowSource) -> pa.Table:
    """The hashes of the whole split that the rows are of, from the file in its folder if there is one."""
    if rows.prepared is None:
        return _make_table(rows)
    folder, split, paths = rows.prepared
    key = f"image hashes {VERSION}, imagehash {imagehash.__version__}\n{stamp(paths)}"
    path = folder / f"image_hashes-{split}.parquet"
    table = read_sidecar(path, key=key)
    if table is None:
        table = _make_table(rows.whole())
        if not write_sidecar(path, table, key=key):
            print(f"{path} cannot be written, so the images of this split are hashed again each time.", flush=True)
    return table


def load_hashes(rows: RowSource) -> ImageHashes:
    """The hashes of the images of some rows; an image_id identifies one image, as in every data set here.

    Raises:
        ValueError: naming the data set and the image, if one cannot be decoded.
    """
    table = _load_table(rows).to_pydict()
    entries = zip(table["exact"], table["near"], table["structured"], strict=True)
    by_id = dict(zip(table["image_id"], entries, strict=True))
    number: dict[str, int] = {}  # of an exact hash
    image_ids, near, structured = [], [], []
    of_row = np.full(len(rows), -1, np.int32)
    for index, image_id in enumerate(rows.column("image_id")):
        exact, codes, views = by_id[image_id]
        if not exact:
            continue
        if exact not in number:
            number[exact] = len(number)
            image_ids.append(image_id)
            near.append(codes)
            structured.append(views)
        of_row[index] = number[exact]
    return ImageHashes(
        of_row, image_ids, list(number), _bits(near).reshape(-1, VIEWS, BITS), _bits(structured).reshape(-1, VIEWS)
    )


def _bits(packed: list[bytes]) -> Bool[np.ndarray, " n"]:
    return np.unpackbits(np.frombuffer(b"".join(packed), np.uint8)).astype(np.bool_)


def _signs(hashes: ImageHashes, view: int) -> Float32[np.ndarray, "images bits"]:
    """1 and -1 for the bits of a view; all 0, which is far from everything, for one without structure."""
    signs = np.where(hashes.near[:, view], np.float32(1), np.float32(-1))
    return signs * hashes.structured[:, view, None]


# The views that are compared: a cut copy resembles a cut view of its original.
COMPARED = ((0, 0), (1, 1), *((0, view) for view in range(2, VIEWS)), *((view, 0) for view in range(2, VIEWS)))


def near_pairs(first: ImageHashes, second: ImageHashes, *, bits: int) -> list[tuple[int, int, int]]:
    """(image of first, image of second, differing bits) of different images that differ by at most `bits`.

    The bits are those of the two most similar views. Images with the same pixels are left out: they are shared exactly.
    The closest pairs come first.
    """
    found: dict[tuple[int, int], int] = {}
    known = {exact: index for index, exact in enumerate(second.exact)}
    same = np.array([known.get(exact, -1) for exact in first.exact], np.int64)
    step = max(1, PAIRS_AT_A_TIME // max(1, len(second.exact)))
    for ours, theirs in COMPARED:
        signs, other = _signs(first, ours), _signs(second, theirs).T.copy()
        for begin in range(0, len(signs), step):
            # The product of signs is BITS minus twice the number of differing bits.
            product = signs[begin : begin + step] @ other
            for a, b in np.argwhere(product >= BITS - 2 * bits).tolist():
                pair, distance = (begin + a, b), int(BITS - product[a, b]) // 2
                if same[begin + a] != b:
                    found[pair] = min(distance, found.get(pair, BITS))
    return sorted(
        ((a, b, distance) for (a, b), distance in found.items()), key=lambda pair: (pair[2], pair[0], pair[1])
    )
