"""Prepares a data set: once, from recorded files, in one process at a time, and completely or not at all."""

import contextlib
import dataclasses
import errno
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from radvqa_jax import locks
from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data import prepared_files
from radvqa_jax.data.prepared_options import REBUILD, asked_options, other_options, refusal
from radvqa_jax.data.prepared_report import read_origin, read_report
from radvqa_jax.data.replacing import leftovers, place_beside, remove_leftovers, replace
from radvqa_jax.data.sources import builder_to_prepare, downloads, make_builder, not_prepared, open_split
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.data.written import say_origin
from radvqa_jax.files import check_writable, private_files
from tfds_builders import catalogue, origin
from tfds_builders.builder import ALLOW, OfficialFilesBuilder
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import FILE_NAME as REJECTS_FILE

ELSEWHERE = "--config.data.data_dir=FOLDER"
NOWHERE = ".nothing-prepared"  # a folder that is never made
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(dataset: str, *, builder_config: str = "", data: DataConfig) -> dict[str, Any]:
    """Prepares a data set as ArrayRecord files, unless that is done, and describes it.

    The result has `dataset`, `builder_config`, `version`, `path`, `splits` ({split: rows}), `origin` (its files and
    date, in words), `rejects` (the path of the list of repaired and dropped rows, empty if the builder keeps none), and
    the entries of `read_report`. If another process is preparing the same data set, this one waits. With
    `data.rebuild`, the existing data set is kept until the new one is complete.

    Raises:
        ValueError: if official files are missing, with instructions; if they, or those of an earlier preparation, are
            not the official release and this is not allowed; if a prepared data set came from other files or options.
    """
    folder = _given_folder(dataset, data)
    builder = _builder(dataset, builder_config, data)
    place = _place(builder, data)
    _tidy(place, dataset)
    said = "already prepared"
    if dataset == WRITTEN:  # prepared by the mode that writes them
        if not builder.is_prepared():
            raise ValueError(not_prepared(builder, SourceConfig(dataset, builder_config), data))
    elif builder.is_prepared() and not data.rebuild:
        _check_origin(builder, folder, data)
    else:
        _check_there_is_something(dataset, folder)
        parent = place.parent
        inside = str(parent.relative_to(Path(data.data_dir).expanduser()))
        check_writable(data.data_dir, field="data.data_dir", inside=inside)
        parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(parent, doing=f"preparing {dataset}", wait=True), private_files():
            remove_leftovers(place)
            builder = _builder(dataset, builder_config, data)
            if builder.is_prepared() and not data.rebuild:  # meanwhile, perhaps from other files
                _check_origin(builder, folder, data)
            else:
                _build_beside(dataset, builder_config, data, place, folder)
                said = "prepared anew" if data.rebuild else "prepared"
    builder = make_builder(dataset, builder_config=builder_config, data=data)
    return _result(builder, dataset, said=said, data=data)


def _tidy(place: Path, dataset: str) -> None:
    """Removes the remains of a killed run next to a prepared data set, unless another run works there."""
    if leftovers(place):
        with contextlib.suppress(locks.InUse, OSError), locks.hold(place.parent, doing=f"tidying {dataset}"):
            remove_leftovers(place)


def _builder(dataset: str, builder_config: str, data: DataConfig) -> Any:
    """The builder; before a rebuild, one that does not open the existing files, which may be damaged."""
    elsewhere = data.rebuild and dataset != WRITTEN
    root = str(Path(data.data_dir).expanduser() / NOWHERE) if elsewhere else data.data_dir
    return builder_to_prepare(dataset, builder_config, dataclasses.replace(data, data_dir=root))


def _place(builder: Any, data: DataConfig) -> Path:
    """The folder in data.data_dir for what a builder prepares."""
    return Path(data.data_dir).expanduser() / Path(builder.data_dir).relative_to(Path(builder.data_dir_root))


def _result(builder: Any, dataset: str, *, said: str, data: DataConfig) -> dict[str, Any]:
    folder = Path(builder.data_dir)
    report = read_report(folder)
    if report["differences"] and not data.allow_count_mismatch:
        raise ValueError(
            f"{folder} was prepared from files that are not the official release: {'; '.join(report['differences'])}. "
            f"Build it again from all files ({REBUILD}), or accept these files with {ALLOW}."
        )
    rejects = folder / REJECTS_FILE
    made = say_origin(folder) if dataset == WRITTEN else origin.say(read_origin(folder))
    return {
        "dataset": dataset,
        "builder_config": builder.builder_config.name if builder.builder_config else "",
        "version": str(builder.version),
        "path": str(folder),
        "splits": {name: info.num_examples for name, info in builder.info.splits.items()},
        "origin": f"{said}, {made}" if dataset == WRITTEN else f"{said} {made}",
        "rejects": str(rejects) if rejects.is_file() else "",
        **report,
    }


def _needs_files(dataset: str) -> bool:
    return dataset in catalogue.folders() and issubclass(catalogue.load(dataset), OfficialFilesBuilder)


def _instructions(dataset: str) -> str:
    return getattr(catalogue.load(dataset), "MANUAL_DOWNLOAD_INSTRUCTIONS", "") or ""


def _given_folder(dataset: str, data: DataConfig) -> Path | None:
    """The folder, or the archive, of official files; None if it was not given or the builder needs no files."""
    if not data.manual_dir or not _needs_files(dataset):
        return None
    folder = Path(data.manual_dir).expanduser()
    why = ""
    if not folder.exists():
        why = "is not there"
    elif folder.is_dir() and not any(folder.iterdir()):
        why = "is empty"
    elif not folder.is_dir() and dataset != catalogue.TABLE:
        why = "is no folder"
    if why:
        raise ValueError(f"data.manual_dir={data.manual_dir!r} {why}. {_instructions(dataset)}")
    return folder


def _check_there_is_something(dataset: str, folder: Path | None) -> None:
    if folder is None and not downloads(dataset):
        raise ValueError(f"data.manual_dir is not given, and {dataset} needs its files. {_instructions(dataset)}")


def _download_dir(data: DataConfig) -> Path:
    """The folder of downloads, also for a data set that is first built elsewhere."""
    return Path(data.data_dir).expanduser() / "downloads"


def _build(builder: Any, folder: Path | None, *, data: DataConfig) -> None:
    """Prepares a data set; any failure outside our own code becomes one message with a way out."""
    try:
        if folder is not None and not folder.is_dir():  # of the data set `table` alone, see _given_folder
            builder.archive, folder = folder, folder.parent
        settings = tfds.download.DownloadConfig(manual_dir=folder)
        builder.download_and_prepare(download_dir=_download_dir(data), download_config=settings)
        if not isinstance(builder, OfficialFilesBuilder):
            origin.write(Path(builder.data_dir), _made_by_builder(builder))
        for split in builder.info.splits:
            open_split(builder, split).index()  # made now, so that no later job reads images just for their texts
        _record_files(Path(builder.data_dir), builder)
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        text = " ".join(str(error).split())[:300] or type(error).__name__
        full = number in NO_ROOM or "No space left" in text or "File too large" in text
        remedy = (
            f"Make room there, or give another place with {ELSEWHERE}"
            if full
            else "Nothing half-made was left; try again"
        )
        raise ValueError(f"{builder.name} cannot be prepared in {data.data_dir}: {text}. {remedy}.") from error


def _record_files(folder: Path, builder: Any) -> None:
    made = read_origin(folder)
    assert made is not None  # written above, or by the builder
    origin.write(folder, made | prepared_files.describe(builder))


def _made_by_builder(builder: Any) -> dict[str, Any]:
    made = {"builder": builder.name, "config": builder.builder_config.name, "version": str(builder.version)}
    return origin.describe_origin(OfficialFiles([], what=builder.name), kind="builder", builder=made, options={})


def _build_beside(dataset: str, builder_config: str, data: DataConfig, place: Path, folder: Path | None) -> None:
    """Prepares a data set next to its place, which it takes when it is complete with its indices and its record."""
    root = place_beside(place)
    builder: Any = builder_to_prepare(dataset, builder_config, dataclasses.replace(data, data_dir=str(root)))
    builder.home = Path(data.data_dir).expanduser()
    try:
        _build(builder, folder, data=data)
        replace(place, Path(builder.data_dir))
    finally:
        remove_leftovers(place)


def _check_origin(builder: Any, folder: Path | None, data: DataConfig) -> None:
    """Raises ValueError if a prepared data set came from other options, or other files than those that are given."""
    made = read_origin(Path(builder.data_dir))
    wrong = other_options(made, asked_options(builder, data, made))
    if folder is not None:
        wrong += _other_files(builder, made, folder)
    if wrong:
        raise ValueError(refusal(builder, made, wrong, data))


def _other_files(builder: OfficialFilesBuilder, made: Any, folder: Path) -> list[str]:
    found = builder.find_below(folder)
    if isinstance(found, str):
        # A folder for several data sets need not contain the prepared ones; a part of this one is a different source.
        files = OfficialFiles.below(folder)
        some = made is not None and origin.shared(made, files)
        return [f"and {found}"] if some else []
    if made is None:
        return []  # prepared before this was recorded; `origin` of the result says so
    different = origin.differences(made, found)
    return [f"and {found.what} holds other files: {', '.join(different)}"] if different else []
