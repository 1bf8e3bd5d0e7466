"""Opens regular files only, never a pipe or a device, which may not end; and recognises Git LFS pointers."""

import os
import stat
from io import BufferedReader
from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Opens a regular file to read its bytes.

    Raises:
        ValueError: if the path leads to anything else; it does not wait for a pipe.
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer. The kind is that of the open file: a path can change.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise ValueError(f"{path} is {KINDS.get(kind, 'not a file')}. Only regular files are read.")
    return os.fdopen(handle, "rb")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file.

    Raises:
        ValueError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a regular file."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def is_pointer(data: bytes) -> bool:
    """Whether bytes are a Git LFS pointer, which stands for a file that was not fetched."""
    return data.startswith(POINTER)


def refuse_pointer(data: bytes) -> None:
    """Raises ValueError if bytes are a Git LFS pointer."""
    if is_pointer(data):
        raise ValueError("they are a Git LFS pointer, not the file; fetch it with `git lfs pull`")
