"""Files that are whole or absent: atomic writes, jsonl, hashes, and the run's folder."""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from radvqa_jax.folder_in_use import check_folders
from tfds_builders.json_text import no_repeats

PART = re.compile(r"\..+\.[a-z0-9_]{8}\.part")  # names of unfinished files of `atomic_write`
LOCK = ".lock"  # the file of a folder's lock (locks.py)
# Errors of json.loads: ValueError, also for a number with thousands of digits; RecursionError for deep nesting.
BAD_JSON = (ValueError, RecursionError)
# Permissions of a new file, before the umask removes some.
OWNER_ONLY, ALL = 0o600, 0o666
_shared = False


def _make_parent(path: Path) -> None:
    """Creates the folder of a file if it is missing; raises FolderGone for a folder in use that is no longer there."""
    check_folders(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def share(yes: bool) -> None:
    """Sets whether other users may read files with questions, answers or images, as far as the umask allows."""
    global _shared
    _shared = yes


def _rights(private: bool) -> int:
    return OWNER_ONLY if private and not _shared else ALL


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Makes files that a library writes within the block readable by their owner alone, unless files are shared."""
    before = os.umask(0o022)
    os.umask(before if _shared else before | 0o077)
    try:
        yield
    finally:
        os.umask(before)


def check_writable(path: str | os.PathLike[str], *, field: str, inside: str = "") -> None:
    """Raises ValueError, naming the field, if a folder is not writable, or cannot be created.

    Args:
        path: the folder.
        field: the field of the configuration that gives it.
        inside: the folder within it that will be written to; empty = the folder itself.
    """
    wanted = folder = (Path(path).expanduser() / inside).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{field}={path}: {folder} is a file, so that {wanted} cannot be a folder. Give another one.")
    if not os.access(folder, os.W_OK):
        where = "" if folder == Path(path).expanduser().absolute() else f": {folder}"
        raise ValueError(f"{field}={path}{where} cannot be written to. Give a folder you may write to.")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", *, private: bool = True) -> Iterator[IO[Any]]:
    """Opens a temporary file next to `path`, which replaces `path` only if the block ends without an error.

    A temporary file of the same path whose writer was killed is removed first.

    Args:
        path: the file; its folder is created if it is missing.
        mode: as for `open`.
        private: whether the file may contain questions, answers or images. Then only its owner may read it, unless
            files are shared (see `share`). The umask applies in both cases.
    """
    path = Path(path)
    _make_parent(path)
    _remove_abandoned(path)
    temporary, handle = _open_part(path, _rights(private))
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # before it is closed, which ends the lock
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        name_file(error, path)
        raise


def _open_part(path: Path, rights: int) -> tuple[Path, int]:
    """Creates the temporary file of a path, and opens it with a lock that lasts as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, rights)
        with contextlib.suppress(OSError):  # on a file system without locks no process removes the file
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # another writer of the path removed it before it was locked


def _remove_abandoned(path: Path) -> None:
    """Removes the temporary files of a path that killed writers left."""
    begin, length = f".{path.name}.", len(f".{path.name}.01234567.part")
    with os.scandir(path.parent) as found:
        parts = [Path(item.path) for item in found if item.name.startswith(begin) and len(item.name) == length]
    for part in parts:
        if PART.fullmatch(part.name):
            _remove_part(part)


def _remove_part(part: Path) -> bool:
    """Removes a temporary file if no process has it locked: its writer is gone. Returns whether it was removed."""
    try:
        handle = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # a link, or another user's file, stays
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def name_file(error: BaseException, path: str | os.PathLike[str]) -> None:
    """Adds the file's name to an OSError without one, such as that of a full disk."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = os.fspath(path)


def remove_parts(folder: Path) -> list[Path]:
    """Removes half-written files that killed processes left under the folder. Returns their paths.

    A subfolder with its own lock is left alone.
    """
    removed = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        parts = (Path(place, name) for name in names if PART.fullmatch(name))
        removed += [path for path in parts if _remove_part(path)]
    return removed


def write_text(path: str | os.PathLike[str], text: str, *, private: bool = True) -> None:
    """Writes `text` so that a reader sees the old file or the new one, never half of it."""
    with atomic_write(path, private=private) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any, *, private: bool = True) -> None:
    """Writes one JSON value, indented. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", private=private)


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Opens a regular file to read its bytes.

    Raises:
        ValueError: if the path is a pipe, a device or a folder: reading it could wait for ever.
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is not a regular file. Give a regular file, not a pipe, a device or a folder.")
    return open(handle, "rb")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The JSON value in a file; an error names the file."""
    with open_regular(path) as file:
        text = file.read()
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=no_repeats)
    except BAD_JSON as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]], *, private: bool = True) -> int:
    """Writes one JSON object per line, whole or not at all. Returns the number of lines."""
    n = 0
    with atomic_write(path, private=private) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            n += 1
    return n


def append_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]], *, private: bool = True) -> None:
    """Appends one JSON object per line, and flushes the file to the disk. If one row is not JSON, appends none.

    A last line that an interruption cut is removed first, so that the new lines do not continue it.
    """
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    _make_parent(Path(path))
    try:
        with open(path, "a+b", opener=functools.partial(os.open, mode=_rights(private))) as file:
            _end_last_line(file)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        name_file(error, path)
        raise


def _end_last_line(file: IO[bytes]) -> None:
    """Gives the last line its newline if it is whole, and removes it if not."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read() == b"\n":
        return
    file.seek(0)
    content = file.read()
    last = content[content.rfind(b"\n") + 1 :]
    try:
        json.loads(last.decode("utf-8"))
    except BAD_JSON:
        file.truncate(len(content) - len(last))
    else:
        file.write(b"\n")


def read_jsonl(path: str | os.PathLike[str], *, allow_cut: bool = False) -> list[dict[str, Any]]:
    """The objects of a jsonl file.

    Args:
        path: the file.
        allow_cut: leave out a last line without a newline, as an interrupted `append_jsonl` leaves it.

    Raises:
        ValueError: naming the file and the line, if a line is not a JSON object.
    """
    rows = []
    # Split as bytes, because a write that was cut may end within a character.
    with open_regular(path) as file:
        lines = file.read().split(b"\n")
    cut = lines.pop()
    if cut and not allow_cut:
        lines.append(cut)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"), object_pairs_hook=no_repeats)
        except BAD_JSON as error:
            raise ValueError(f"{path}, line {number}: not valid JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}.")
        rows.append(row)
    return rows


def sha256(path: str | os.PathLike[str]) -> str:
    """The hexadecimal sha256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(name: str) -> str:
    """A safe file name for any name: letters, digits, underscores, dots and hyphens, never a path.

    A changed name gets a hash, so that no two names share a file.

    >>> file_name("base-2.1"), file_name("a/b"), file_name("..")
    ('base-2.1', 'a_b-c14cddc0', '_-5ec1f7e7')
    """
    plain = re.sub(r"[^\w.-]+", "_", name[:100]).lstrip(".") or "_"
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def make_workdir(path: str) -> Path:
    """Creates the run's folder if it is missing. Returns its absolute path.

    Raises:
        ValueError: if the name is empty or not valid, the folder cannot be created or written to, or it contains a
            pipe or a device.
    """
    if not path:
        raise ValueError("--workdir is empty. Give the folder for checkpoints, predictions and reports: --workdir DIR.")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"--workdir={path!r} is not UTF-8 text, and results name their folder. Rename it.") from error
    if "\0" in path:
        raise ValueError(f"--workdir={path!r} contains the character 0, which no path may. Give another folder.")
    try:
        workdir = Path(path).expanduser().resolve()
    except RuntimeError as error:  # Path raises it for a loop of links, and for ~name without such a user
        raise ValueError(f"--workdir={path} leads nowhere: {error}. Give a folder you may write to.") from error
    except FileNotFoundError as error:  # the current folder, which `resolve` adds to a relative path, is gone
        raise ValueError(f"--workdir={path}: the current folder was removed. Change to another one (cd).") from error
    if os.path.islink(workdir):  # Python 3.13 resolves a loop of links to one of them
        raise ValueError(
            f"--workdir={path} leads nowhere: a link that leads to itself. Give a folder you may write to."
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"--workdir={path} is a file or is below one. Give a folder.") from error
    except OSError as error:
        why = f"cannot be made: {error.strerror}"
        raise ValueError(f"--workdir={path} {why}. Give a folder you may write to.") from error
    if not os.access(workdir, os.W_OK):
        raise ValueError(f"--workdir={path} cannot be written to. Give a folder you may write to.")
    for found in workdir.rglob("*"):
        if found.exists() and not (found.is_file() or found.is_dir()):
            raise ValueError(f"{found} is neither a file nor a folder: a run could wait for it for ever. Remove it.")
    return workdir
