"""Checks that data sets stay the same while a run has them open.

Files are opened by name when the first row is read, which may be hours after the rows were chosen.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from radvqa_jax.config import DataConfig
from radvqa_jax.data.fingerprint import files_hash
from radvqa_jax.data.sources import make_builder


@contextlib.contextmanager
def unchanged(fingerprints: Sequence[Mapping[str, Any]], data: DataConfig) -> Iterator[None]:
    """Checks the data sets of rows with these fingerprints before and after a block that reads them.

    Raises:
        ValueError: if one was prepared anew or removed since its rows were opened. What the block has written stays.
    """
    check_unchanged(fingerprints, data)
    yield
    check_unchanged(fingerprints, data)


def check_unchanged(fingerprints: Sequence[Mapping[str, Any]], data: DataConfig) -> None:
    """Raises ValueError if a data set was prepared anew since rows with these fingerprints were opened."""
    for found in [*fingerprints, *(found["images_from"] for found in fingerprints if "images_from" in found)]:
        builder = make_builder(found["dataset"], builder_config=found["builder_config"], data=data)
        there = builder.is_prepared() and found["split"] in builder.info.splits
        if not there or files_hash(builder, found["split"]) != found["files"]:
            raise ValueError(
                f"{builder.data_dir} was prepared anew or removed while this run had it open, so that it may have read "
                "rows of both. Start the run again in a new --workdir."
            )
