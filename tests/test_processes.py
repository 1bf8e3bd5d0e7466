"""Processes exchange values in their order, wait for each other, and notice if they do different things."""

import time
from typing import Any

import pytest

from radvqa_jax.processes import ALONE, Group
from tests.several import MemoryStore, run_together


def test_each_process_gets_what_all_give_in_their_order() -> None:
    def rounds(group: Group) -> list[list[bytes]]:
        time.sleep(0.02 * (3 - group.index))  # the last one is first
        return [group.gather(f"{number}:{group.index}".encode(), what=f"round {number}") for number in range(12)]

    store = MemoryStore()
    found = run_together(3, rounds, store)
    assert found == [[[f"{number}:{index}".encode() for index in range(3)] for number in range(12)]] * 3
    # A round is removed once all processes are past it; without that a long run would fill process 0's memory.
    assert {key.split("/")[2] for key in store.kept} <= {"00000010", "00000011"}


def test_the_first_process_does_it_for_all_while_they_wait() -> None:
    done: list[int] = []

    def run(group: Group) -> tuple[bytes, str, bool]:
        def make() -> bytes:
            time.sleep(0.1)
            done.append(group.index)
            return b"made"

        found = group.from_first(make, what="one")
        alone = group.first_alone(lambda: "first", others="other", what="two")
        return found, alone, bool(done)

    assert run_together(2, run) == [(b"made", "first", True), (b"made", "other", True)] and done == [0]


@pytest.mark.parametrize(
    ("error", "text"), [(KeyError("no map"), "'no map'"), (MemoryError(), "MemoryError"), (AssertionError(), "Asser")]
)
def test_an_error_in_one_process_is_an_error_in_all(error: Exception, text: str) -> None:
    def run(group: Group) -> Any:
        def fail() -> str:
            if group.index == 1:
                raise error
            return "fine"

        with pytest.raises(type(error) if group.index == 1 else ValueError) as caught:
            group.each(fail, what="maps")
        return str(caught.value), group.each(lambda: group.index, what="again")

    said = run_together(3, run)
    assert said[1][0] == str(error)  # its own error, which may have no text
    assert all(said[index][0].startswith(f"process 1 of 3: {text}") for index in (0, 2))
    assert [value for _, value in said] == [0, 1, 2]


def test_processes_that_do_different_things_are_an_error() -> None:
    errors = run_together(2, lambda group: group.gather(what="maps" if group.index else "answers"))
    assert all(isinstance(error, RuntimeError) and "'answers'" in str(error) for error in errors), errors


def test_a_single_process_does_not_wait() -> None:
    assert ALONE.gather(b"x", what="") == [b"x"] and ALONE.from_first(lambda: b"y", what="") == b"y"
    assert ALONE.each(lambda: 1, what="") == 1 and ALONE.first_alone(lambda: 2, others=3, what="") == 2
