"""Rules for archives from outside: members are checked before anything is read, and none is written to a path.

An archive is refused as a whole, with the name of the member at fault, if a member would leave the folder that it is
unpacked into, is a link or a device, is encrypted, has the name of another, overlaps another, or is far larger than an
archive of that size can plausibly hold. Files that a Mac or a file manager adds (`__MACOSX/`, `._*`, `.DS_Store`,
`Thumbs.db`) are skipped. An archive in an archive, or a compressed tar, is unpacked to a nameless temporary file and
counts towards the same limits.
"""

import dataclasses
import re
import tempfile
import weakref
import zipfile
from typing import IO, Any

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
UNOPENED = (".7z", ".rar", ".gz", ".bz2", ".xz", ".txz", ".zst", ".z", ".iso")  # known, but not read
MAX_MEMBER = 1 << 30  # bytes, unpacked, of a member that is read whole: more than any official table or image
MAX_TOTAL = 1 << 40
FREE_TOTAL = 64 << 20  # below this total size, no ratio is too large: a blank mask compresses very well
MAX_RATIO = 100.0  # unpacked over packed; images hardly compress at all, tables about tenfold
MAX_MEMBERS = 500_000
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Member:
    """One file in an archive."""

    archive: "Archive"
    info: Any  # zipfile.ZipInfo or tarfile.TarInfo
    parts: tuple[str, ...]  # of the path in the archive
    size: int  # bytes

    def read(self) -> bytes:
        """The bytes; a member that is damaged, or of another size than stated, is a ValueError."""
        return self.archive.read(self)


class Budget:
    """The limits on the unpacked size of an archive and everything in it."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = max(1, size)
        self._taken = 0

    def take(self, size: int) -> None:
        """Counts further bytes; raises ValueError when there are too many."""
        self._taken += size
        if self._taken > MAX_TOTAL or (self._taken > FREE_TOTAL and self._taken / self._size > MAX_RATIO):
            raise ValueError(
                f"{self._path} would unpack from {self._size} to {self._taken} bytes: more than {MAX_RATIO:g} times "
                f"its size or than {MAX_TOTAL} bytes. The archive is refused."
            )


def is_archive(name: str) -> bool:
    """Whether a file is opened as an archive, by its name."""
    return name.lower().endswith(ZIP + TAR)


def is_unopened(name: str) -> bool:
    """Whether a file is an archive or packed file that is not opened, by its name."""
    return name.lower().endswith(UNOPENED) and not is_archive(name)


class Archive:
    """The part that zip and tar archives share: checked members, read one at a time."""

    def __init__(self, file: IO[bytes], place: str) -> None:
        self.place = place  # the path, or the way to an archive in an archive
        self._file = file
        self.close = weakref.finalize(self, file.close)  # also when the archive is no longer used
        self.members: list[Member] = []

    def read(self, member: Member) -> bytes:
        """The bytes of a member; one that is damaged, or of another size than stated, is a ValueError."""
        if member.size > MAX_MEMBER:
            raise self.refusal(member.info, f"would have {member.size} bytes, more than {MAX_MEMBER}")
        with self._stream(member) as file:
            data = self._read(file, member, member.size + 1)
        if len(data) != member.size:
            raise self.refusal(member.info, f"should have {member.size} bytes and has {len(data)}")
        return data

    def spool(self, member: Member) -> IO[bytes]:
        """A nameless temporary file with the bytes of a member."""
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
            raise self.refusal(member.info, f"cannot be read: {error}") from error
        except Exception as error:  # zlib.error, lzma.LZMAError: each decompressor has its own
            raise self.refusal(member.info, f"is damaged: {error}") from error

    def _stream(self, member: Member) -> IO[bytes]:
        raise NotImplementedError

    def refusal(self, info: Any, why: str) -> ValueError:
        name = info.filename if isinstance(info, zipfile.ZipInfo) else info.name
        return ValueError(f"{self.place}: member {name!r} {why}. The archive is refused; get it again.")

    def keep(self, info: Any, name: str, size: int, seen: set[tuple[str, ...]]) -> None:
        """Lists a file as a member, after the rules for names and sizes, unless it is clutter."""
        member = Member(self, info, tuple(part for part in name.split("/") if part not in ("", ".")), size)
        if is_clutter(member.parts):
            return
        if member.parts in seen:
            raise self.refusal(info, "occurs twice")
        if size > MAX_MEMBER and not is_archive(name):
            raise self.refusal(info, f"would have {size} bytes, more than {MAX_MEMBER}")
        seen.add(member.parts)
        self.members.append(member)


def is_clutter(parts: tuple[str, ...]) -> bool:
    """Whether a path is a file that a Mac or a file manager adds, not data.

    >>> is_clutter(("__MACOSX", "imgs", "._a.jpg")), is_clutter(("imgs", "a.jpg"))
    (True, False)
    """
    return "__MACOSX" in parts or parts[-1:] in ((".DS_Store",), ("Thumbs.db",)) or parts[-1].startswith("._")


def name_fault(name: str) -> str:
    """The reason why a member's name cannot be trusted, or an empty string. Backslashes count as separators."""
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
