"""Tables to build, for the tests of the data set `table`."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.table.table_dataset_builder import Builder, table_config

from .conftest import Built, read_built

Rows = Sequence[Mapping[str, Any]]
ROW = {"image": "images/a.png", "question": "Is there a mass?", "answer": "no"}


def write_csv(path: Path, rows: Rows, *, delimiter: str = ",") -> None:
    file = io.StringIO()
    table = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    path.write_text(file.getvalue(), encoding="utf-8-sig")


def build(folder: Path, data_dir: Path, *, name: str = "own", **options: Any) -> Built:
    builder = Builder(data_dir=data_dir, config=table_config(folder, name=name, **options), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
    return read_built(builder)


def all_rows(built: Built) -> list[dict[str, Any]]:
    return [row for rows in built.rows.values() for row in rows.values()]
