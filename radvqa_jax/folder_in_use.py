"""Folders that a run writes to: a run whose folder is moved or removed ends, and makes no new one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_used: dict[Path, tuple[int, int]] = {}  # folder that this process uses -> device and inode


class FolderGone(ValueError):
    """A folder that this process uses was removed, or another took its place."""


@contextlib.contextmanager
def using(folder: Path) -> Iterator[None]:
    """Within the block, a file is written to the folder only while the folder is still the same.

    Without this, the first file after a removal would make the folder anew, without what the run had written before.
    """
    place = folder.absolute()
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)  # as long as it is open, no other folder gets its inode
    try:
        _used[place] = _identity(place)
        yield
    finally:
        _used.pop(place, None)
        os.close(handle)


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_same(folder: Path, identity: tuple[int, int]) -> bool:
    try:
        return _identity(folder) == identity
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folders(path: Path) -> None:
    """Raises FolderGone if a folder in use that would hold the file is no longer the same."""
    parents = path.absolute().parents
    for folder, identity in list(_used.items()):  # other threads may use other folders
        if folder in parents and not _is_same(folder, identity):
            raise FolderGone(
                f"{folder} was moved, removed or replaced while this run wrote to it; {path.name} was not written. "
                "What the run had written is no longer there. Start it again."
            )
