"""The evidence of written pairs: the rows of prepared sets, found by image."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.sources import find_prepared, make_builder, open_rows
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.checks import Item
from radvqa_jax.synthesis.duplicates import Known
from radvqa_jax.synthesis.support import Evidence
from tfds_builders import catalogue

Place = tuple[str, str, str]  # dataset, builder_config, split
EVALUATED = ("validation", "test")


class Evidences:
    """The rows with captions and cases behind written pairs. Texts are kept in memory; images are read on demand."""

    def __init__(self, candidates: Iterable[Candidate], data: DataConfig) -> None:
        """Loads the sets that the pairs name.

        Raises:
            ValueError: if a set is not prepared, with the command that does it.
        """
        self._sources: dict[Place, RowSource] = {}
        self._numbers: dict[Place, dict[str, int]] = {}
        self._rows: dict[Place, dict[str, Row]] = {}
        # By image and caption: pairs of a filtered source may be about another caption than an image's first.
        self._captioned: dict[Place, dict[tuple[str, str], Row]] = {}
        places = dict.fromkeys(map(_place, candidates))
        for dataset, builder_config, split in places:
            place = (dataset, builder_config, split)
            rows = self._sources[place] = open_rows(SourceConfig(dataset, builder_config, split), data)
            texts: dict[str, Row] = {}
            numbers: dict[str, int] = {}
            captioned: dict[tuple[str, str], Row] = {}
            for number, row in enumerate(rows.texts()):
                held = texts.get(row["image_id"])
                if held is None or (row["caption"].strip() and not held["caption"].strip()):
                    texts[row["image_id"]], numbers[row["image_id"]] = row, number
                captioned.setdefault((row["image_id"], _sha256(row["caption"])), row)
            self._rows[place], self._numbers[place], self._captioned[place] = texts, numbers, captioned

    def row(self, pair: Candidate) -> Row:
        """The texts of the row that a pair was written from.

        Raises:
            ValueError: if there is no such row, or its caption has changed.
        """
        place = _place(pair)
        row = self._captioned[place].get((pair.image_id, pair.caption_sha256))
        name = f"{pair.dataset}:{pair.prepared_split}"
        if pair.image_id not in self._rows[place]:
            raise ValueError(f"{name} has no image {pair.image_id!r}. Write the questions again.")
        if row is None:
            raise ValueError(
                f"The caption of {pair.image_id!r} in {name} is not the one that a question was written from: the set "
                "was prepared anew. Write the questions again, in a new workdir."
            )
        return row

    def image(self, pair: Candidate) -> bytes:
        """The encoded file of a pair's image."""
        place = _place(pair)
        return self._sources[place][self._numbers[place][pair.image_id]]["image"]

    def rows(self) -> list[dict[str, Any]]:
        """A row of every image, with its `dataset`, `builder_config` and `split`."""
        named = ("dataset", "builder_config", "split")
        return [
            row | dict(zip(named, place, strict=True)) for place, rows in self._rows.items() for row in rows.values()
        ]

    def fingerprints(self) -> list[dict[str, Any]]:
        """The fingerprint of each of the sets."""
        return [rows.fingerprint for rows in self._sources.values()]


def _sha256(caption: str) -> str:
    return hashlib.sha256(caption.encode()).hexdigest()


def _place(pair: Candidate) -> Place:
    return pair.dataset, pair.builder_config, pair.prepared_split


def make_items(candidates: Iterable[Candidate], evidences: Evidences) -> list[Item]:
    """The pairs with their evidence, which is read once for each row."""
    read: dict[tuple[Place, str, str], Evidence] = {}
    items = []
    for pair in candidates:
        row, key = evidences.row(pair), (_place(pair), pair.image_id, pair.caption_sha256)
        if key not in read:
            read[key] = Evidence.of(row)
        items.append(Item(pair, read[key]))
    return items


def prepared_sets(data: DataConfig) -> Iterator[SourceConfig]:
    """Yields every prepared validation and test split of all data sets except written ones and tables."""
    for dataset in catalogue.folders():
        if dataset in (WRITTEN, catalogue.TABLE):  # these have no list of configs; name them in checks.against
            continue
        for builder_config in catalogue.load(dataset).builder_configs:
            builder = make_builder(dataset, builder_config=builder_config, data=data)
            if builder.is_prepared():
                for split in EVALUATED:
                    if split in builder.info.splits:
                        yield SourceConfig(dataset=dataset, builder_config=builder_config, split=split)


def evaluated_questions(named: Iterable[SourceConfig], data: DataConfig) -> Iterator[Known]:
    """Yields the questions of named sets and of every prepared validation and test split.

    Raises:
        ValueError: if a named set is not prepared, with the command that does it.
    """
    seen: set[Place] = set()
    for source in (*named, *prepared_sets(data)):
        config = find_prepared(source, data).builder_config
        place = (source.dataset, config.name if config else "", source.split)
        if place in seen:
            continue
        seen.add(place)
        rows = open_rows(source, data)
        for row in rows.texts():
            if row["question"]:
                yield Known(rows.name, row["question_id"], row["question"], row["answer"])
