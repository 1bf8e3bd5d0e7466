"""The origin of a prepared data set: origin.json records the files, options and builder that made it, and the time.

Paths are hashed, because names of files can name patients. Two copies of the same files are the same source, wherever
they are. A file with other bytes, and one more or one less of the kinds that were read, make another source.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfds_builders.official_files import OfficialFiles
from tfds_builders.regular_files import is_regular, open_regular
from tfds_builders.rejects import write_whole

FILE_NAME = "origin.json"
SMALL = 64 << 20  # bytes: of a larger file, only the first and last MiB are hashed; a zip lists its members at its end
END = 1 << 20
# Suffixes of the files that an absent image may come in; DICOM files often have none.
IMAGES = (".bmp", ".dcm", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", "", ".zip", ".tar", ".tgz", ".gz")
LISTED = 3  # files that a message names


def describe_origin(
    files: OfficialFiles, *, kind: str, builder: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of origin.json.

    Args:
        files: the official files; those with the suffixes of the files that were read are recorded, and if an image
            is absent, those that may hold images.
        kind: `folder` or `download`.
        builder: name, config and version of the builder.
        options: the further settings that determine the rows.
    """
    suffixes = sorted({_suffix(name) for name in files.used}.union(IMAGES if files.lacks_images else ()))
    found = {_hash_name(name): _facts(path) for name, path in _regular(files) if _suffix(name) in suffixes}
    return {
        "prepared": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kind": kind,
        **builder,
        "options": dict(options),
        "suffixes": suffixes,
        "bytes": sum(fact["bytes"] for fact in found.values()),
        "files": found,
    }


def write(folder: Path, origin: Mapping[str, Any]) -> None:
    """Writes origin.json into the folder of a prepared data set."""
    write_whole(folder / FILE_NAME, json.dumps(origin, indent=1) + "\n")


def say(origin: Mapping[str, Any] | None) -> str:
    """The origin of a prepared data set in words; None means a missing record.

    >>> say({"kind": "folder", "files": {"a": {}}, "bytes": 2_500_000, "prepared": "2026-01-02T03:04:05+00:00"})
    'from 1 file (2.5 MB) on 2026-01-02 03:04 UTC'
    """
    if origin is None:
        return "from files that were not recorded"
    when = str(origin["prepared"])[:16].replace("T", " ")
    number = len(origin["files"])
    size = f"{number} file{'s' * (number != 1)} ({origin['bytes'] / 1e6:.1f} MB)" if number else "the builder itself"
    return f"from {size}{', downloaded' * (origin['kind'] == 'download')} on {when} UTC"


def differences(origin: Mapping[str, Any], files: OfficialFiles) -> list[str]:
    """The differences between these files and those that a data set was prepared from, in words."""
    here = {_hash_name(name): (name, path) for name, path in _regular(files) if _suffix(name) in origin["suffixes"]}
    recorded = origin["files"]
    other = [name for key, (name, path) in here.items() if key in recorded and not _is_same(recorded[key], path)]
    more = [name for key, (name, _) in here.items() if key not in recorded]
    less = len(set(recorded) - set(here))
    told = [_list("other bytes in", sorted(other)), _list("also", sorted(more))]
    return [*filter(None, told), *([f"{less} of its files absent"] if less else [])]


def shared(origin: Mapping[str, Any], files: OfficialFiles) -> bool:
    """Whether a folder has a file of the same name as one that a data set was prepared from."""
    return any(_hash_name(name) in origin["files"] for name in files.files)


def _regular(files: OfficialFiles) -> list[tuple[str, Path]]:
    """The files without pipes and devices, which may never end and are not read."""
    return [(name, path) for name, path in files.files.items() if is_regular(path)]


def _list(what: str, names: list[str]) -> str:
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{what} {', '.join(names[:LISTED])}{rest}" if names else ""


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _hash_name(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _facts(path: Path) -> dict[str, Any]:
    about = path.stat()
    return {"bytes": about.st_size, "changed": about.st_mtime_ns, "sha256": _digest(path, about.st_size)}


def _digest(path: Path, size: int) -> str:
    """The sha256 of a small file, or of a larger file's first and last MiB."""
    with open_regular(path) as file:
        if size <= SMALL:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(file.read(END))
        file.seek(-END, os.SEEK_END)
        return digest.update(file.read()) or digest.hexdigest()


def _is_same(recorded: Mapping[str, Any], path: Path) -> bool:
    about = path.stat()
    if about.st_size != recorded["bytes"]:
        return False
    return about.st_mtime_ns == recorded["changed"] or _digest(path, about.st_size) == recorded["sha256"]
