"""Reads tar archives from outside, plain or packed by gzip or bzip2, by the rules of archive_rules.py."""

import bz2
import gzip
import tarfile
import tempfile
from typing import IO

from tfds_builders.archive_rules import CHUNK, MAX_MEMBERS, Archive, Budget, Member, name_fault


class SafeTar(Archive):
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
                raise self.refusal(info, fault)
            if not info.isreg() or info.issparse():
                kind = "is a link" if info.issym() or info.islnk() else "is neither a plain file nor a folder"
                raise self.refusal(info, kind)
            self.keep(info, info.name, info.size, seen)

    def _stream(self, member: Member) -> IO[bytes]:
        stream = self._tar.extractfile(member.info)
        assert stream is not None  # a regular file
        return stream


def _unpacked(file: IO[bytes], place: str, budget: Budget) -> IO[bytes]:
    """A tar as it is, or unpacked into a nameless temporary file."""
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
