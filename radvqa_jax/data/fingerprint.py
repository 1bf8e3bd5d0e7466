"""The identity of a prepared split: builder, version, and a hash of the rows."""

import hashlib
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from radvqa_jax.config import SourceConfig
from radvqa_jax.data.prepared_report import read_record, read_report


def make_fingerprint(builder: tfds.core.DatasetBuilder, source: SourceConfig) -> dict[str, Any]:
    """The fingerprint of a prepared split."""
    return {
        "dataset": source.dataset,
        "builder_config": builder.builder_config.name if builder.builder_config else "",
        "version": str(builder.version),
        "split": source.split,
        "task": source.task,
        **({"prompt": source.prompt} if source.prompt else {}),
        "rows": builder.info.splits[source.split].num_examples,
        "files": files_hash(builder, source.split),
        # Empty for an official release: readers of a score must see if it covers only a part of the data.
        "differences": read_report(Path(builder.data_dir))["differences"],
    }


def files_hash(builder: tfds.core.DatasetBuilder, split: str) -> str:
    """The sha256 of a split's rows; of a set that was prepared without this record, of its files' names and sizes."""
    if content := read_record(Path(builder.data_dir)).get("content", {}).get(split):
        return content
    files = [Path(path) for path in builder.info.splits[split].filepaths]
    return hashlib.sha256("\n".join(f"{file.name} {file.stat().st_size}" for file in files).encode()).hexdigest()
