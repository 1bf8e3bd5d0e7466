"""The base of all builders of official files: finds and reads files, counts, converts images, records rejected rows."""

import abc
import collections
import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import origin
from tfds_builders.counts import Counts, differences, read_manifest
from tfds_builders.features import common_features
from tfds_builders.find_files import find_below, find_files
from tfds_builders.images import LOW_BITS, StoredImage, store_image
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import FILE_NAME as REJECTS_FILE
from tfds_builders.rejects import Rejects, write_whole

Row = dict[str, Any]

COUNTS_FILE = "counts.json"
CACHED_IMAGES = 64  # the questions about one image are mostly next to each other
ALLOW = "--config.data.allow_count_mismatch=true"


@dataclasses.dataclass
class Reading:
    """One pass over the official files: the figures found, the rows left out, and the rows of each split in order.

    A row holds the common and extra features. Its `image` is the end of the path of its file; a row without an image
    has no bytes there.
    """

    files: OfficialFiles
    rejects: Rejects
    counts: Counts = dataclasses.field(default_factory=Counts)
    splits: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    _ids: set[str] = dataclasses.field(default_factory=set)

    def start(self, split: str) -> None:
        """Registers a split, even if it will be empty."""
        self.splits.setdefault(split, [])
        self.counts.add(split, "left out", 0)

    def add(self, split: str, row: Row, *, raw: Any, fault: str = "", needs_text: bool = True) -> None:
        """Counts a row, and keeps it unless it has a fault: the given one, an empty text, or an absent image.

        A row needs a question with its answer, or a caption; with needs_text=False an image is enough.

        Raises:
            ValueError: if an earlier row has its question_id.
        """
        self.counts.row(split, row)
        identity = row["question_id"]
        if identity in self._ids:
            raise ValueError(f"{self.files.what}: the id {identity!r} occurs twice. Get the files again.")
        self._ids.add(identity)
        if fault := fault or self.fault_of(row, needs_text=needs_text):
            self.leave_out(split, row, fault, raw=raw)
        else:
            self.splits[split].append(row)

    def leave_out(self, split: str, row: Row, reason: str, *, raw: Any) -> None:
        """Records and counts a row that is left out."""
        self.rejects.row(split, row["question_id"]).dropped(reason, row=raw)
        self.counts.add(split, "left out")

    def fault_of(self, row: Row, *, needs_text: bool = True) -> str:
        """The reason why a row cannot be kept: an empty text, or an absent image."""
        if needs_text and not row["question"] and not row["caption"]:
            return "question is empty" if row["answer"] else "neither question nor caption"
        if row["question"] and not row["answer"]:
            return "answer is empty"
        if isinstance(row["image"], str) and row["image"] not in self.files:
            self.files.lacks_images = True
            return f"image file is absent: {row['image']}"
        return ""


class OfficialFilesBuilder(tfds.core.GeneratorBasedBuilder):
    """A data set from its authors' files, in the order of these files.

    A subclass defines the files that it needs and how it reads rows from them. The data set's folder also has
    `rejects.jsonl` (every row and value that was left out or changed, `rejects.py`) and `counts.json` (the figures
    found, those expected, and the differences, `counts.py`). A difference is an error unless allow_count_mismatch is
    true.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    HOMEPAGE: ClassVar[str]
    SOURCE: ClassVar[str]  # data set and release, as in every row

    def __init__(
        self, *, allow_count_mismatch: bool = False, bit_depth: int = 0, download: bool = False, **kwargs: Any
    ) -> None:
        """Takes the arguments of a TFDS builder, and:

        Args:
            allow_count_mismatch: whether files may differ from the official release.
            bit_depth: bits that grey images of 16 bits use (`images.py`); 0 = all.
            download: whether to download files that a given folder lacks; without a folder they always are.
            kwargs: of the TFDS builder.
        """
        super().__init__(**kwargs)
        self._allow = allow_count_mismatch
        self.bit_depth = bit_depth
        self.download = download
        self.home = Path(str(self.data_dir_root))  # of all data sets; TFDS builds one in a temporary folder
        self._reading: Reading | None = None

    # --- defined by a subclass ---

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        """{path that the file is found by: URL} of the official files; empty if they must be downloaded by hand."""
        return {}

    def extra_features(self) -> dict[str, Any]:
        """The features that only this data set has."""
        return {}

    @abc.abstractmethod
    def missing(self, files: OfficialFiles) -> list[str]:
        """The missing files; empty if the data set can be read."""

    @abc.abstractmethod
    def read(self, reading: Reading) -> None:
        """Reads the official files into `reading`."""

    def image_label(self, row: Row) -> str:
        """The name of a row's image in rejects.jsonl and in messages."""
        return row["image"]

    def finish_row(self, row: Row, image: StoredImage, *, reading: Reading, split: str) -> Row:
        """A row with the fields that depend on its image."""
        return row

    def finish(self, folder: Path, *, reading: Reading) -> None:
        """Writes files about the data set as a whole into the prepared folder."""

    # --- shared by all ---

    @property
    def config_name(self) -> str:
        """The builder config's name."""
        assert self.builder_config is not None  # every data set here has one
        return self.builder_config.name

    def expected(self) -> Mapping[str, Mapping[str, Any]]:
        """{split: {figure: number or [least, most]}} of the official release."""
        return read_manifest(self.folder(), self.config_name)

    @classmethod
    def folder(cls) -> Path:
        """tfds_builders/<name>/."""
        return Path(inspect.getfile(cls)).parent

    def _info(self) -> tfds.core.DatasetInfo:
        # Without shuffling, evaluation asks in the official order, and rows are easy to find in the official file.
        return self.dataset_info_from_configs(
            features=common_features(**self.extra_features()), homepage=self.HOMEPAGE, disable_shuffling=True
        )

    def find(self, dl_manager: tfds.download.DownloadManager) -> OfficialFiles:
        """The files to read; raises ValueError with the missing files and where to put them."""
        return find_files(self, dl_manager)

    def read_files(self, files: OfficialFiles) -> Reading:
        """The result of a pass over the official files; images are found but not opened."""
        reading = Reading(files, Rejects(self.name))
        self.read(reading)
        return reading

    def find_below(self, folder: Path) -> OfficialFiles | str:
        """The official files that a folder holds, or the names of those that it lacks."""
        return find_below(self, folder)

    def options(self) -> dict[str, Any]:
        """The settings that determine the prepared rows, apart from the files and the builder's version."""
        return {"bit_depth": self.bit_depth}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, Row]]]:
        files = self.find(dl_manager)
        try:
            reading = self._reading = self.read_files(files)
        except (AttributeError, KeyError, RecursionError, TypeError) as error:  # a list where an object should be, …
            raise ValueError(
                f"{files.what} does not have the form of the official files of {self.name} ({type(error).__name__}: "
                f"{error}). Get them again."
            ) from error
        self._check_counts(reading)  # before an hour goes into images
        found = {split: self._generate_examples(split, rows) for split, rows in reading.splits.items() if rows}
        if not found:
            told = reading.rejects.told("dropped") or "nothing, since there is no row"
            raise ValueError(f"{self.name}: no row of {reading.files.what} can be used. Left out: {told}.")
        return found

    def _generate_examples(self, split: str, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        """Yields (number, row) with the stored image; a row whose image cannot be used is left out."""
        reading = self._reading
        assert reading is not None
        images = _Images(reading, bit_depth=self.bit_depth)
        kept = 0
        for number, row in enumerate(rows):
            if isinstance(row["image"], bytes):  # no image: a data set of text alone
                yield number, row
            else:
                label = self.image_label(row)
                image = images.get(row["image"], label=label, split=split)
                if isinstance(image, str):
                    reading.leave_out(split, row, image, raw={"image": label, "question": row["question"]})
                    continue
                yield number, self.finish_row(row | {"image": image.data}, image, reading=reading, split=split)
            kept += 1
        if not kept:
            raise ValueError(f"{self.name}: no image of {split} can be used: {reading.rejects.told('dropped')}.")

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Prepares all splits in a temporary folder, which is discarded on an error.

        On an error, the rows left out until then are written next to the folder that the data set would have.
        """
        self._reading = None
        failed = self.home / Path(self.data_dir).parent.relative_to(self.data_dir_root)
        try:
            super()._download_and_prepare(*args, **kwargs)
        except ValueError as error:
            if self._reading is None or not self._reading.rejects.rows:
                raise
            self._reading.rejects.write(failed)
            raise ValueError(f"{error} Every row that was left out is in {failed / REJECTS_FILE}.") from error
        (failed / REJECTS_FILE).unlink(missing_ok=True)
        reading = self._reading
        assert reading is not None
        wrong = self._check_counts(reading)
        folder = Path(self.data_dir)
        expected = self.expected()
        report = {"found": reading.counts.found(), "expected": expected, "differences": wrong}
        write_whole(folder / COUNTS_FILE, json.dumps(report, indent=1) + "\n")
        reading.rejects.write(folder)
        self.finish(folder, reading=reading)
        builder = {"builder": self.name, "config": self.config_name, "version": str(self.version)}
        origin.write(
            folder,
            origin.describe_origin(reading.files, kind=reading.files.kind, builder=builder, options=self.options()),
        )

    def _check_counts(self, reading: Reading) -> list[str]:
        """The differences from the manifest; they are an error unless allowed."""
        wrong = differences(reading.counts.found(), self.expected())
        if wrong and not self._allow:
            reasons = reading.rejects.told("dropped")
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
    """Stored images by the end of their path, the last few cached; a conversion is noted once per image."""

    def __init__(self, reading: Reading, *, bit_depth: int) -> None:
        self._reading = reading
        self._bit_depth = bit_depth
        self._cache: collections.OrderedDict[str, StoredImage | str] = collections.OrderedDict()
        self._converted: set[str] = set()

    def get(self, name: str, *, label: str, split: str) -> StoredImage | str:
        """The image, or the reason why it cannot be used, in which it is called `label`."""
        if name not in self._cache:
            self._cache[name] = self._load(name, label=label, split=split)
            if len(self._cache) > CACHED_IMAGES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(name)
        return self._cache[name]

    def _load(self, name: str, *, label: str, split: str) -> StoredImage | str:
        data = self._reading.files.read(name)
        try:
            image = store_image(data, bit_depth=self._bit_depth)
        except ValueError as error:
            return f"image cannot be decoded: {label}: {error}"
        if image.conversion and name not in self._converted:
            self._converted.add(name)
            note = self._reading.rejects.row(split, label)
            note.repaired("image", f"image converted: {image.conversion}", before=len(data), after=len(image.data))
            if image.low_bits:
                note.repaired("image", f"{LOW_BITS}: {image.low_bits}", before=16, after=8)
        return image
