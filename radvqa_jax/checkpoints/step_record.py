"""The typed record of a checkpoint, and the checksums that reveal damaged arrays.

Neither orbax nor the format below it has checksums of values: training would continue on a flipped bit without an
error.
"""

import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from radvqa_jax import typed_json
from radvqa_jax.schema import TrainState

FORMAT = 1


class StepRecord(NamedTuple):
    """The JSON of a step.

    Attributes:
        format: of this record.
        fingerprint: the settings that must be equal for the run to continue.
        data: the position in the data.
        leaves: {path of a leaf in the state: its dtype and shape}.
        checksums: {path of a leaf: CRC-32 of its bytes}; without those of leaves that one process cannot read whole.
    """

    format: int
    fingerprint: dict[str, Any]
    data: dict[str, Any]
    leaves: dict[str, str]
    checksums: dict[str, int] = {}  # noqa: RUF012 absent in steps of version 0.1


def parse_record(value: Any, *, where: str) -> StepRecord:
    """The record that orbax read; raises ValueError, with the field, if it is not valid."""
    return typed_json.parse(json.dumps(value), StepRecord, where=where)


def describe_leaves(state: TrainState) -> dict[str, str]:
    """{path of a leaf in the state: its dtype and shape}."""
    return {path: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in _leaves(state)}


def checksums(state: TrainState) -> dict[str, int]:
    """{path of a leaf in the state: CRC-32 of its bytes}, of leaves whose values are all on this machine."""
    whole = [(path, leaf) for path, leaf in _leaves(state) if getattr(leaf, "is_fully_addressable", True)]
    with ThreadPoolExecutor() as pool:  # zlib lets other threads run
        return dict(pool.map(lambda item: (item[0], _crc(item[1])), whole))


def differing(then: Mapping[str, int], state: TrainState) -> list[str]:
    """The paths of leaves whose bytes differ from the saved ones."""
    now = checksums(state)
    return [path for path, crc in then.items() if path in now and now[path] != crc]


def _crc(leaf: Any) -> int:
    held: Any = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return zlib.crc32(held)


def _leaves(state: TrainState) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_flatten_with_path(state)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in found]
