"""The predictions file of several processes: reads the answers kept so far, and joins the parts in order."""

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax.evaluation.kept_answers import check_texts, parts_of, read_kept
from radvqa_jax.files import append_jsonl, write_jsonl
from radvqa_jax.processes import Group
from radvqa_jax.schema import Record

LAG = 60.0  # seconds that a network file system may take to show another machine's writes


class KeptTogether:
    """One predictions file, which the first process of a group reads and writes for all of them."""

    def __init__(self, path: Path, question_ids: Sequence[str], fingerprint: dict[str, Any], *, group: Group) -> None:
        """Takes the file, all questions in order, the settings that the answers depend on, and the processes."""
        self._path, self._names, self._fingerprint, self._group = path, question_ids, fingerprint, group
        self._kept: dict[str, Record] = {}

    def begin(self, decode: Callable[[Sequence[int]], str]) -> Mapping[str, Record]:
        """{question_id: record} of the questions answered so far, in the file or in parts; the same in every process.

        Raises:
            ValueError: as `read_kept` and `check_texts`; `decode` gives the text of token ids.
        """

        def find() -> bytes:
            self._kept = read_kept(self._path, self._names, self._fingerprint)
            check_texts(self._path, self._kept.values(), decode)
            self._settle([*self._kept.values()])
            return self._pack()

        self._unpack(self._group.from_first(find, what=f"{self._path.name} begins"))
        return self._kept

    def end(self) -> list[Record]:
        """The record of every question, in order; leaves the file without parts, once all processes have answered.

        Raises:
            ValueError: if the first process does not see the lines that another one has written.
        """
        unfinished = len(self._kept) < len(self._names)

        def put_together() -> bytes:
            if unfinished:
                self._kept = self._read_all()
            ordered = {name: self._kept[name] for name in self._names}
            anew, self._kept = list(self._kept) != list(ordered), ordered
            self._settle([*ordered.values()], anew=anew)
            return self._pack() if unfinished else b""

        self._group.gather(what=f"{self._path.name} is answered")
        whole = self._group.from_first(put_together, what=f"{self._path.name} is whole")
        if unfinished:
            self._unpack(whole)
        return [self._kept[name] for name in self._names]

    def _pack(self) -> bytes:
        """The kept answers, for the other processes; nothing if there are no others."""
        if self._group.count == 1:
            return b""
        return zlib.compress(json.dumps([record.to_json() for record in self._kept.values()]).encode(), 1)

    def _unpack(self, data: bytes) -> None:
        if not self._group.first:
            where = f"{self._path.name} of {self._group.name(0)}"
            records = [Record.from_json(row, where=where) for row in json.loads(zlib.decompress(data))]
            self._kept = {record.question_id: record for record in records}

    def _read_all(self) -> dict[str, Record]:
        until = time.monotonic() + (LAG if self._group.count > 1 else 0.0)
        while True:
            found = read_kept(self._path, self._names, self._fingerprint)
            if len(found) == len(self._names):
                return found
            if time.monotonic() >= until:
                raise ValueError(
                    f"{len(self._names) - len(found)} of {len(self._names)} answers are not in {self._path} nor in its "
                    "parts, though every process has answered its share. --workdir must be one folder that all "
                    "processes see. The same command answers the missing questions."
                )
            time.sleep(1.0)

    def _settle(self, records: Sequence[Record], *, anew: bool = False) -> None:
        """Puts the records into the file if parts hold some of them (or `anew`), and removes the parts."""
        parts = parts_of(self._path)
        if parts or anew:
            write_jsonl(self._path, [record.to_json() for record in records])
        elif self._path.exists() or self._group.count > 1:  # the file's description stays with it
            append_jsonl(self._path, [])  # an interruption may have cut only the newline
        for part in parts:
            part.unlink()
