"""NumPy `.npz` files: headers first, array by array, and never a pickle."""

import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.files import atomic_write

PathLike = str | os.PathLike[str]

BFLOAT16 = np.dtype(jnp.bfloat16)
BFLOAT16_ON_DISK = np.dtype("V2")  # numpy has no bfloat16, and writes and reads one as two raw bytes
FLOATS = (np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64))

EXPONENT = np.uint16(0x7F80)  # of bfloat16
ALIGNMENT = 64  # bytes
MOST_ARRAYS = 20_000  # a released model has some hundreds, unstacked ones a thousand
MOST_HEADER = 10_000 + 12  # bytes of an array's header with its magic: what numpy parses at most
FREE_BYTES = 64 << 20  # below this much in all, no ratio is too large
MOST_RATIO = 100  # of what is packed to the file, where a reader asks for a bound
BLOCK = 1 << 20  # bytes or values at a time: small compared with an array, so that it stays in the cache

# What zipfile, zlib, numpy and the system raise for a damaged, encrypted or foreign file.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
)

# All members carry the same date, so that the same arrays give the same bytes and the same sha256.
DATE = (1980, 1, 1, 0, 0, 0)


class NpzReader:
    """An open `.npz` file; a context manager.

    Opening reads only the headers, so that a file of many gigabytes is judged at once. Any fault of the file
    is a ValueError that names the file, its required form, and the way out.

    Args:
        path: the file.
        kind: what the file must be, with an article; it is named in errors.
        remedy: a sentence that says what to do if the file is not that.
        most_bytes: refuses a file whose arrays have more bytes in all, or far more than the file itself; 0 = the caller
            compares the shapes with the wanted ones.
    """

    def __init__(self, path: PathLike, *, kind: str, remedy: str, most_bytes: int = 0) -> None:
        if not os.fspath(path):
            raise ValueError(f"The path of {kind} is empty. {remedy}")
        self.path = Path(path).expanduser()
        self._kind, self._remedy = kind, remedy
        self._zip = self._open()
        try:
            self.shapes: dict[str, jax.ShapeDtypeStruct] = self._read_headers()
            if most_bytes:
                self._check_bytes(most_bytes)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "NpzReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; reading is then an error."""
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """One array, in the dtype of the file; bfloat16 as ml_dtypes' bfloat16.

        Raises:
            ValueError: if its bytes are cut short or do not match their checksum.
        """
        try:
            with self._zip.open(f"{name}.npy") as stream:
                shape, fortran, dtype, start = _read_npy_header(stream)
            with self._zip.open(f"{name}.npy") as stream:
                stream.read(start)
                array = aligned(shape, dtype)
                _fill(stream, array.reshape(-1).view(np.uint8))
        except DAMAGE as error:
            raise self._error(f"the array {name!r} is damaged ({error})") from error
        array = array.reshape(shape[::-1]).T if fortran else array
        return array.view(BFLOAT16) if array.dtype == BFLOAT16_ON_DISK else array

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path} is not {self._kind}: {problem}. {self._remedy}")

    def _open(self) -> zipfile.ZipFile:
        if self.path.is_dir():
            raise self._error("it is a folder")
        if self.path.exists() and not self.path.is_file():
            raise self._error("it is not a regular file")
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} does not exist; it should be {self._kind}. {self._remedy}")
        try:
            return zipfile.ZipFile(self.path)
        except DAMAGE as error:
            raise self._error(self._diagnose()) from error

    def _diagnose(self) -> str:
        with self.path.open("rb") as file:
            start = file.read(24)
        if not start:
            return "it is empty"
        if start.startswith(b"PK\x03\x04"):
            return f"it begins like one but is cut short or damaged ({self.path.stat().st_size:,} bytes)"
        return f"it begins with {start!r}"

    def _read_headers(self) -> dict[str, jax.ShapeDtypeStruct]:
        shapes: dict[str, jax.ShapeDtypeStruct] = {}
        if (count := len(self._zip.infolist())) > MOST_ARRAYS:
            raise self._error(f"it holds {count:,} files, and no model has more than {MOST_ARRAYS:,} arrays")
        for member in self._zip.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise self._error(f"it holds {name!r}, which is no .npy array")
            if name in shapes:
                raise self._error(f"it holds the array {name!r} twice")
            shapes[name] = self._read_header(name, member)
        if not shapes:
            raise self._error("it holds no array")
        return shapes

    def _check_bytes(self, most: int) -> None:
        """Raises ValueError if the arrays have more bytes in all than `most`, or than a file of this size should."""
        held = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in self.shapes.values())
        size = self.path.stat().st_size
        if held > most:
            raise self._error(f"its arrays have {held:,} bytes, more than {most:,}")
        if held > FREE_BYTES and held > MOST_RATIO * size:
            raise self._error(
                f"its arrays have {held:,} bytes, more than {MOST_RATIO} times those of the file ({size:,})"
            )

    def _read_header(self, name: str, member: zipfile.ZipInfo) -> jax.ShapeDtypeStruct:
        try:
            with self._zip.open(member) as stream:
                shape, _, dtype, start = _read_npy_header(stream)
                held = member.file_size - start
        except (*DAMAGE, MemoryError) as error:  # the last of Python's parser, for a header that is nested too deeply
            raise self._error(
                f"the header of the array {name!r} is damaged ({str(error) or 'nested too deeply'})"
            ) from error
        if dtype.hasobject:
            raise self._error(f"the array {name!r} is a pickle of Python objects, which could run any code when loaded")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if held != size:
            raise self._error(f"the array {name!r} should have {size:,} bytes and has {held:,}")
        return jax.ShapeDtypeStruct(shape, BFLOAT16 if dtype == BFLOAT16_ON_DISK else dtype)


def _read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether the first axis is the fastest, dtype, where the values start).

    numpy reads a header of any stated length, up to 4 GiB, before it refuses it: so it gets no more than this.
    """
    head = io.BytesIO(stream.read(MOST_HEADER))
    version = np.lib.format.read_magic(head)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return *read(head), head.tell()


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of any values at an address that jax on the CPU can take over without a copy."""
    if dtype.hasobject:
        raise ValueError("it is a pickle of Python objects")
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _fill(stream: Any, raw: np.ndarray) -> None:
    """Reads as many bytes as `raw` has, and to the member's end, where zipfile compares the checksum."""
    place = 0
    while place < len(raw):
        part = stream.read(min(BLOCK, len(raw) - place))
        if not part:
            raise EOFError(f"it ends after {place:,} of {len(raw):,} bytes")
        raw[place : place + len(part)] = np.frombuffer(part, np.uint8)
        place += len(part)
    if stream.read(1):
        raise ValueError(f"it goes on after {len(raw):,} bytes")


def write_npz(path: PathLike, arrays: Iterable[tuple[str, np.ndarray]], *, compress: bool = False) -> None:
    """Writes (name, array) pairs, one array at a time; `path` is whole or untouched.

    The same arrays in the same order give the same bytes.
    """
    with atomic_write(path, "wb", private=False) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy", date_time=DATE)
            member.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            on_disk = array.view(BFLOAT16_ON_DISK) if array.dtype == BFLOAT16 else array
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, on_disk, allow_pickle=False)


def count_nonfinite(array: np.ndarray, dtype: Any = None) -> int:
    """The number of values that are NaN or infinite, or become infinite in `dtype`.

    >>> count_nonfinite(np.array([1.0, np.nan, 1e300])), count_nonfinite(np.array([1.0, np.nan, 1e300]), np.float32)
    (1, 2)
    """
    flat = array.reshape(-1)
    parts = (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
    wanted, have = jnp.finfo(array.dtype if dtype is None else dtype), jnp.finfo(array.dtype)
    if float(wanted.max) < float(have.max):
        # Half a unit in the last place above the largest value, a number is rounded to infinity.
        limit = float(wanted.max) + 2.0 ** (wanted.maxexp - wanted.nmant - 2)
        return sum(int(np.count_nonzero(~(np.abs(part) < limit))) for part in parts)
    if array.dtype != BFLOAT16:
        return sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)
    # All bits of the exponent are set in values that are not finite; numpy's own test of bfloat16 is ten times as slow.
    return sum(int(np.count_nonzero((part.view(np.uint16) & EXPONENT) == EXPONENT)) for part in parts)
