"""Replies of a chat model in an append-only jsonl file, under the hash of the request."""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.chat_reply import Reply
from radvqa_jax.files import append_jsonl, name_file, open_regular

SYNC_EVERY = 0.25  # seconds between syncs; a crash of the machine, but not of the process, may lose the last replies


class _Line(NamedTuple):
    """One line of the file; earlier releases wrote neither `estimated` nor `id`."""

    key: str
    text: str
    finish: str
    model: str
    tokens: Annotated[int, Field(ge=0)]
    estimated: bool = False
    id: str = ""


class Cache:
    """Replies by key. Memory holds only their places in the file. Safe to use from several threads.

    Another process may append to the same file at the same time; its new replies appear when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        """Reads the keys of the file, which the first reply creates.

        Raises:
            ValueError: naming the line and the field, if the file is not a cache.
        """
        self.path = path
        self._file: int | None = None
        self._places: dict[str, tuple[int, int]] = {}  # key -> where its line begins, and its length in bytes
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        self._sync_at = 0.0
        if path.exists():
            for place, text, line in _read_lines(path):
                self._places[line.key] = (place, len(text))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, or None."""
        if key not in self._places:
            return None
        place, length = self._places[key]
        with self.path.open("rb") as file:
            file.seek(place)
            row = json.loads(file.read(length).removeprefix(typed_json.BOM))
        return Reply(**row, cached=True)

    def put(self, reply: Reply) -> None:
        """Keeps a reply under its key. It survives the death of the process; `sync` waits until it is on the disk.

        Raises:
            OSError: if the disk is full; the file has nothing of the reply. Or if the file was removed since.
        """
        row = reply._asdict()
        del row["cached"]
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")
        now = time.monotonic()
        with self._writing:
            file = self._open()
            try:
                place = _append(file, line)
                if not os.fstat(file).st_nlink:
                    raise FileNotFoundError(errno.ENOENT, "the cache of replies was removed during the run")
                self._places[reply.key] = (place, len(line))
            except OSError as error:
                name_file(error, self.path)
                raise
            self._written += 1
            if due := now >= self._sync_at:
                self._sync_at = now + SYNC_EVERY
        if due:  # outside the lock: one thread waits for the disk, and the others go on
            self.sync()

    def sync(self) -> None:
        """Waits until all replies that were put before are on the disk."""
        with self._syncing:
            upto, file = self._written, self._file
            if file is not None and self._synced < upto:
                os.fsync(file)
                self._synced = upto

    def close(self) -> None:
        """Writes all replies to the disk, and closes the file."""
        try:
            self.sync()
        finally:
            with self._writing, self._syncing:  # after a second Ctrl-C a thread may still write
                if self._file is not None:
                    os.close(self._file)
                self._file = None

    def _open(self) -> int:
        if self._file is None:
            append_jsonl(self.path, [])  # an interruption may have cut the last line
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        return self._file


def _append(file: int, line: bytes) -> int:
    """Appends a whole line, or nothing. Returns the place where it begins."""
    written = 0
    try:
        while written < len(line):  # where the disk fills within the line, `os.write` writes less without an error
            written += os.write(file, line[written:])
    except BaseException:
        end = os.lseek(file, 0, os.SEEK_CUR)
        if written and os.fstat(file).st_size == end:  # otherwise another process has appended
            os.ftruncate(file, end - written)
        raise
    # With O_APPEND, the position is after the written line, even if another process appends.
    return os.lseek(file, 0, os.SEEK_CUR) - len(line)


def _read_lines(path: Path) -> Iterator[tuple[int, bytes, _Line]]:
    """Yields (place, text, line) of each line, without a last line that an interruption cut."""
    place = 0
    with open_regular(path) as file:
        for number, text in enumerate(file, 1):
            try:
                line = typed_json.parse(
                    text.removeprefix(typed_json.BOM) if number == 1 else text, _Line, where=f"{path}, line {number}"
                )
            except typed_json.JsonError:
                if not text.endswith(b"\n"):
                    return
                raise
            yield place, text, line
            place += len(text)
