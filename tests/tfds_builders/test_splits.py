"""The split that is drawn for a table without one."""

import random
from collections import Counter

import pytest

from tfds_builders.table.splits import SHARES, divide


def drawn(sizes: list[int], *, seed: int) -> Counter[str]:
    """The number of rows in each split of groups of these sizes."""
    members = [group for group, size in enumerate(sizes) for _ in range(size)]
    return Counter(divide(members, [f"image {group}" for group in members], seed=seed))


def test_a_group_of_most_rows_is_for_training() -> None:
    for seed in range(40):
        assert drawn([60] + [4] * 10, seed=seed) == {"test": 8, "validation": 8, "train": 84}


@pytest.mark.parametrize("sizes", [[95, 5], [5, 95]])
def test_of_two_groups_the_smaller_is_for_the_test(sizes: list[int]) -> None:
    assert drawn(sizes, seed=0) == drawn(sizes, seed=1) == {"test": 5, "train": 95}


def test_the_test_split_has_at_most_twice_its_share_or_the_smallest_group() -> None:
    draw = random.Random(0)
    for seed in range(200):
        sizes = [draw.choice([1, 2, 3, draw.randint(1, 40)]) for _ in range(draw.randint(1, 20))]
        rows = drawn(sizes, seed=seed)
        assert rows["train"] and bool(rows["test"]) == (len(sizes) > 1)
        assert rows["test"] <= max(2 * SHARES["test"] * sum(sizes), min(sizes)), (sizes, rows)


def test_groups_of_one_size_are_drawn_in_the_order_of_their_hashes() -> None:
    """Another draw would move rows of test into train when a table is prepared anew."""
    members = list(range(10))
    split = divide(members, [f"image {group}" for group in members], seed=0)
    assert [split.index("test"), split.index("validation")] == [1, 6]
