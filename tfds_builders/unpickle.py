"""Reads pickles from outside without running code: only plain containers, text, numbers, bytes, bool and None."""

import io
import pickle
from collections.abc import Callable
from typing import Any, NoReturn

MAX_BYTES = 1 << 30
PLAIN = (dict, list, tuple, set, frozenset, str, bytes, int, float, bool, type(None))


def _encode_latin1(text: str, encoding: str = "") -> bytes:
    """The bytes that pickles of protocol 2 and below write as Latin-1 text; nothing else may be encoded."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it encodes something other than bytes")
    return text.encode("latin1")


# The names by which older protocols make sets and bytes. Each is a constructor of plain values.
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("__builtin__", "frozenset"): frozenset,
    ("_codecs", "encode"): _encode_latin1,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a plain value")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to an object outside of the file")


def load_plain(data: bytes, *, name: str) -> Any:
    """The value of a pickle that holds only plain values; `name` is the file, for messages.

    Raises:
        ValueError: naming the file and the offending object, if it would build anything else or is not a pickle.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} has {len(data)} bytes, more than {MAX_BYTES}. It is refused.")
    try:
        value = _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
    except Exception as error:  # a hostile file can raise anything; none of it may pass as data
        raise ValueError(f"{name} is refused: {str(error) or type(error).__name__}. Get it again.") from error
    _check_plain(value, name=name)
    return value


def _check_plain(value: Any, *, name: str) -> None:
    """Raises ValueError unless the type of every value inside is one of PLAIN, not a subclass; visits each once."""
    waiting, seen = [value], {id(value)}
    while waiting:
        item = waiting.pop()
        if type(item) not in PLAIN:
            raise ValueError(f"{name} is refused: it holds a {type(item).__name__}, which is not a plain value.")
        inside = [*item.keys(), *item.values()] if isinstance(item, dict) else item
        if isinstance(inside, list | tuple | set | frozenset):
            fresh = [one for one in inside if id(one) not in seen]
            seen.update(map(id, fresh))
            waiting += fresh
