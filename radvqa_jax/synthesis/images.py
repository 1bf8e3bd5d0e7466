"""The images that questions are written about. Every case belongs to one split before anything is written.

A case in several splits of a data set belongs to the most held-out one (test, then validation). A data set with a
single split is split here by a hash of its cases, the same in every run. MedM drew its split anew each time, so test
cases of one run were training cases of another.
"""

import dataclasses
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from radvqa_jax.config import DataConfig, SourceConfig, SynthesisConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import find_prepared, load_rows
from radvqa_jax.synthesis.candidates import Candidate

SPLITS = ("train", "validation", "test")  # held out least to most


class Image(NamedTuple):
    """One image with a caption and the texts about it. The texts come from outside and are not trusted."""

    dataset: str
    builder_config: str
    prepared_split: str  # where the row is
    split: str  # the split of the questions about it
    case_id: str  # the image id if the data set names no case
    image_id: str
    row: dict[str, Any]  # its texts


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone, uniformly distributed."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split_kind(name: str) -> str:
    """The one of the three splits to which a split of a data set corresponds.

    >>> [split_kind(name) for name in ("train_2", "test_clean", "dev")]
    ['train', 'test', 'validation']
    """
    if "test" in name:
        return "test"
    return "validation" if name.startswith(("val", "dev")) else "train"


def drawn_split(dataset: str, case_id: str, held_out: Sequence[float]) -> str:
    """The split of a case, for a data set with a single split; `held_out`: shares of validation and test."""
    at = unit_hash("split", dataset, case_id)
    validation, test = held_out
    return "test" if at < test else "validation" if at < test + validation else "train"


def _case(dataset: str, case_id: str, image_id: str) -> tuple[str, str]:
    return dataset, case_id or image_id


class Images:
    """The images of the configured sources, each once, in the order of the prepared files; needs constant memory."""

    def __init__(self, config: SynthesisConfig, data: DataConfig, *, seed: int) -> None:
        """Reads ids and assigns splits; does not read texts.

        Args:
            config: sources, their held-out shares, and a limit on images.
            data: where prepared sets are.
            seed: of the draw of images under a limit.

        Raises:
            ValueError: if a source is not prepared, with the command that does it, or has no caption.
        """
        self._rows: list[RowSource] = []
        for source in config.sources:
            self._rows += _all_splits(source, data, seed=seed)
        self._splits: dict[tuple[str, str], str] = {}
        self.moved: set[tuple[str, str]] = set()  # cases that the data set has in several splits
        self._decide(config.writing.held_out)
        self._chosen = self._choose(config.writing.limit, seed=seed) if config.writing.limit else None

    def __len__(self) -> int:
        return sum(map(len, self._rows)) if self._chosen is None else len(self._chosen)

    def __iter__(self) -> Iterator[Image]:
        for rows in self._rows:
            dataset, builder_config = rows.source.dataset, str(rows.fingerprint["builder_config"])
            for row in rows.texts():
                image_id = row["image_id"]
                if self._chosen is not None and (dataset, builder_config, image_id) not in self._chosen:
                    continue
                case = _case(dataset, row["case_id"], image_id)
                yield Image(dataset, builder_config, rows.source.split, self._splits[case], case[1], image_id, row)

    def check_splits(self, pairs: Iterable[Candidate]) -> None:
        """Raises ValueError if a pair has another case or split than its image: a line was edited.

        The id of a pair does not cover them, and a test case must not become one of training.
        """
        cases = {
            (rows.source.dataset, str(rows.fingerprint["builder_config"]), image): _case(
                rows.source.dataset, case, image
            )
            for rows, case, image in self._ids()
        }
        for pair in pairs:
            case = cases.get((pair.dataset, pair.builder_config, pair.image_id))
            if case is None:
                continue  # no longer an image of a source; its pairs are not used
            said, right = (pair.case_id, pair.split), (case[1], self._splits[case])
            if said != right:
                raise ValueError(
                    f"The pair {pair.candidate_id} of candidates.jsonl says case {said[0]!r} in {said[1]}, and its "
                    f"image {pair.image_id!r} belongs to case {right[0]!r} in {right[1]}: the line was edited, or the "
                    "splits were drawn with other settings. Put it back, or write the questions in a new workdir."
                )

    def values(self, dataset: str, name: str, *, most: int = 50) -> list[str]:
        """The values of a text field in a data set, sorted; empty if there are too many for a vocabulary."""
        found: set[str] = set()
        for rows in self._rows:
            if rows.source.dataset == dataset and name in rows.text_fields():
                found |= set(rows.column(name)) - {""}
        return sorted(found) if len(found) <= most else []

    @property
    def datasets(self) -> list[str]:
        """The data sets, each once."""
        return list(dict.fromkeys(rows.source.dataset for rows in self._rows))

    @property
    def fingerprints(self) -> list[dict[str, Any]]:
        """The fingerprint of each prepared split that is read."""
        return [rows.fingerprint for rows in self._rows]

    def _ids(self) -> Iterator[tuple[RowSource, str, str]]:
        for rows in self._rows:
            for case_id, image_id in zip(rows.column("case_id"), rows.column("image_id"), strict=True):
                yield rows, case_id, image_id

    def _decide(self, held_out: Sequence[float]) -> None:
        kinds: dict[str, set[str]] = {}
        for rows in self._rows:
            kinds.setdefault(rows.source.dataset, set()).add(split_kind(rows.source.split))
        for rows, case_id, image_id in self._ids():
            dataset = rows.source.dataset
            case = _case(dataset, case_id, image_id)
            if kinds[dataset] == {"train"}:
                split = drawn_split(dataset, case[1], held_out)
            else:
                split = split_kind(rows.source.split)
            known = self._splits.setdefault(case, split)
            if known != split:
                self.moved.add(case)
                self._splits[case] = max(known, split, key=SPLITS.index)

    def _choose(self, limit: int, *, seed: int) -> set[tuple[str, str, str]]:
        """The images within a limit; those of a smaller limit are a subset of those of a larger one."""
        ids = ((rows.source.dataset, str(rows.fingerprint["builder_config"]), image) for rows, _, image in self._ids())
        return set(heapq.nsmallest(limit, ids, key=lambda image: unit_hash("limit", seed, *image)))


def _all_splits(source: SourceConfig, data: DataConfig, *, seed: int) -> list[RowSource]:
    """The images with captions of every split of a source."""
    first = dataclasses.replace(source, task="caption")
    builder = find_prepared(first, data)
    return [load_rows(dataclasses.replace(first, split=split), data, seed=seed) for split in builder.info.splits]
