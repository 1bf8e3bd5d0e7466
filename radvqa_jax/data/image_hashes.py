"""Which images are the same, exactly and nearly: a sha256 of the pixels and a perceptual hash, kept beside the data.

The perceptual hash is imagehash's pHash (Zauner 2010) with 16 x 16 low frequencies: 256 bits. Measured: no two of the
314 images of VQA-RAD are closer than 70 bits; 100 of them re-encoded (JPEG quality 50), resized, with a fifth more
brightness, less contrast or another gamma stay within 20 bits of themselves; cut by 2 % on each side they are up to 64
bits away. Neighbouring slices of one examination can be 8 bits apart, and drawn phantoms of two splits 22.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, UInt8, UInt64
from PIL import Image
from tqdm import tqdm

from radvqa_jax.data.image import decode_image
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.text_index import read_sidecar, stamp, write_sidecar

VERSION = "1"  # of what is in the file; another one is made again
HASH_SIZE = 16
BITS = HASH_SIZE**2
WORDS = BITS // 64
# Below this spread of grey levels, in an image shrunk as the hash shrinks it, its frequencies are those of noise.
LEAST_SPREAD = 4
CHUNK = 64  # images hashed at a time
PAIRS_AT_A_TIME = 2**22  # distances computed at a time: 32 MB a word


class ImageHashes(NamedTuple):
    """The images of some rows, each once."""

    of_row: Int32[np.ndarray, " rows"]  # which image a row shows; -1 = none
    image_ids: list[str]  # the first id of each image
    exact: list[str]  # sha256 of shape and pixels
    near: UInt64[np.ndarray, "images words"]  # perceptual hash
    structured: Bool[np.ndarray, " images"]  # False for an even surface, whose perceptual hash means nothing


def _perceptual(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Returns the perceptual hash of an image; empty for one without structure."""
    image = Image.fromarray(pixels).convert("L")
    low, high = image.resize((HASH_SIZE * 4, HASH_SIZE * 4), Image.Resampling.LANCZOS).getextrema()
    if high - low < LEAST_SPREAD:  # pyright: ignore[reportOperatorIssue] one band: two numbers
        return b""
    return np.packbits(imagehash.phash(image, hash_size=HASH_SIZE).hash).tobytes()


def _hash_image(row: Row, name: str) -> tuple[str, bytes]:
    """Returns (sha256 of the pixels, perceptual hash); both empty for a row without an image."""
    if not row["image"]:
        return "", b""
    try:
        pixels = decode_image(row["image"])
    except ValueError as error:
        raise ValueError(f"{name}, image {row['image_id']!r}: {error}") from error
    return sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest(), _perceptual(pixels)


def _hash_rows(rows: RowSource) -> Iterator[tuple[str, bytes]]:
    """Yields the hashes of each row's image; the encoded bytes of one image are read and decoded once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin in tqdm(range(0, len(rows), CHUNK), desc=f"hashes of {rows.name}", unit_scale=CHUNK, disable=None):
            part = rows.select(range(begin, min(begin + CHUNK, len(rows))))
            yield from pool.map(lambda row: _hash_image(row, rows.name), part)


def _make_table(rows: RowSource) -> pa.Table:
    """Returns image_id, exact and near of each different image_id among the rows."""
    ids = rows.column("image_id")
    first = {image_id: index for index, image_id in reversed(list(enumerate(ids)))}
    order = sorted(first.values())
    hashes = list(_hash_rows(rows.select(order)))
    columns: dict[str, Any] = {
        "image_id": pa.array([ids[index] for index in order], pa.string()),
        "exact": pa.array([exact for exact, _ in hashes], pa.string()),
        "near": pa.array([near for _, near in hashes], pa.binary()),
    }
    return pa.table(columns)


def _load_table(rows: RowSource) -> pa.Table:
    """Returns the hashes of the whole split that the rows are of, from the file beside it if there is one."""
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
    """Returns the hashes of the images of some rows; an image_id stands for one image, as in every data set here.

    Raises:
        ValueError: naming the data set and the image, for one that cannot be decoded.
    """
    table = _load_table(rows).to_pydict()
    by_id = dict(zip(table["image_id"], zip(table["exact"], table["near"], strict=True), strict=True))
    number: dict[str, int] = {}  # of an exact hash
    image_ids, near = [], []
    of_row = np.full(len(rows), -1, np.int32)
    for index, image_id in enumerate(rows.column("image_id")):
        exact, code = by_id[image_id]
        if not exact:
            continue
        if exact not in number:
            number[exact] = len(number)
            image_ids.append(image_id)
            near.append(code)
        of_row[index] = number[exact]
    words = np.frombuffer(b"".join(code or bytes(BITS // 8) for code in near), np.uint64).reshape(-1, WORDS)
    return ImageHashes(of_row, image_ids, list(number), words, np.array([bool(code) for code in near], np.bool_))


def near_pairs(first: ImageHashes, second: ImageHashes, *, bits: int) -> list[tuple[int, int, int]]:
    """Returns (image of first, image of second, differing bits) of different images that differ by at most `bits`.

    Images with the same pixels are left out: they are shared exactly. The closest come first.
    """
    found: list[tuple[int, int, int]] = []
    known = {exact: index for index, exact in enumerate(second.exact)}
    same = np.array([known.get(exact, -1) for exact in first.exact], np.int64)
    step = max(1, PAIRS_AT_A_TIME // max(1, len(second.exact)))
    for begin in range(0, len(first.exact), step):
        part = first.near[begin : begin + step]
        distance = np.zeros((len(part), len(second.near)), np.uint16)
        for word in range(WORDS):
            distance += np.bitwise_count(part[:, word, None] ^ second.near[None, :, word])
        close = (distance <= bits) & first.structured[begin : begin + step, None] & second.structured[None]
        for a, b in zip(*np.nonzero(close), strict=True):
            if same[begin + a] != b:
                found.append((int(begin + a), int(b), int(distance[a, b])))
    return sorted(found, key=lambda pair: (pair[2], pair[0], pair[1]))
