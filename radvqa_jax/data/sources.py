"""Prepared TFDS data sets as rows of plain Python values, without TensorFlow."""

import functools
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from PIL import Image

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data import prepared_files
from radvqa_jax.data.dicom import read_dicom
from radvqa_jax.data.dicom_guard import is_dicom
from radvqa_jax.data.dicom_window import WINDOWS, DoesNotApply
from radvqa_jax.data.fingerprint import make_fingerprint
from radvqa_jax.data.prepared_options import check_set_options
from radvqa_jax.data.prepared_report import read_origin, read_record
from radvqa_jax.data.replacing import put_back
from radvqa_jax.data.rows import Prepared, RowSource
from radvqa_jax.data.text_index import load_index
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.data.written import write_command, written_builder
from radvqa_jax.shell import command
from radvqa_jax.trees import nearest
from tfds_builders import catalogue
from tfds_builders.builder import OfficialFilesBuilder
from tfds_builders.table.table_dataset_builder import Builder as Table
from tfds_builders.table.table_dataset_builder import TableConfig, table_config
from tfds_builders.table.table_images import Converted
from tfds_builders.written.written_dataset_builder import Builder as Written


def make_builder(dataset: str, *, builder_config: str, data: DataConfig) -> tfds.core.DatasetBuilder:
    """The TFDS builder of a data set; `builder_config` empty means its default, of `table` data.name.

    Raises:
        ValueError: naming the known data sets and configs, or the damaged file of a prepared data set.
    """
    known = catalogue.folders()
    if dataset not in known:
        near = nearest(dataset, known)
        raise ValueError(f"There is no data set {dataset!r}.{near} There are builders for {', '.join(known)}.")
    way_out = _way_out(dataset, builder_config)
    # TFDS raises an assertion for a description of another version or without one.
    refused = (
        ParseError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
    )
    prepared_files.check_regular(Path(data.data_dir).expanduser() / dataset, way_out=way_out)
    try:
        builder = _open_builder(dataset, builder_config, data)
        if not builder.is_prepared() and put_back(Path(builder.data_dir)):
            builder = _open_builder(dataset, builder_config, data)
    except refused as error:
        raise ValueError(_damaged(dataset, data, error) + way_out) from error
    folder = Path(builder.data_dir)
    if builder.is_prepared():
        prepared_files.check(folder, read_record(folder).get("prepared_files", {}), way_out=way_out)
    return builder


def check_names(names: Sequence[str], *, field: str) -> None:
    """Raises ValueError if a name of a model card's data sets has no builder: its licence is unknown."""
    known = catalogue.folders()
    for number, name in enumerate(names):
        if name not in known:
            raise ValueError(
                f"{field}[{number}]={name!r} is no data set.{nearest(name, known)} There are {', '.join(known)}. Leave "
                "another one out, and add it and its licence to the card by hand."
            )


def _way_out(dataset: str, builder_config: str) -> str:
    if dataset == WRITTEN:
        return f"Write it anew: {write_command(builder_config)}"
    return "Prepare it anew: configs/build_data.py with --config.data.rebuild=true (in Python: data.rebuild=True)."


def _damaged(dataset: str, data: DataConfig, error: Exception) -> str:
    why = " ".join(str(error).split())[:200]
    place = Path(data.data_dir).expanduser() / dataset
    return f"dataset_info.json or features.json of a prepared data set below {place} is damaged: {why}. "


def _open_builder(dataset: str, builder_config: str, data: DataConfig) -> tfds.core.DatasetBuilder:
    builder = catalogue.load(dataset)
    root = Path(data.data_dir).expanduser()
    if builder is Table:
        return _table(root, builder_config or data.name)
    if builder is Written:
        return written_builder(builder_config, root)
    if builder_config and builder_config not in builder.builder_configs:
        known = list(builder.builder_configs)
        near = nearest(builder_config, known)
        raise ValueError(
            f"{dataset} has no builder_config {builder_config!r}.{near} It has: {', '.join(known) or 'none'}."
        )
    options: dict[str, Any] = {}
    if issubclass(builder, OfficialFilesBuilder):
        options = {
            "allow_count_mismatch": data.allow_count_mismatch,
            "bit_depth": data.bit_depth,
            "download": data.download,
        }
    return builder(data_dir=root, config=builder_config or None, file_format="array_record", **options)


def _table(root: Path, name: str) -> tfds.core.DatasetBuilder:
    """The builder of a prepared table, whose features are in its folder, or of one that is not prepared."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"The data set `table` needs a name of letters, digits, - and _; got {name!r}. Give it: "
            "--config.data.name=NAME, or source(dataset='table', builder_config='NAME')."
        )
    builder = Table(data_dir=root, config=TableConfig(name=name), file_format="array_record")
    if not builder.is_prepared():
        return builder
    try:
        return tfds.builder_from_directory(builder.data_dir)
    except ValueError as error:  # features.json holds something else
        raise TypeError(str(error)) from error


def builder_to_prepare(dataset: str, builder_config: str, data: DataConfig) -> tfds.core.DatasetBuilder:
    """The builder of a data set; that of a table knows the columns of the files at hand."""
    builder = make_builder(dataset, builder_config=builder_config, data=data)
    if not data.manual_dir or dataset != catalogue.TABLE:
        return builder
    if data.window and data.window not in WINDOWS:
        near = nearest(data.window, WINDOWS)
        raise ValueError(f"data.window={data.window!r} is not a window.{near} Known: {', '.join(WINDOWS)}.")
    config = table_config(
        Path(data.manual_dir).expanduser(),
        name=builder_config or data.name,
        columns=data.columns,
        table=data.table,
        seed=data.split_seed,
        hash_ids=data.hash_ids,
    )
    root, convert = Path(data.data_dir).expanduser(), functools.partial(_dicom_as_png, window=data.window)
    builder = Table(data_dir=root, config=config, file_format="array_record", bit_depth=data.bit_depth, convert=convert)
    builder.window = data.window
    return builder


def _dicom_as_png(data: bytes, *, window: str) -> Converted | None:
    """The first frame of a DICOM file as PNG, and its facts; None for other files.

    A file to which the named window does not apply, such as a radiograph, is shown with its own.
    """
    if not is_dicom(data):
        return None
    try:
        found, own = read_dicom(data, window=window), []
    except DoesNotApply:
        found, own = read_dicom(data), [f"not data.window={window}, which is for CT in Hounsfield units"]
    grey = (found.image[..., :1] == found.image).all()
    file = io.BytesIO()
    Image.fromarray(found.image[..., 0] if grey else found.image).save(file, "PNG")
    several = [f"frame 1 of {found.frames}"] if found.frames > 1 else []
    return Converted(file.getvalue(), [f"DICOM window {found.window}", *own, *several, *found.warnings])


def default_config_name(dataset: str) -> str:
    """The default builder config of a source; empty if the data set has no configs."""
    return next(iter(catalogue.load(dataset).builder_configs), "")


def downloads(dataset: str) -> bool:
    """Whether the authors allow a program to download the data set."""
    builder = catalogue.load(dataset)
    if not issubclass(builder, OfficialFilesBuilder):
        return True
    return any(builder.urls(config) for config in list(builder.builder_configs)[:1])


def _build_command(source: SourceConfig, data: DataConfig) -> str:
    if source.dataset == WRITTEN:
        return write_command(
            source.builder_config, data_dir="" if data.data_dir == DataConfig().data_dir else data.data_dir
        )
    return command(
        "--config",
        "configs/build_data.py",
        f"--config.dataset={source.dataset}",
        f"--config.builder_config={source.builder_config}" if source.builder_config else "",
        f"--config.data.data_dir={data.data_dir}" if data.data_dir != DataConfig().data_dir else "",
        f"--config.data.manual_dir={data.manual_dir or 'FOLDER'}"
        if not downloads(source.dataset) or data.manual_dir
        else "",
        "--workdir",
        "DIR",
    )


def not_prepared(builder: tfds.core.DatasetBuilder, source: SourceConfig, data: DataConfig) -> str:
    """The message that a source is not prepared, with the command that prepares it."""
    name = f"{source.dataset}/{source.builder_config}" if source.dataset == WRITTEN else source.dataset
    return f"{name} is not prepared: there is no {builder.data_dir}. Run: {_build_command(source, data)}"


def find_prepared(source: SourceConfig, data: DataConfig) -> tfds.core.DatasetBuilder:
    """The builder of a source that is prepared, without reading a row.

    Raises:
        ValueError: for an unknown data set, config or split, one that is not prepared, with the command that
            prepares it, or one that was prepared with other options than the configuration gives.
    """
    builder = make_builder(source.dataset, builder_config=source.builder_config, data=data)
    if not builder.is_prepared():
        raise ValueError(not_prepared(builder, source, data))
    if source.dataset != WRITTEN:
        check_set_options(builder, data, read_origin(Path(builder.data_dir)))
    if source.split not in builder.info.splits:
        known = list(builder.info.splits)
        near = nearest(source.split, known)
        raise ValueError(f"{source.dataset} has no split {source.split!r}.{near} It has: {', '.join(known)}.")
    return builder


class _Opened(NamedTuple):
    """A prepared split on the disk."""

    records: Any  # by number, images not decoded
    images: list[str]  # the features that are images
    prepared: Prepared
    index: Callable[[], pa.Table]  # the texts; read at the first call


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> _Opened:
    features: Any = builder.info.features
    images = [name for name, kind in features.items() if isinstance(kind, tfds.features.Image)]
    decoders = {name: tfds.decode.SkipDecoding() for name in images}
    records: Any = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue] decorated
    prepared = Prepared(Path(builder.data_dir), split, [Path(path) for path in builder.info.splits[split].filepaths])

    @functools.cache
    def index() -> pa.Table:
        return load_index(records, features, folder=prepared.folder, split=split, paths=prepared.paths)

    return _Opened(records, images, prepared, index)


def open_rows(source: SourceConfig, data: DataConfig) -> RowSource:
    """All rows of a split, whatever `source` says about task, filters and limit.

    Raises:
        ValueError: as `find_prepared`.
    """
    builder = find_prepared(source, data)
    opened = open_split(builder, source.split)
    return RowSource(
        opened.records,
        indices=range(len(opened.records)),
        source=source,
        fingerprint=make_fingerprint(builder, source),
        encoded=opened.images,
        index=opened.index,
        prepared=opened.prepared,
    )


def by_conversation(numbers: Sequence[int], image_ids: Sequence[str]) -> list[int]:
    """The same numbers, those of an image together and in order, at the place of the first of them.

    >>> by_conversation([2, 1, 3, 0, 4], ["a", "b", "a", "", "b"])  # a row without an image stands alone
    [0, 2, 1, 4, 3]
    """
    of_image: dict[str, list[int]] = {}
    for number in sorted(numbers):
        of_image.setdefault(image_ids[number], []).append(number)
    return [
        other
        for number in numbers
        for other in ([number] if not image_ids[number] else of_image.pop(image_ids[number], []))
    ]


def load_rows(source: SourceConfig, data: DataConfig, *, seed: int = 0) -> RowSource:
    """The rows of one source.

    The filters of `source.where` come first. With task `caption` one row is left for each image that has a caption.
    `source.limit` keeps the first rows of a shuffle by `seed`, in the order of the files, so the rows of a smaller
    limit are a subset of those of a larger one. With `data.history` it keeps conversations: an image's questions from
    the first one on, so that no question loses earlier ones.

    Raises:
        ValueError: as `find_prepared`, or if no row is left, or for the task `vqa` none with a question.
    """
    rows = open_rows(source, data)
    for condition in source.where:
        rows = rows.where(condition)
    if source.task == "caption":
        rows = rows.captioned()
    if source.limit:
        shuffled = np.random.default_rng(seed).permutation(len(rows)).tolist()
        if data.history != "none" and source.task == "vqa":
            shuffled = by_conversation(shuffled, rows.column("image_id"))
        rows = rows.select(sorted(shuffled[: source.limit]))
    if not len(rows):
        raise ValueError(f"{rows.name} has no rows for task={source.task!r}. Give a split or a task that has some.")
    if source.task == "vqa" and not any(map(str.strip, rows.column("question"))):
        raise ValueError(
            f"{rows.name}: task='vqa' needs questions, and none of {len(rows)} rows has one. Give task='caption' for "
            "its captions, or another data set."
        )
    return rows
