"""Several processes of a run as threads of one: they talk through a store in memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from radvqa_jax.processes import Group


class MemoryStore:
    """The store of jax's coordination service, for threads."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self._lock = threading.Lock()

    def key_value_set(self, key: str, value: Any, allow_overwrite: bool = False) -> None:
        with self._lock:
            if key in self.kept and not allow_overwrite:
                raise RuntimeError(f"ALREADY_EXISTS: {key}")
            self.kept[key] = value

    def key_value_set_bytes(self, key: str, value: bytes) -> None:
        self.key_value_set(key, value)

    def key_value_dir_get(self, key: str) -> list[tuple[str, Any]]:
        with self._lock:
            return [(name, value) for name, value in self.kept.items() if name.startswith(key.rstrip("/") + "/")]

    def key_value_dir_get_bytes(self, key: str) -> list[tuple[str, Any]]:
        return self.key_value_dir_get(key)

    def key_value_delete(self, key: str) -> None:
        with self._lock:
            self.kept = {name: value for name, value in self.kept.items() if not name.startswith(key + "/")}


def run_together(count: int, do: Callable[[Group], Any], store: MemoryStore | None = None) -> list[Any]:
    """The results of `do` in each of `count` processes, or the exceptions that it raises."""
    store = store or MemoryStore()

    def one(index: int) -> Any:
        try:
            return do(Group(index, count, store))
        except BaseException as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))
