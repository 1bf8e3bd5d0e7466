"""Divides rows without a split: rows that share a case, an image or its pixels stay together."""

import collections
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence

SHARES = {"test": 0.1, "validation": 0.1}  # of the rows; the rest is train


def groups(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """The number of each row's group: rows that share a key, directly or through others, are in one group.

    >>> groups([["a"], ["b", "a"], ["c"], ["b"]])
    [0, 0, 2, 0]
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, own in enumerate(keys):
        for key in own:
            a, b = root(first.setdefault(key, row)), root(row)
            parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(keys))]


def divide(members: Sequence[int], names: Sequence[str], *, seed: int) -> list[str]:
    """The split of each row.

    Whole groups are drawn in the order of a hash of `seed` and their first name, first for test, then for validation,
    until each has its share of the rows. A group is left to the next split if with it the split would be no nearer to
    its share. If every group is too large, the split gets the smallest. Two groups give train and test; one gives train
    alone.

    Args:
        members: the group of each row, from `groups`.
        names: identify each row's image independently of the order of rows, such as a hash of its pixels.
        seed: of the draw.
    """
    rows = collections.Counter(members)
    name: dict[int, str] = {}
    for group, own in zip(members, names, strict=True):
        name[group] = min(name.get(group, own), own)
    order = sorted(rows, key=lambda group: hashlib.sha256(f"{seed}\n{name[group]}".encode()).digest())
    chosen = _fill(order, rows, total=len(members))
    return [chosen.get(group, "train") for group in members]


def _fill(order: list[int], rows: Mapping[int, int], *, total: int) -> dict[int, str]:
    chosen: dict[int, str] = {}
    for split, share in SHARES.items():
        left = [group for group in order if group not in chosen]
        wanted, have = share * total, 0
        for group in left[:-1]:  # train keeps at least one
            far = abs(have + rows[group] - wanted) - abs(have - wanted)
            if far > 0 or (have and far == 0):
                continue
            chosen[group] = split
            have += rows[group]
            if have >= wanted:
                break
        if not have and len(left) > 1:
            chosen[min(left, key=rows.__getitem__)] = split
    return chosen
