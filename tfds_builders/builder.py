"""What all builders of official files do alike: find files, read, count, convert images, write what was rejected."""

import abc
import collections
import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders.counts import Counts, differences, read_manifest
from tfds_builders.features import common_features
from tfds_builders.images import StoredImage, store_image
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import Rejects, write_whole

Row = dict[str, Any]

COUNTS_FILE = "counts.json"
CACHED_IMAGES = 64  # questions about one image mostly follow each other
ALLOW = "--config.data.allow_count_mismatch=true"


@dataclasses.dataclass
class Reading:
    """One pass over the official files: what was found, what was left out, and the rows of each split in their order.

    A row holds the common and extra features. Its `image` is the end of the path of its file; a row without an image
    has no bytes there.
    """

    files: OfficialFiles
    rejects: Rejects
    counts: Counts = dataclasses.field(default_factory=Counts)
    splits: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    _ids: set[str] = dataclasses.field(default_factory=set)

    def start(self, split: str) -> None:
        """Makes a split known, even if nothing will be in it."""
        self.splits.setdefault(split, [])
        self.counts.add(split, "left out", 0)

    def add(self, split: str, row: Row, *, raw: Any, fault: str = "", needs_text: bool = True) -> None:
        """Counts a row, and keeps it unless there is a fault: the one given, an empty text, an absent image.

        A row needs a question with its answer, or a caption; with needs_text=False an image is enough.

        Raises:
            ValueError: if its question_id came before.
        """
        self.counts.row(split, row)
        identity = row["question_id"]
        if identity in self._ids:
            raise ValueError(f"{self.files.what}: the id {identity!r} occurs twice. Get the files again.")
        self._ids.add(identity)
        if fault := fault or self._fault(row, needs_text=needs_text):
            self.leave_out(split, row, fault, raw=raw)
        else:
            self.splits[split].append(row)

    def leave_out(self, split: str, row: Row, reason: str, *, raw: Any) -> None:
        """Notes and counts that a row is left out."""
        self.rejects.row(split, row["question_id"]).dropped(reason, row=raw)
        self.counts.add(split, "left out")

    def _fault(self, row: Row, *, needs_text: bool) -> str:
        if needs_text and not row["question"] and not row["caption"]:
            return "question is empty" if row["answer"] else "neither question nor caption"
        if row["question"] and not row["answer"]:
            return "answer is empty"
        if isinstance(row["image"], str) and row["image"] not in self.files:
            return f"image file is absent: {row['image']}"
        return ""


class OfficialFilesBuilder(tfds.core.GeneratorBasedBuilder):
    """A data set from its authors' files, in the order of these files.

    A subclass says which files it needs and how rows follow from them. Beside the prepared files lie `rejects.jsonl`
    (every row and value that was left out or changed, `rejects.py`) and `counts.json` (every figure found, those that
    are expected, and the differences, `counts.py`). A difference is an error, unless allow_count_mismatch is true.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    HOMEPAGE: ClassVar[str]
    SOURCE: ClassVar[str]  # data set and release, as every row says

    def __init__(self, *, allow_count_mismatch: bool = False, **kwargs: Any) -> None:
        """Takes the arguments of a TFDS builder, and whether files may differ from the official release."""
        super().__init__(**kwargs)
        self._allow = allow_count_mismatch
        self._reading: Reading | None = None

    # --- what a subclass says ---

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        """Returns {path to go by: URL} of the official files; empty if they are to be got by hand."""
        return {}

    def extra_features(self) -> dict[str, Any]:
        """Returns the features that this data set alone offers."""
        return {}

    @abc.abstractmethod
    def missing(self, files: OfficialFiles) -> list[str]:
        """Returns what is not there of what must be; empty if the data set can be read."""

    @abc.abstractmethod
    def read(self, reading: Reading) -> None:
        """Reads the official files into `reading`."""

    def finish_row(self, row: Row, image: StoredImage, *, reading: Reading, split: str) -> Row:
        """Returns a row with what depends on its image."""
        return row

    def finish(self, folder: Path, *, reading: Reading) -> None:
        """Writes into the prepared folder what goes with the data set as a whole."""

    # --- what all do ---

    @property
    def config_name(self) -> str:
        """The builder config's name."""
        assert self.builder_config is not None  # every data set here has one
        return self.builder_config.name

    def expected(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns {split: {figure: number or [least, most]}} of the official release."""
        return read_manifest(self.folder(), self.config_name)

    @classmethod
    def folder(cls) -> Path:
        """Returns tfds_builders/<name>/."""
        return Path(inspect.getfile(cls)).parent

    def _info(self) -> tfds.core.DatasetInfo:
        # Evaluation then asks in the official order, and a subset can be found again in the official file.
        return self.dataset_info_from_configs(
            features=common_features(**self.extra_features()), homepage=self.HOMEPAGE, disable_shuffling=True
        )

    def find(self, dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
        """Returns the files to read; raises ValueError saying what is missing and what to put where."""
        return find_files(self, dl_manager)

    def read_files(self, files: OfficialFiles) -> Reading:
        """Returns what a pass over the official files gives; images are found but not opened."""
        reading = Reading(files, Rejects(self.name))
        self.read(reading)
        return reading

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, Row]]]:
        reading = self._reading = self.read_files(self.find(dl_manager))
        self._check_counts(reading)  # before an hour goes into images
        found = {split: self._generate_examples(split, rows) for split, rows in reading.splits.items() if rows}
        if not found:
            reasons = reading.rejects.summary("dropped")
            raise ValueError(f"{self.name}: no row of {reading.files.what} can be used. Left out: {reasons}.")
        return found

    def _generate_examples(self, split: str, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        """Yields (number, row), each image as it is stored; a row whose image cannot be used is left out."""
        reading = self._reading
        assert reading is not None
        images = _Images(reading)
        kept = 0
        for number, row in enumerate(rows):
            if isinstance(row["image"], bytes):  # none: a data set of text alone
                yield number, row
            else:
                image = images.get(row["image"], split=split)
                if isinstance(image, str):
                    reading.leave_out(split, row, image, raw={"image": row["image"], "question": row["question"]})
                    continue
                yield number, self.finish_row(row | {"image": image.data}, image, reading=reading, split=split)
            kept += 1
        if not kept:
            raise ValueError(f"{self.name}: no image of {split} can be used: {reading.rejects.summary('dropped')}.")

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Prepares all splits; then the folder is still a temporary one, which is given up on an error."""
        super()._download_and_prepare(*args, **kwargs)
        reading = self._reading
        assert reading is not None
        wrong = self._check_counts(reading)
        folder = Path(self.data_dir)
        expected = self.expected()
        report = {"found": reading.counts.found(), "expected": expected, "differences": wrong}
        write_whole(folder / COUNTS_FILE, json.dumps(report, indent=1) + "\n")
        reading.rejects.write(folder)
        self.finish(folder, reading=reading)

    def _check_counts(self, reading: Reading) -> list[str]:
        """Returns the differences from the manifest; they are an error unless allowed."""
        wrong = differences(reading.counts.found(), self.expected())
        if wrong and not self._allow:
            reasons = "; ".join(f"{n} x {reason}" for reason, n in reading.rejects.summary("dropped").items())
            raise ValueError(
                f"{reading.files.what} does not hold the official release of {self.name} ({self.config_name}): "
                f"{'; '.join(wrong)}."
                + (f" Left out: {reasons}." if reasons else "")
                # TFDS gives no way to pass the argument to `tfds build`.
                + f" Get the files again ({self.HOMEPAGE}), or build them as they are with {ALLOW} "
                "(in Python: allow_count_mismatch=True)."
            )
        return wrong


class _Images:
    """Stored images by the end of their path, the last few kept; faults and conversions are noted once an image."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._cache: collections.OrderedDict[str, StoredImage | str] = collections.OrderedDict()
        self._converted: set[str] = set()

    def get(self, name: str, *, split: str) -> StoredImage | str:
        """Returns the image, or why it cannot be used."""
        if name not in self._cache:
            self._cache[name] = self._load(name, split=split)
            if len(self._cache) > CACHED_IMAGES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(name)
        return self._cache[name]

    def _load(self, name: str, *, split: str) -> StoredImage | str:
        data = self._reading.files.read(name)
        try:
            image = store_image(data)
        except ValueError as error:
            return f"image cannot be decoded: {error}"
        if image.conversion and name not in self._converted:
            self._converted.add(name)
            note = self._reading.rejects.row(split, name)
            note.repaired("image", f"image converted: {image.conversion}", before=len(data), after=len(image.data))
        return image


def find_files(builder: OfficialFilesBuilder, dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
    """Returns the official files: from manual_dir if they are there, else downloaded if their authors allow it.

    Raises:
        ValueError: saying what is missing and what to put where.
    """
    try:
        manual = Path(str(dl_manager.manual_dir))
    except AssertionError:  # how TFDS says that it is absent or empty
        manual, why = None, "manual_dir is not given or holds nothing."
    else:
        found = _find_below(builder, manual)
        if isinstance(found, OfficialFiles):
            return found
        why = found
    urls = builder.urls(builder.config_name)
    if not urls:
        raise ValueError(f"{builder.name} is got by hand, and {why} {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    try:
        paths = dl_manager.download(dict(urls))
    except (OSError, tfds.download.DownloadError) as error:
        failed = f"{builder.name} cannot be downloaded ({error}), and {why}"
        raise ValueError(f"{failed} {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}") from error
    files = OfficialFiles(
        [(name, Path(str(path))) for name, path in paths.items()], what=f"{builder.name} (downloaded)"
    )
    if missing := builder.missing(files):
        raise ValueError(f"{files.what} lacks {', '.join(missing)}. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return files


def _find_below(builder: OfficialFilesBuilder, manual: Path) -> OfficialFiles | str:
    """Returns the files in manual_dir/<name>, in one folder below manual_dir or in manual_dir; or what is missing."""
    own = manual / builder.name
    if own.is_dir():
        files = OfficialFiles.below(own)
        missing = builder.missing(files)
        return f"{own} lacks {', '.join(missing)}." if missing else files
    complete = [files for folder in sorted(manual.iterdir()) if (files := _complete(builder, folder))]
    if len(complete) > 1:
        places = ", ".join(files.what for files in complete)
        raise ValueError(f"{builder.name} is in several folders: {places}. Give one of them as manual_dir.")
    if complete:
        return complete[0]
    files = OfficialFiles.below(manual)
    missing = builder.missing(files)
    return f"manual_dir={str(manual)!r} lacks {', '.join(missing)}." if missing else files


def _complete(builder: OfficialFilesBuilder, folder: Path) -> OfficialFiles | None:
    """Returns the files of a folder if nothing is missing. A refused archive is named when all is looked at."""
    try:
        files = OfficialFiles.below(folder) if folder.is_dir() else None
    except ValueError:
        return None
    return files if files and not builder.missing(files) else None
