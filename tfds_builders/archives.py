"""Archives from elsewhere, zip and tar: looked through before anything is read; a member is never written to a path.

An archive is refused as a whole, with the name of the member at fault, if a member would leave the folder it is
unpacked in, is a link or a device, is encrypted, has the name of another, lies over another, or is far larger than an
archive of that size can honestly hold. What a Mac adds (`__MACOSX/`, `._*`, `.DS_Store`) is passed over. An archive
in an archive, and a compressed tar, is copied to a nameless temporary file, and counts towards the same limits.
"""

import bz2
import dataclasses
import gzip
import itertools
import re
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
from pathlib import Path
from typing import IO, Any

from tfds_builders.regular_files import is_pointer, open_regular

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
UNOPENED = (".7z", ".rar", ".gz", ".bz2", ".xz", ".txz", ".zst", ".z", ".iso")  # known, and not read
MAX_DEPTH = 4  # archives in archives
MAX_MEMBER = 1 << 30  # bytes, unpacked, of what is read whole: more than any official table or image
MAX_TOTAL = 1 << 40
FREE_TOTAL = 64 << 20  # below this much in all, no ratio is too large: a blank mask packs very well
MAX_RATIO = 100.0  # unpacked over packed; images hardly pack at all, tables about tenfold
MAX_DIRECTORY = 32 << 20  # bytes of a zip's list of members: about 250,000 of them
MAX_MEMBERS = 500_000
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Member:
    """One file in an archive."""

    archive: "SafeZip | SafeTar"
    info: Any  # zipfile.ZipInfo or tarfile.TarInfo
    parts: tuple[str, ...]  # of the path in the archive
    size: int  # bytes

    def read(self) -> bytes:
        """Returns the bytes; one that is longer than it says, or damaged, is a ValueError."""
        return self.archive.read(self)


class Budget:
    """How much an archive, and all in it, may unpack to."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = max(1, size)
        self._taken = 0

    def take(self, size: int) -> None:
        """Counts so many more bytes; raises ValueError when they are too many."""
        self._taken += size
        if self._taken > MAX_TOTAL or (self._taken > FREE_TOTAL and self._taken / self._size > MAX_RATIO):
            raise ValueError(
                f"{self._path} would unpack from {self._size} to {self._taken} bytes: more than {MAX_RATIO:g} times "
                f"its size or than {MAX_TOTAL} bytes. The archive is refused."
            )


def is_archive(name: str) -> bool:
    """Returns whether a file is opened as an archive, by its name."""
    return name.lower().endswith(ZIP + TAR)


def is_unopened(name: str) -> bool:
    """Returns whether a file is an archive or packed file that is not opened, by its name."""
    return name.lower().endswith(UNOPENED) and not is_archive(name)


def open_archive(path: Path, *, name: str = "") -> list["SafeZip | SafeTar"]:
    """Returns an archive and every archive in it, however deep up to MAX_DEPTH, all of them checked.

    Args:
        path: of the file.
        name: what says which kind it is, if the path does not.

    Raises:
        ValueError: naming the archive, the member and the rule.
    """
    file = open_regular(path)
    budget = Budget(str(path), path.stat().st_size)
    found = [_open(file, str(path), name=name or path.name, budget=budget)]
    waiting = [(found[0], 1)]
    while waiting:
        archive, depth = waiting.pop()
        for member in archive.members:
            if not is_archive(member.parts[-1]):
                continue
            if depth == MAX_DEPTH:
                raise ValueError(
                    f"{archive.place}: member {'/'.join(member.parts)!r} is an archive {depth + 1} deep, more than "
                    f"{MAX_DEPTH}. Unpack the outer ones."
                )
            inner = _open(
                archive.spool(member), f"{archive.place}!{'/'.join(member.parts)}", name=member.parts[-1], budget=budget
            )
            found.append(inner)
            waiting.append((inner, depth + 1))
    return found


def _open(file: IO[bytes], place: str, *, name: str, budget: Budget) -> "SafeZip | SafeTar":
    try:
        if is_pointer(file.read(64)):
            raise ValueError(f"{place} is a Git LFS pointer, not the file; fetch it with `git lfs pull`.")
        file.seek(0)
        return (SafeTar if name.lower().endswith(TAR) else SafeZip)(file, place, budget=budget)
    except BaseException:
        file.close()
        raise


class _Archive:
    """What both kinds of archives have."""

    def __init__(self, file: IO[bytes], place: str) -> None:
        self.place = place  # the path, or how to come to an archive in an archive
        self._file = file
        self.close = weakref.finalize(self, file.close)  # also when nobody uses the archive any more
        self.members: list[Member] = []

    def read(self, member: Member) -> bytes:
        """Returns the bytes of a member; one that is longer than it says, or damaged, is a ValueError."""
        if member.size > MAX_MEMBER:
            raise self._refusal(member.info, f"would have {member.size} bytes, more than {MAX_MEMBER}")
        with self._stream(member) as file:
            data = self._read(file, member, member.size + 1)
        if len(data) != member.size:
            raise self._refusal(member.info, f"should have {member.size} bytes and has {len(data)}")
        return data

    def spool(self, member: Member) -> IO[bytes]:
        """Returns a nameless temporary file with the bytes of a member."""
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 closed with the archive that is read from it
        with self._stream(member) as file:
            left = member.size
            while left > 0 and (chunk := self._read(file, member, min(left, CHUNK))):
                spooled.write(chunk)
                left -= len(chunk)
        spooled.seek(0)
        return spooled

    def _read(self, file: IO[bytes], member: Member, size: int) -> bytes:
        try:
            return file.read(size)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise self._refusal(member.info, f"cannot be read: {error}") from error
        except Exception as error:  # zlib.error, lzma.LZMAError: each decompressor has its own
            raise self._refusal(member.info, f"is damaged: {error}") from error

    def _stream(self, member: Member) -> IO[bytes]:
        raise NotImplementedError

    def _refusal(self, info: Any, why: str) -> ValueError:
        name = info.filename if isinstance(info, zipfile.ZipInfo) else info.name
        return ValueError(f"{self.place}: member {name!r} {why}. The archive is refused; get it again.")

    def _keep(self, info: Any, name: str, size: int, seen: set[tuple[str, ...]]) -> None:
        """Keeps a member that is a file, unless it is clutter."""
        member = Member(self, info, tuple(part for part in name.split("/") if part not in ("", ".")), size)  # pyright: ignore[reportArgumentType] one of the two
        if is_clutter(member.parts):
            return
        if member.parts in seen:
            raise self._refusal(info, "comes twice")
        if size > MAX_MEMBER and not is_archive(name):
            raise self._refusal(info, f"would have {size} bytes, more than {MAX_MEMBER}")
        seen.add(member.parts)
        self.members.append(member)


class SafeZip(_Archive):
    """A zip archive that was checked; its members are read one at a time.

    Raises:
        ValueError: naming the archive, the member and the rule.
    """

    def __init__(self, file: str | Path | IO[bytes], place: str = "", *, budget: Budget | None = None) -> None:
        if isinstance(file, str | Path):
            place, budget = str(file), Budget(str(file), Path(file).stat().st_size)
            file = open_regular(file)
        assert budget is not None
        super().__init__(file, place)
        try:
            if (size := _directory_size(file)) > MAX_DIRECTORY:
                raise ValueError(f"its list of members has {size} bytes, more than {MAX_DIRECTORY}; unpack it")
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, MemoryError) as error:
            self.close()
            raise ValueError(f"{place} is not a zip archive that can be read: {error}. Get it again.") from error
        try:
            self._check(self._zip.infolist(), budget)
        except ValueError:
            self.close()
            raise

    def _stream(self, member: Member) -> IO[bytes]:
        try:
            return self._zip.open(member.info)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
            raise self._refusal(member.info, f"cannot be read: {error}") from error

    def _check(self, infos: list[zipfile.ZipInfo], budget: Budget) -> None:
        """Keeps the members that are files and data, after all rules have been checked."""
        seen: set[tuple[str, ...]] = set()
        for info in infos:
            if fault := name_fault(info.orig_filename) or _kind_fault(info):
                raise self._refusal(info, fault)
            if not info.is_dir():
                self._keep(info, info.filename, info.file_size, seen)
        budget.take(sum(info.file_size for info in infos))
        self._check_overlap(infos)

    def _check_overlap(self, infos: list[zipfile.ZipInfo]) -> None:
        """Raises if the data of two members lie over each other, as in archives made to unpack without end."""
        ordered = sorted(infos, key=lambda info: info.header_offset)
        for one, other in itertools.pairwise(ordered):
            if one.header_offset + one.compress_size >= other.header_offset:
                raise self._refusal(other, f"lies over member {one.filename!r}")


class SafeTar(_Archive):
    """A tar archive that was checked, plain or packed by gzip or bzip2; its members are read one at a time.

    Raises:
        ValueError: naming the archive, the member and the rule.
    """

    def __init__(self, file: IO[bytes], place: str, *, budget: Budget) -> None:
        super().__init__(_unpacked(file, place, budget), place)
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115 closed by `close`
            self._check()
        except (tarfile.TarError, OSError, OverflowError, RecursionError, EOFError, UnicodeError) as error:
            self.close()
            raise ValueError(f"{place} is not a tar archive that can be read: {error}. Get it again.") from error
        except ValueError:
            self.close()
            raise

    def _check(self) -> None:
        seen: set[tuple[str, ...]] = set()
        for number, info in enumerate(self._tar):
            if number >= MAX_MEMBERS:
                raise ValueError(f"{self.place} has more than {MAX_MEMBERS} members; unpack it.")
            if info.isdir():
                continue
            if fault := name_fault(info.name):
                raise self._refusal(info, fault)
            if not info.isreg() or info.issparse():
                kind = "is a link" if info.issym() or info.islnk() else "is neither a plain file nor a folder"
                raise self._refusal(info, kind)
            self._keep(info, info.name, info.size, seen)

    def _stream(self, member: Member) -> IO[bytes]:
        stream = self._tar.extractfile(member.info)
        assert stream is not None  # a regular file
        return stream


def _unpacked(file: IO[bytes], place: str, budget: Budget) -> IO[bytes]:
    """Returns a tar as it is, or unpacked into a nameless temporary file."""
    head = file.read(3)
    file.seek(0)
    opener = {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open}.get(head)
    if opener is None:
        return file
    plain = tempfile.TemporaryFile()  # noqa: SIM115 closed with the archive
    try:
        with file, opener(file) as packed:
            while chunk := packed.read(CHUNK):
                budget.take(len(chunk))
                plain.write(chunk)
    except (OSError, EOFError) as error:
        plain.close()
        raise ValueError(f"{place} is damaged: {error}. Get it again.") from error
    except Exception as error:  # zlib.error, and the refusal of the budget
        plain.close()
        raise error if isinstance(error, ValueError) else ValueError(f"{place} is damaged: {error}") from error
    plain.seek(0)
    return plain


def _directory_size(file: IO[bytes]) -> int:
    """Returns the bytes of a zip's list of members as its end says, 0 if it has no such end; the list is not read."""
    size = file.seek(0, 2)
    begin = max(0, size - (1 << 16) - 22)
    file.seek(begin)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return 0
    listed = struct.unpack_from("<I", tail, at + 12)[0]
    locator = at - 20
    if listed == 0xFFFFFFFF and locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        file.seek(min(size, struct.unpack_from("<Q", tail, locator + 8)[0]))
        record = file.read(56)
        file.seek(0)
        return struct.unpack_from("<Q", record, 40)[0] if record[:4] == b"PK\x06\x06" and len(record) == 56 else 0
    return listed


def is_clutter(parts: tuple[str, ...]) -> bool:
    """Returns whether a path is what a Mac or a file manager adds, not data.

    >>> is_clutter(("__MACOSX", "imgs", "._a.jpg")), is_clutter(("imgs", "a.jpg"))
    (True, False)
    """
    return "__MACOSX" in parts or parts[-1:] in ((".DS_Store",), ("Thumbs.db",)) or parts[-1].startswith("._")


def name_fault(name: str) -> str:
    """Returns why a member's name cannot be trusted, or an empty string. Backslashes count as separators."""
    parts = re.split(r"[/\\]", name)
    if "\x00" in name or not name.strip("/."):
        return "has no proper name"
    if parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in parts:
        return "leaves its folder with '..'"
    if "\\" in name:
        return "has a backslash in its name"
    return ""


def _kind_fault(info: zipfile.ZipInfo) -> str:
    """Returns why a member cannot be read safely, or an empty string."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return ""
