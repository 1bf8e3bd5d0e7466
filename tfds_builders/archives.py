"""Reads zip archives from outside, and archives in archives, by the rules of archive_rules.py."""

import itertools
import stat
import struct
import zipfile
from pathlib import Path
from typing import IO

from tfds_builders.archive_rules import TAR, Archive, Budget, Member, is_archive, name_fault
from tfds_builders.regular_files import is_pointer, open_regular
from tfds_builders.tar_archives import SafeTar

MAX_DEPTH = 4  # archives in archives
MAX_DIRECTORY = 32 << 20  # bytes of a zip's list of members: about 250,000 of them


def open_archive(path: Path, *, name: str = "") -> list["SafeZip | SafeTar"]:
    """An archive and every archive in it, up to MAX_DEPTH levels, all of them checked.

    Args:
        path: of the file.
        name: gives the kind of archive, if the path does not.

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


class SafeZip(Archive):
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
            raise self.refusal(member.info, f"cannot be read: {error}") from error

    def _check(self, infos: list[zipfile.ZipInfo], budget: Budget) -> None:
        """Checks all rules and lists the members that are files and data."""
        seen: set[tuple[str, ...]] = set()
        for info in infos:
            if fault := name_fault(info.orig_filename) or _kind_fault(info):
                raise self.refusal(info, fault)
            if not info.is_dir():
                self.keep(info, info.filename, info.file_size, seen)
        budget.take(sum(info.file_size for info in infos))
        self._check_overlap(infos)

    def _check_overlap(self, infos: list[zipfile.ZipInfo]) -> None:
        """Raises ValueError if the data of two members overlap, as in archives that are made to unpack without end."""
        ordered = sorted(infos, key=lambda info: info.header_offset)
        for one, other in itertools.pairwise(ordered):
            if one.header_offset + one.compress_size >= other.header_offset:
                raise self.refusal(other, f"overlaps member {one.filename!r}")


def _directory_size(file: IO[bytes]) -> int:
    """The size in bytes of a zip's list of members according to its end record, 0 without one; the list is not read."""
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


def _kind_fault(info: zipfile.ZipInfo) -> str:
    """The reason why a member cannot be read safely, or an empty string."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return ""
