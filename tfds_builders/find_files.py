"""Finds a builder's official files: in a given folder; without one, or on request, by download."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import tensorflow_datasets as tfds

from tfds_builders.official_files import OfficialFiles

if TYPE_CHECKING:
    from tfds_builders.builder import OfficialFilesBuilder

RETRIES = 3  # of a download that fails; the ten of TFDS take minutes
SECONDS = 10  # before a host that does not answer is given up
DOWNLOAD = "--config.data.download=true"


def find_files(builder: "OfficialFilesBuilder", dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
    """The official files.

    A given folder is searched first. If it lacks a file, nothing is downloaded unless `builder.download` is true.

    Raises:
        ValueError: with the missing files and where to put them.
    """
    urls = builder.urls(builder.config_name)
    try:
        manual = Path(str(dl_manager.manual_dir))
    except AssertionError:  # TFDS's error for an absent or empty folder
        why = "manual_dir is not given or is empty."
    else:
        found = find_below(builder, manual)
        if isinstance(found, OfficialFiles):
            return found
        why = found
        # TFDS's default folder was not given by the user; it may have the files of other data sets only.
        given = manual.parts[-2:] != ("downloads", "manual")
        if urls and given and not builder.download:
            raise ValueError(
                f"{why} Nothing was downloaded, since a folder was given. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
                f"Give no folder, or {DOWNLOAD}, to download {', '.join(urls)}."
            )
    if not urls:
        raise ValueError(f"{why} {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return _download(builder, dl_manager, urls, why=why)


def _download(builder: "OfficialFilesBuilder", dl_manager: Any, urls: Mapping[str, str], *, why: str) -> OfficialFiles:
    try:
        with _few_retries():
            reach(urls.values())
            paths = dl_manager.download(dict(urls))
    except (OSError, tfds.download.DownloadError) as error:  # includes those of requests
        hosts = ", ".join(sorted({urlsplit(url).netloc for url in urls.values()}))
        raise ValueError(
            f"{why} {builder.name} cannot be downloaded from {hosts}: {_short(error)}. "
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        ) from error
    named = [(name, Path(str(path))) for name, path in paths.items()]
    files = OfficialFiles(named, what=f"{builder.name} (downloaded)", kind="download")
    if missing := builder.missing(files):
        raise ValueError(f"{files.what} {files.lack(missing)}. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return files


def reach(urls: Any) -> None:
    """Asks each host once for the first of its files, so that a blocked network is noticed in seconds.

    Raises:
        OSError: if one does not answer, or has no such file.
    """
    for url in {urlsplit(url).netloc: url for url in urls}.values():
        with requests.get(url, stream=True, timeout=SECONDS) as answer:
            answer.raise_for_status()


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """Makes TFDS retry only a few times, without a line in the log for each retry."""
    from tensorflow_datasets.core.download import downloader

    log = logging.getLogger("urllib3.connectionpool")
    level, tries = log.level, downloader.MAX_RETRIES
    log.setLevel(logging.ERROR)
    downloader.MAX_RETRIES = RETRIES
    try:
        yield
    finally:
        downloader.MAX_RETRIES = tries
        log.setLevel(level)


def _short(error: Exception) -> str:
    """The last of a chain of messages, which is the system's."""
    text = str(error) or type(error).__name__
    return text.split("Caused by ")[-1].strip("() .")[:300]


def find_below(builder: "OfficialFilesBuilder", manual: Path) -> OfficialFiles | str:
    """The files in manual_dir/<name>, in one folder below manual_dir or in manual_dir; or names of missing ones."""
    own = manual / builder.name
    if own.is_dir():
        return _complete_or_lacking(builder, own, what=str(own))
    complete = [files for folder in sorted(manual.iterdir()) if (files := _complete(builder, folder))]
    if len(complete) > 1:
        places = ", ".join(files.what for files in complete)
        raise ValueError(f"{builder.name} is in several folders: {places}. Give one of them as manual_dir.")
    if complete:
        return complete[0]
    return _complete_or_lacking(builder, manual, what=f"manual_dir={str(manual)!r}")


def _complete_or_lacking(builder: "OfficialFilesBuilder", folder: Path, *, what: str) -> OfficialFiles | str:
    files = OfficialFiles.below(folder)
    missing = builder.missing(files)
    return f"{what} {files.lack(missing)}." if missing else files


def _complete(builder: "OfficialFilesBuilder", folder: Path) -> OfficialFiles | None:
    """The files of a folder if none is missing. An error about a refused archive is left to the end of the search."""
    try:
        files = OfficialFiles.below(folder) if folder.is_dir() else None
    except ValueError:
        return None
    return files if files and not builder.missing(files) else None
