"""The processes of a run: they exchange values, wait for each other, and take turns.

They use the key-value store of jax's coordination service. It needs no device, so that a process may wait for hours.
Waiting processes poll it, so that Ctrl-C reaches them.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
SOONEST, LATEST = 0.005, 0.25  # seconds between two polls of a waiting process, at first and at last


@runtime_checkable
class Store(Protocol):
    """The methods of jax's `DistributedRuntimeClient` that are used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Keeps a text; without `allow_overwrite`, a second text under the same key is an error."""
        ...

    def key_value_set_bytes(self, key: str, value: bytes) -> None:
        """Keeps bytes."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """(key, text) of everything under a folder of keys."""
        ...

    def key_value_dir_get_bytes(self, key: str) -> list[tuple[str, bytes]]:
        """(key, bytes) of everything under a folder of keys."""
        ...

    def key_value_delete(self, key: str) -> None:
        """Removes a key, and everything under it."""
        ...


class Group:
    """The processes of a run, as one of them sees them. All of them must call the same methods in the same order.

    Attributes:
        index: number of this process, from 0.
        count: number of processes.
        store: the store that they share; None for a single process.
    """

    def __init__(self, index: int = 0, count: int = 1, store: Store | None = None) -> None:
        """Makes the group of process `index` of `count`."""
        self.index, self.count, self.store = index, count, store
        self._round = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the run's files and prints."""
        return self.index == 0

    def name(self, index: int) -> str:
        """The name of a process for readers, such as `process 1 of 4`; processes count from 0."""
        return f"process {index} of {self.count}"

    def gather(self, value: bytes = b"", *, what: str) -> list[bytes]:
        """The values of all processes, in the order of the processes; waits for all of them.

        Args:
            value: this process's value.
            what: the name of this place in the program.

        Raises:
            RuntimeError: if another process is at another place in the program.
        """
        if self.store is None:
            return [value]
        here, self._round = f"radvqa/round/{self._round:08}", self._round + 1
        self.store.key_value_set_bytes(f"{here}/value/{self.index}", value)
        self.store.key_value_set(f"{here}/ready/{self.index}", what)
        pause = SOONEST
        while len(ready := self.store.key_value_dir_get(f"{here}/ready/")) < self.count:
            time.sleep(pause)
            pause = min(2 * pause, LATEST)
        for key, place in ready:
            if place != what:
                other = self.name(int(key.rpartition("/")[2]))
                raise RuntimeError(f"{self.name(self.index)} is at {what!r}, {other} at {place!r}; they must agree.")
        found = {int(key.rpartition("/")[2]): item for key, item in self.store.key_value_dir_get_bytes(f"{here}/value")}
        if self.first and self._round > 1:  # all processes are in this round, so none still reads the one before
            self.store.key_value_delete(f"radvqa/round/{self._round - 2:08}")
        return [found[index] for index in range(self.count)]

    def from_first(self, make: Callable[[], bytes], *, what: str) -> bytes:
        """The result of `make` in the first process; the others wait for it without calling `make`."""
        return self.gather(make() if self.first else b"", what=what)[0]

    def first_alone(self, do: Callable[[], T], *, others: T, what: str) -> T:
        """Calls `do` in the first process, which gets its result; the others wait, and get `others`."""
        found = do() if self.first else others
        self.gather(what=what)
        return found

    def each(self, do: Callable[[], T], *, what: str) -> T:
        """Calls `do` in every process and waits for all of them. An error in one process is an error in all.

        Raises:
            ValueError: with the message of the first process that failed, if this one did not fail.
        """
        try:
            value, error = [do()], None
        except Exception as found:
            value, error = [], found
        said = self.gather((str(error) or type(error).__name__).encode() if error else b"", what=what)
        if error is not None:
            raise error
        for index, text in enumerate(said):
            if text:
                raise ValueError(f"{self.name(index)}: {text.decode()}")
        return value[0]


ALONE = Group()  # a single process, which waits for none
_group = ALONE


def join(group: Group) -> None:
    """Sets the processes of the run; call it once."""
    global _group
    _group = group


def group() -> Group:
    """The processes of the run: only this one, unless `join` was called."""
    return _group
