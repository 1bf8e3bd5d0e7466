"""Stand-ins in the official layout, built as a user builds them."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders.builder import OfficialFilesBuilder, Reading
from tfds_builders.dummy import encode, noise
from tfds_builders.official_files import OfficialFiles

ROOT = Path(tfds_builders.__path__[0])


class Built(NamedTuple):
    """A prepared data set."""

    folder: Path
    rows: dict[str, dict[str, dict[str, Any]]]  # split -> question_id -> row
    rejects: list[dict[str, Any]]
    counts: dict[str, Any]

    def row(self, question_id: str) -> dict[str, Any]:
        """The row of that id."""
        return next(rows[question_id] for rows in self.rows.values() if question_id in rows)

    def of(self, action: str) -> dict[str, list[str]]:
        """{id: reasons} of the lines with that action."""
        found: dict[str, list[str]] = {}
        for line in self.rejects:
            if line["action"] == action:
                found.setdefault(line["id"], []).append(line["reason"])
        return found


def plain(value: Any) -> Any:
    """Text as str; image bytes and arrays as they are."""
    if isinstance(value, bytes):
        return value.decode() if value[:4] not in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xee") else value
    if (hasattr(value, "dtype") and value.dtype == object) or isinstance(value, list):
        return [plain(item) for item in value]
    return value


def make(name: str, config: str, data_dir: Path, **options: Any) -> OfficialFilesBuilder:
    """The builder of a data set."""
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    return module.Builder(data_dir=data_dir, config=config or None, file_format="array_record", **options)


def build(name: str, config: str, manual_dir: Path, data_dir: Path, *, allow: bool = False) -> Built:
    """Builds a data set and reads it back."""
    builder = make(name, config, data_dir, allow_count_mismatch=allow)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return read_built(builder)


def read_built(builder: OfficialFilesBuilder) -> Built:
    """Reads a prepared data set back."""
    features: Any = builder.info.features
    skip = {key: tfds.decode.SkipDecoding() for key, kind in features.items() if isinstance(kind, tfds.features.Image)}
    rows = {}
    for split in builder.info.splits:
        source: Any = builder.as_data_source(split, decoders=skip)  # pyright: ignore[reportCallIssue] decorated
        found = [{key: plain(value) for key, value in row.items()} for row in source]
        rows[split] = {row["question_id"]: row for row in found}
    folder = Path(builder.data_dir)
    lines = (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return Built(folder, rows, [json.loads(line) for line in lines], json.loads((folder / "counts.json").read_text()))


def read(name: str, config: str, folder: Path, data_dir: Path) -> Reading:
    """A pass over official files, without images."""
    return make(name, config, data_dir).read_files(OfficialFiles.below(folder))


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """A function that builds a stand-in, each config once."""
    done: dict[tuple[str, str], Built] = {}

    def get(name: str, config: str = "") -> Built:
        if (name, config) not in done:
            folder = ROOT / name / "dummy_data"
            done[name, config] = build(name, config, folder, tmp_path_factory.mktemp("tfds"), allow=True)
        return done[name, config]

    return get


def write_images(folder: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(seed, mode="L"), "PNG"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images, for a table."""
    own = tmp_path / "own"
    write_images(own, ["images/a.png", "images/b.png", "images/sub/c.png"])
    return own
