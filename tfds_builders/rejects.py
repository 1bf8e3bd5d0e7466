"""Records the rows that a builder changed or left out in rejects.jsonl, so that nothing disappears silently."""

import collections
import dataclasses
import json
import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

FILE_NAME = "rejects.jsonl"
Line = TypeVar("Line")
EXAMPLES = 3  # of each reason, in a message


@dataclasses.dataclass
class Rejects:
    """The lines, in the order in which they were noted.

    A line has `dataset`, `split`, `id`, `field`, `reason` and `action`. `repaired` means that the value differs from
    the authors' (`before`, `after`). `dropped` means that the row (`row`) is left out or, if `field` is named, only
    that field of a row that is kept.
    """

    dataset: str
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def row(self, split: str, identity: str) -> "RowRejects":
        """The recorder of one row's changes."""
        return RowRejects(self, split, identity)

    def by_id(self, lines: Iterable[tuple[str, Line]], table: str, *, split: str, key: str) -> dict[str, Line]:
        """The lines of a table by their id. Of several that differ the last one counts; each of the others is noted."""
        found: dict[str, Line] = {}
        for identity, line in lines:
            if (before := found.get(identity, line)) != line:
                reason = f"{table} has several lines with one {key}, of which the last counts"
                self.row(split, identity).repaired(key, reason, before=before, after=line)
            found[identity] = line
        return found

    def summary(self, action: Literal["repaired", "dropped"]) -> dict[str, int]:
        """{reason without the part after `: `: number of lines}, the most frequent first."""
        reasons = (line["reason"].split(": ")[0] for line in self.rows if line["action"] == action)
        return dict(collections.Counter(reasons).most_common())

    def told(self, action: Literal["repaired", "dropped"]) -> str:
        """The reasons with their counts, each with the first few files or rows that have it.

        >>> rejects = Rejects("x")
        >>> rejects.row("train", "7").dropped("image file is absent: imgs/a.jpg", row={})
        >>> rejects.told("dropped")
        '1 x image file is absent (imgs/a.jpg)'
        """
        things: dict[str, list[str]] = {}
        for line in self.rows:
            if line["action"] == action:
                reason, _, thing = line["reason"].partition(": ")
                things.setdefault(reason, []).append(thing or f"{line['split']} {line['id']}")
        told = []
        for reason, all_of_it in sorted(things.items(), key=lambda item: -len(item[1])):
            first = list(dict.fromkeys(all_of_it))[:EXAMPLES]
            more = "; …" if len(set(all_of_it)) > len(first) else ""
            told.append(f"{len(all_of_it)} x {reason} ({'; '.join(first)}{more})")
        return "; ".join(told)

    def write(self, folder: Path) -> None:
        """Writes rejects.jsonl, whole or not at all."""
        text = "".join(json.dumps(_finite(line), ensure_ascii=False, default=repr) + "\n" for line in self.rows)
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # a row that is left out may hold anything
        write_whole(folder / FILE_NAME, text)


@dataclasses.dataclass(frozen=True)
class RowRejects:
    """Notes what happens to one row."""

    rejects: Rejects
    split: str
    identity: str

    def _note(self, action: str, field: str, reason: str, **more: Any) -> None:
        line = {"dataset": self.rejects.dataset, "split": self.split, "id": self.identity, "field": field}
        self.rejects.rows.append(line | {"reason": reason, "action": action} | more)

    def repaired(self, field: str, reason: str, *, before: Any, after: Any) -> None:
        """Notes that a value differs from the authors'."""
        self._note("repaired", field, reason, before=before, after=after)

    def dropped(self, reason: str, *, row: Any, field: str = "") -> None:
        """Notes that a row is left out or, if `field` is given, that the row loses this field."""
        self._note("dropped", field, reason, row=row)

    def text(self, raw: Any, field: str, *, missing: Collection[str] = (), collapse: bool = False) -> str:
        """A value as text; notes every change.

        Args:
            raw: text, a number, or None for missing.
            field: the authors' name of the field.
            missing: the authors' notations for a missing value; they become "", which is not a repair.
            collapse: every run of white space becomes one space; otherwise only white space at the edges is removed.

        Raises:
            ValueError: for a boolean, a list or an object.
        """
        if raw is None:
            return ""
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            where = f"{self.rejects.dataset}, {self.split} {self.identity}"
            raise ValueError(f"{where}: {field} must be text or a number; got {raw!r}.")
        if not isinstance(raw, str):
            self.repaired(field, f"{field} is a number", before=raw, after=str(raw))
            return str(raw)
        if any("\ud800" <= character <= "\udfff" for character in raw):
            whole = raw.encode("utf-8", "replace").decode("utf-8")
            self.repaired(field, "half of a character", before=repr(raw), after=whole)
            raw = whole
        text = " ".join(raw.split()) if collapse else raw.strip()
        if text in missing:
            return ""
        if text != raw:
            self.repaired(field, "white space", before=raw, after=text)
        return text

    def path(self, raw: Any, field: str) -> str:
        """The path in a text, with `/` between its parts; notes backslashes."""
        text = self.text(raw, field)
        if "\\" in text:
            self.repaired(field, "backslashes in a path", before=text, after=clean_path(text))
        return clean_path(text)


def _finite(value: Any) -> Any:
    """A value with NaN and infinity, which JSON does not have, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def clean_path(text: str) -> str:
    r"""A path of the authors with `/` between its parts; some were written on Windows.

    >>> clean_path("xmlab0\\source.jpg"), clean_path("./imgs/a.jpg")
    ('xmlab0/source.jpg', 'imgs/a.jpg')
    """
    return "/".join(part for part in text.replace("\\", "/").split("/") if part not in ("", "."))


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes a file so that it is whole or absent; text as UTF-8."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    os.replace(temporary, path)
