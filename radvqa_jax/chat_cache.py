"""Replies of a chat model in an append-only jsonl file, by the hash of the request."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.chat_reply import Reply
from radvqa_jax.files import append_jsonl, open_regular


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
    """Replies by key. Only their places are held in memory. Safe to use from several threads.

    Another process may append to the same file at the same time; its new replies are seen at the next opening.
    """

    def __init__(self, path: Path) -> None:
        """Reads which replies there are; the file is made with the first one.

        Raises:
            ValueError: naming the line and the field, if the file holds something else.
        """
        self.path = path
        self._file: int | None = None
        self._places: dict[str, tuple[int, int]] = {}  # key -> where its line begins, and its length in bytes
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
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
        """Keeps a reply under its key; it is on the disk when this returns."""
        row = reply._asdict()
        del row["cached"]
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")
        with self._writing:
            file = self._open()
            os.write(file, line)
            # Appending, the position is behind what was written, also where another process appends.
            self._places[reply.key] = (os.lseek(file, 0, os.SEEK_CUR) - len(line), len(line))
            self._written += 1
            mine = self._written
        # One thread waits for the disk for all whose lines are there by then.
        with self._syncing:
            if self._synced < mine:
                upto = self._written
                os.fsync(file)
                self._synced = upto

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        if self._file is None:
            append_jsonl(self.path, [])  # an interruption may have cut the last line
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        return self._file


def _read_lines(path: Path) -> Iterator[tuple[int, bytes, _Line]]:
    """Yields (place, text, line) of each line; a last one that an interruption cut is left out."""
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
