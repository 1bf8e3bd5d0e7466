"""Zip archives from elsewhere: looked through before anything is read, and never unpacked to the disk.

An archive is refused as a whole, with the name of the member at fault, if a member would leave the folder it is
unpacked in, is a link or a device, is encrypted, has the name of another, lies over another, or is far larger than an
archive of that size can honestly hold. What a Mac adds (`__MACOSX/`, `._*`, `.DS_Store`) is passed over.
"""

import dataclasses
import itertools
import re
import stat
import zipfile
from pathlib import Path

MAX_MEMBER = 8 << 30  # bytes, unpacked: more than any official table or image
MAX_TOTAL = 1 << 40
FREE_TOTAL = 64 << 20  # below this much in all, no ratio is too large: a blank mask packs very well
MAX_RATIO = 100.0  # unpacked over packed; images hardly pack at all, tables about tenfold


@dataclasses.dataclass(frozen=True)
class Member:
    """One file in an archive."""

    archive: "SafeZip"
    info: zipfile.ZipInfo

    @property
    def parts(self) -> tuple[str, ...]:
        """The path in the archive."""
        return tuple(part for part in self.info.filename.split("/") if part not in ("", "."))


class SafeZip:
    """A zip archive that was checked; its members are read one at a time.

    Raises:
        ValueError: naming the archive, the member and the rule.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{self.path} is not a zip archive that can be read: {error}. Get it again.") from error
        try:
            self.members = self._check(self._zip.infolist())
        except ValueError:
            self._zip.close()
            raise

    def read(self, member: Member) -> bytes:
        """Returns the bytes of a member; one that is longer than it says, or damaged, is a ValueError."""
        try:
            with self._zip.open(member.info) as file:
                data = file.read(member.info.file_size + 1)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise self._refusal(member.info, f"cannot be read: {error}") from error
        except Exception as error:  # zlib.error, lzma.LZMAError: each decompressor has its own
            raise self._refusal(member.info, f"is damaged: {error}") from error
        if len(data) != member.info.file_size:
            raise self._refusal(member.info, f"should have {member.info.file_size} bytes and has {len(data)}")
        return data

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def _refusal(self, info: zipfile.ZipInfo, why: str) -> ValueError:
        return ValueError(f"{self.path}: member {info.filename!r} {why}. The archive is refused; get it again.")

    def _check(self, infos: list[zipfile.ZipInfo]) -> list[Member]:
        """Returns the members that are files and data, after all rules have been checked."""
        members: dict[tuple[str, ...], Member] = {}
        for info in infos:
            if fault := _name_fault(info.orig_filename) or _kind_fault(info):
                raise self._refusal(info, fault)
            member = Member(self, info)
            if info.is_dir() or is_clutter(member.parts):
                continue
            if member.parts in members:
                raise self._refusal(info, "comes twice")
            members[member.parts] = member
        total = sum(info.file_size for info in infos)
        size = max(1, self.path.stat().st_size)
        if total > MAX_TOTAL or (total > FREE_TOTAL and total / size > MAX_RATIO):
            raise ValueError(
                f"{self.path} would unpack from {size} to {total} bytes: more than {MAX_RATIO:g} times its size or "
                f"than {MAX_TOTAL} bytes. The archive is refused."
            )
        self._check_overlap(infos)
        return list(members.values())

    def _check_overlap(self, infos: list[zipfile.ZipInfo]) -> None:
        """Raises if the data of two members lie over each other, as in archives made to unpack without end."""
        ordered = sorted(infos, key=lambda info: info.header_offset)
        for one, other in itertools.pairwise(ordered):
            if one.header_offset + one.compress_size >= other.header_offset:
                raise self._refusal(other, f"lies over member {one.filename!r}")


def is_clutter(parts: tuple[str, ...]) -> bool:
    """Returns whether a path is what a Mac or a file manager adds, not data.

    >>> is_clutter(("__MACOSX", "imgs", "._a.jpg")), is_clutter(("imgs", "a.jpg"))
    (True, False)
    """
    return "__MACOSX" in parts or parts[-1:] in ((".DS_Store",), ("Thumbs.db",)) or parts[-1].startswith("._")


def _name_fault(name: str) -> str:
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
    if info.file_size > MAX_MEMBER:
        return f"would have {info.file_size} bytes, more than {MAX_MEMBER}"
    return ""
