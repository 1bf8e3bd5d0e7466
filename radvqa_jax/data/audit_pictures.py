"""Small copies of the images that two data sets share, side by side, to check an audit by eye."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.data.image import thumbnail
from radvqa_jax.data.image_hashes import ImageHashes, load_hashes
from radvqa_jax.data.rows import RowSource
from radvqa_jax.pages import data_url

SHOWN = 6  # pairs of a kind
SIDE = 160  # pixels of the longer side


class PicturePair(NamedTuple):
    """An image of each set."""

    kind: str  # same pixels, nearly the same, or not counted
    bits: int  # of 256 by which their perceptual hashes differ
    first_id: str
    second_id: str
    first: str  # data URL of a small copy
    second: str


def _small(rows: RowSource, hashes: ImageHashes, number: int) -> str:
    row = int(np.flatnonzero(hashes.of_row == number)[0])
    return data_url(thumbnail(rows[row]["image"], side=SIDE), kind="jpeg")


def picture_pairs(first: RowSource, second: RowSource, pair: Mapping[str, Any]) -> list[PicturePair]:
    """Finds pairs of images for one entry of an audit's `shared`, at most SHOWN of a kind.

    Args:
        first: rows of `pair["first"]`.
        second: rows of `pair["second"]`.
        pair: the entry.
    """
    mine, theirs = load_hashes(first), load_hashes(second)
    places = {exact: number for number, exact in enumerate(mine.exact)}
    same = [(places[exact], number, 0) for number, exact in enumerate(theirs.exact) if exact in places]
    numbers = [{name: number for number, name in enumerate(hashes.image_ids)} for hashes in (mine, theirs)]

    def listed(key: str) -> list[tuple[int, int, int]]:
        return [
            (numbers[0][entry["first"]], numbers[1][entry["second"]], entry["bits"])
            for entry in pair[key]
            if mine.exact[numbers[0][entry["first"]]] != theirs.exact[numbers[1][entry["second"]]]
        ]

    kinds = {"same pixels": same, "nearly the same": listed("near_pairs"), "not counted": listed("suspects")}
    return [
        PicturePair(
            kind, bits, mine.image_ids[a], theirs.image_ids[b], _small(first, mine, a), _small(second, theirs, b)
        )
        for kind, found in kinds.items()
        for a, b, bits in found[:SHOWN]
    ]
