"""The counts of a data set, and those that its official release should have.

`tfds_builders/<name>/counts.json` is the manifest: {builder config: {split: {figure: number, or [least, most]}}}.
Figures are those of the official files, before any row is left out; `left out` is the number of rows left out. A figure
that was not counted on the official files is not in the manifest: it is reported, but not compared.
"""

import collections
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Figures = dict[str, dict[str, int]]  # split -> figure -> number


class Counts:
    """Figures by split, counted row by row."""

    def __init__(self) -> None:
        self._numbers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self._distinct: dict[str, dict[str, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))

    def add(self, split: str, figure: str, n: int = 1) -> None:
        """Adds to a figure; n=0 makes it known."""
        self._numbers[split][figure] += n

    def distinct(self, split: str, figure: str, value: str) -> None:
        """Counts a value once, however often it occurs."""
        if value:
            self._distinct[split][figure].add(value)

    def row(self, split: str, row: Mapping[str, Any]) -> None:
        """Counts a row of common features under every figure to which it belongs."""
        self.add(split, "rows")
        self.distinct(split, "images", row["image_id"])
        self.distinct(split, "cases", row["case_id"])
        if row["answer_type"]:
            self.add(split, row["answer_type"])
        if row["question"]:
            self.add(split, "yes/no", int(row["yes_no"]))
        for name in ("language", "modality"):
            if row[name]:
                self.add(split, f"{name} {row[name]}")

    def found(self) -> Figures:
        """Every figure."""
        splits = dict.fromkeys([*self._numbers, *self._distinct])
        return {
            split: dict(self._numbers[split]) | {name: len(values) for name, values in self._distinct[split].items()}
            for split in splits
        }


def read_manifest(folder: Path, config: str) -> dict[str, dict[str, Any]]:
    """{split: {figure: number or [least, most]}} of counts.json for a builder config."""
    return json.loads((folder / "counts.json").read_text(encoding="utf-8"))[config]


def differences(found: Figures, expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The expected figures that differ from the found ones, and the splits that are not expected, in words.

    >>> differences({"train": {"rows": 9, "images": 3}}, {"train": {"rows": 10, "images": [1, 4]}, "test": {"rows": 2}})
    ['train rows: 9 instead of 10', 'test rows: 0 instead of 2']
    """
    wrong = []
    for split, figures in expected.items():
        for figure, want in figures.items():
            number = found.get(split, {}).get(figure, 0)
            least, most = want if isinstance(want, list) else (want, want)
            if not least <= number <= most:
                wanted = f"{least} to {most}" if least != most else str(want)
                wrong.append(f"{split} {figure}: {number} instead of {wanted}")
    return wrong + [f"{split}: a split that is not expected" for split in _unexpected(found, expected)]


def _unexpected(found: Figures, expected: Iterable[str]) -> list[str]:
    return [split for split in found if split not in set(expected)]
