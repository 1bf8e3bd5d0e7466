"""Prepared TFDS data sets as rows of plain Python values, without TensorFlow."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds

from radvqa_jax.config import DataConfig, FilterConfig, SourceConfig
from radvqa_jax.data.filters import describe, matching
from radvqa_jax.data.text_index import load_index
from radvqa_jax.prompts import row_text
from radvqa_jax.trees import nearest
from tfds_builders.phantom_rad.phantom_rad_dataset_builder import Builder as PhantomRad
from tfds_builders.vqa_rad.vqa_rad_dataset_builder import Builder as VqaRad

Row = dict[str, Any]

BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {"phantom_rad": PhantomRad, "vqa_rad": VqaRad}

# Recipes already name these; their builders do not exist yet.
NOT_YET = ("slake", "rocov2", "medpix_2", "pmc_vqa", "path_vqa", "med_halt")

TEXTS_AT_A_TIME = 4096  # rows that RowSource.texts turns into Python values at a time


def make_builder(dataset: str, *, builder_config: str, data_dir: str) -> tfds.core.GeneratorBasedBuilder:
    """Returns the TFDS builder of a data set; `builder_config` empty means its default.

    Raises:
        ValueError: naming the data sets and configs that there are.
    """
    if dataset in NOT_YET:
        raise ValueError(f"The data set {dataset!r} has no builder yet. There are builders for {', '.join(BUILDERS)}.")
    if dataset not in BUILDERS:
        near = nearest(dataset, [*BUILDERS, *NOT_YET])
        raise ValueError(f"There is no data set {dataset!r}.{near} There are builders for {', '.join(BUILDERS)}.")
    builder = BUILDERS[dataset]
    if builder_config and builder_config not in builder.builder_configs:
        known = list(builder.builder_configs)
        near = nearest(builder_config, known)
        raise ValueError(
            f"{dataset} has no builder_config {builder_config!r}.{near} It has: {', '.join(known) or 'none'}."
        )
    root = Path(data_dir).expanduser()
    return builder(data_dir=root, config=builder_config or None, file_format="array_record")


def prepare(dataset: str, *, builder_config: str = "", data_dir: str, manual_dir: str = "") -> dict[str, Any]:
    """Prepares a data set as ArrayRecord files, unless that is done, and returns what there is.

    The result has `dataset`, `builder_config`, `version`, `path`, `splits` ({split: rows}) and `rejects`, the path of
    the list of repaired and dropped rows, empty if the builder keeps none.

    Raises:
        ValueError: if files must be got by hand and manual_dir does not say where they are, or they are not as
            expected.
    """
    builder = make_builder(dataset, builder_config=builder_config, data_dir=data_dir)
    if not builder.is_prepared() and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        folder = Path(manual_dir).expanduser()
        if not manual_dir or not folder.is_dir():
            raise ValueError(
                f"{dataset} cannot be downloaded by a program, and data.manual_dir={manual_dir!r} is not a folder. "
                + builder.MANUAL_DOWNLOAD_INSTRUCTIONS
            )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir or None))
    rejects = Path(builder.data_dir) / "rejects.jsonl"
    return {
        "dataset": dataset,
        "builder_config": builder.builder_config.name if builder.builder_config else "",
        "version": str(builder.version),
        "path": str(builder.data_dir),
        "splits": {name: info.num_examples for name, info in builder.info.splits.items()},
        "rejects": str(rejects) if rejects.is_file() else "",
    }


def _plain(value: Any) -> Any:
    """Returns text as str, numbers and booleans as Python's own, sequences of these as lists; arrays as they are."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _plain(value.item())
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [_plain(item) for item in value]
    return value


class Prepared(NamedTuple):
    """Where a prepared split lies."""

    folder: Path
    split: str
    paths: list[Path]  # its files


class RowSource(Sequence[Row]):
    """The rows of one split, by number, in the order of the prepared files.

    A row is a dict of the features of tfds_builders/features.py and those that its data set alone offers. Images are
    the encoded bytes of a file; text is str; it can be mutated by whoever asked for it.
    """

    def __init__(
        self,
        data: Sequence[Any],
        *,
        indices: Sequence[int],
        source: SourceConfig,
        fingerprint: dict[str, Any],
        encoded: Sequence[str] = ("image",),
        index: Callable[[], pa.Table] | None = None,
        prepared: Prepared | None = None,
    ) -> None:
        """Takes the rows of `data` that `indices` names.

        Args:
            data: rows by number, as TFDS gives them without decoding images.
            indices: which of them, in which order.
            source: what was asked for.
            fingerprint: what was found, for provenance; `n`, the number of rows, is added.
            encoded: features that stay bytes.
            index: gives the texts and numbers of all rows of `data`; without it they are read from the rows.
            prepared: where the split lies, for what is kept beside it.
        """
        self.prepared = prepared
        self._data = data
        self._index = index
        self._encoded = frozenset(encoded)
        self.indices = np.asarray(indices, np.int64)
        self.source = source
        self.fingerprint: dict[str, Any] = fingerprint | {"n": len(self.indices)}
        self._shown: np.ndarray | None = None  # rows of `data` whose images are shown instead

    @property
    def name(self) -> str:
        """The data set, builder config and split, as records name it: `vqa_rad/official:train`."""
        config = str(self.fingerprint["builder_config"])
        return f"{self.source.dataset}{config and '/' + config}:{self.source.split}"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Row:  # pyright: ignore[reportIncompatibleMethodOverride] no slices
        row = self._data[int(self.indices[index])]
        plain = {key: value if key in self._encoded else _plain(value) for key, value in row.items()}
        if self._shown is None:
            return plain
        shown = self._data[int(self._shown[index])]
        return plain | {"image": shown["image"], "image_used": _plain(shown["image_id"])}

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}  # workers make batches and need no index

    def text_fields(self) -> list[str]:
        """Returns the features of rows that are one text each."""
        if self._index is not None:
            schema = self._index().schema
            return [name for name in schema.names if str(schema.field(name).type) == "string"]
        return [key for key, value in self._plain_row(0).items() if isinstance(value, str)] if len(self) else []

    def column(self, name: str) -> list[Any]:
        """Returns one feature, not an image, of every row; images are not read."""
        if self._index is not None:
            return self._index().column(name).take(self.indices).to_pylist()
        return [self._plain_row(index)[name] for index in range(len(self))]

    def texts(self) -> Iterator[Row]:
        """Yields every row without its images and arrays, which are not read."""
        if self._index is None:
            yield from (self._plain_row(index) for index in range(len(self)))
            return
        for begin in range(0, len(self), TEXTS_AT_A_TIME):
            yield from self._index().take(self.indices[begin : begin + TEXTS_AT_A_TIME]).to_pylist()

    def _plain_row(self, index: int) -> Row:
        row = self._data[int(self.indices[index])]
        return {key: _plain(value) for key, value in row.items() if key not in self._encoded}

    def select(self, indices: Sequence[int]) -> "RowSource":
        """Returns the rows with these numbers, in this order."""
        numbers = np.asarray(indices, np.int64)
        chosen = self._with_indices(self.indices[numbers])
        if self._shown is not None:
            chosen._shown = self._shown[numbers]
        return chosen

    def where(self, condition: FilterConfig) -> "RowSource":
        """Returns the rows that fulfil a condition; their fingerprint lists it, with the rows before and after."""
        chosen = self.select(matching(self, condition))
        entry = {"filter": describe(condition), "before": len(self), "after": len(chosen)}
        chosen.fingerprint["filters"] = [*self.fingerprint.get("filters", []), entry]
        return chosen

    def whole(self) -> "RowSource":
        """Returns all rows of the split, whatever was selected, in the order of the prepared files."""
        return self._with_indices(np.arange(len(self._data)))

    def _with_indices(self, indices: np.ndarray) -> "RowSource":
        return RowSource(
            self._data,
            indices=indices.tolist(),
            source=self.source,
            fingerprint=self.fingerprint,
            encoded=tuple(self._encoded),
            index=self._index,
            prepared=self.prepared,
        )

    def with_images_of(self, others: Sequence[int]) -> "RowSource":
        """Returns the same rows, each with the image of the row that `others` numbers, and its id as `image_used`."""
        if len(others) != len(self):
            raise ValueError(f"with_images_of needs one number a row: {len(self)} rows, {len(others)} numbers.")
        swapped = self.select(range(len(self)))
        swapped._shown = self.indices[np.asarray(others, np.int64)]
        swapped.fingerprint["images_of"] = hashlib.sha256(swapped._shown.tobytes()).hexdigest()
        return swapped

    def captioned(self) -> "RowSource":
        """Returns one row for each image that has a caption: its first that has one."""
        first: dict[str, int] = {}
        captions, images = self.column("caption"), self.column("image_id")
        for index, (caption, image) in enumerate(zip(captions, images, strict=True)):
            if caption.strip():
                first.setdefault(image, index)
        return self.select(list(first.values()))

    def text(self, row: Row, *, template: str) -> tuple[str, str]:
        """Returns (prefix, suffix) of one of these rows for the source's task."""
        return row_text(row, task=self.source.task, template=template)


def _fingerprint(builder: tfds.core.GeneratorBasedBuilder, source: SourceConfig) -> dict[str, Any]:
    """Returns what identifies a prepared split. `files` is a sha256 over its files' names and sizes."""
    info = builder.info.splits[source.split]
    files = [Path(path) for path in info.filepaths]
    digest = hashlib.sha256("\n".join(f"{file.name} {file.stat().st_size}" for file in files).encode())
    return {
        "dataset": source.dataset,
        "builder_config": builder.builder_config.name if builder.builder_config else "",
        "version": str(builder.version),
        "split": source.split,
        "task": source.task,
        "rows": info.num_examples,
        "files": digest.hexdigest(),
    }


def _build_command(source: SourceConfig, data: DataConfig) -> str:
    parts = [
        "python -m radvqa_jax.main --config configs/build_data.py",
        f"--config.dataset={source.dataset}",
        f"--config.builder_config={source.builder_config}" if source.builder_config else "",
        f"--config.data.data_dir={data.data_dir}" if data.data_dir != DataConfig().data_dir else "",
        f"--config.data.manual_dir={data.manual_dir or 'FOLDER'}"
        if BUILDERS[source.dataset].MANUAL_DOWNLOAD_INSTRUCTIONS
        else "",
        "--workdir DIR",
    ]
    return " ".join(part for part in parts if part)


def find_prepared(source: SourceConfig, data: DataConfig) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder of a source that is prepared, without reading a row.

    Raises:
        ValueError: for an unknown data set, config or split, or one that is not prepared, with the command that does
            it.
    """
    builder = make_builder(source.dataset, builder_config=source.builder_config, data_dir=data.data_dir)
    if not builder.is_prepared():
        raise ValueError(
            f"{source.dataset} is not prepared: there is no {builder.data_dir}. Run: {_build_command(source, data)}"
        )
    if source.split not in builder.info.splits:
        known = list(builder.info.splits)
        near = nearest(source.split, known)
        raise ValueError(f"{source.dataset} has no split {source.split!r}.{near} It has: {', '.join(known)}.")
    return builder


def load_rows(source: SourceConfig, data: DataConfig, *, seed: int = 0) -> RowSource:
    """Returns the rows of one source.

    The filters of `source.where` come first. With task `caption` one row is left for each image that has a caption.
    `source.limit` keeps the first so many of a shuffle by `seed`, in the order of the files, so a smaller limit is part
    of a larger one.

    Raises:
        ValueError: as `find_prepared`, or if no row is left.
    """
    builder = find_prepared(source, data)
    features: Any = builder.info.features
    images = [name for name, kind in features.items() if isinstance(kind, tfds.features.Image)]
    decoders = {name: tfds.decode.SkipDecoding() for name in images}
    found: Any = builder.as_data_source(source.split, decoders=decoders)  # pyright: ignore[reportCallIssue] decorated
    fingerprint = _fingerprint(builder, source)
    paths = [Path(path) for path in builder.info.splits[source.split].filepaths]
    prepared = Prepared(Path(builder.data_dir), source.split, paths)

    @functools.cache
    def index() -> pa.Table:
        return load_index(found, features, folder=prepared.folder, split=source.split, paths=paths)

    rows = RowSource(
        found,
        indices=range(len(found)),
        source=source,
        fingerprint=fingerprint,
        encoded=images,
        index=index,
        prepared=prepared,
    )
    for condition in source.where:
        rows = rows.where(condition)
    if source.task == "caption":
        rows = rows.captioned()
    if source.limit:
        shuffled = np.random.default_rng(seed).permutation(len(rows))
        rows = rows.select(sorted(shuffled[: source.limit].tolist()))
    if not len(rows):
        raise ValueError(f"{rows.name} has no rows for task={source.task!r}. Give a split or a task that has some.")
    return rows
