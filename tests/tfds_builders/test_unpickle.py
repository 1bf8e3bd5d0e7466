"""Pickles: plain values are read in every protocol, and everything else is refused."""

import collections
import datetime
import os
import pickle
import pickletools
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfds_builders.unpickle import load_plain

PLAIN: Any = [
    {"sent": "Where is it?", "label": {"in the liver": 1, "häufig": 0.3}, "n": 2**80, "none": None},
    (True, False, -1.5, b"\x00\xff", {1, 2}, frozenset({"a"}), [], {}),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_through(protocol: int) -> None:
    assert load_plain(pickle.dumps(PLAIN, protocol=protocol), name="x.pkl") == PLAIN


def test_text_of_python_2_is_read() -> None:
    assert load_plain(b"S'liver'\np0\n.", name="x.pkl") == "liver"


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_runs(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    hostile = pickle.dumps([PLAIN, Call(os.system, f"touch {target}")], protocol=protocol)
    with pytest.raises(ValueError, match=r"x.pkl is refused: it asks for posix.system, which is not a plain value"):
        load_plain(hostile, name="x.pkl")
    assert not target.exists()
    pickle.loads(hostile)  # the attack itself works
    assert target.exists()


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (Call(eval, "1"), "builtins.eval"),
        (Call(exec, "1"), "builtins.exec"),
        (Call(getattr, "", "upper"), "builtins.getattr"),
        (Call(bytearray, 10), "builtins.bytearray"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (Decimal(1), "decimal.Decimal"),
        (np.zeros(2), "numpy"),
        (1j, "builtins.complex"),
        (os.system, "posix.system"),
        (Call(Path, "x"), "pathlib"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_everything_else_is_refused_by_name(value: Any, asked: str) -> None:
    with pytest.raises(ValueError, match=rf"x.pkl is refused: it asks for {asked}"):
        load_plain(pickle.dumps(value), name="x.pkl")


def test_encoding_is_for_bytes_alone() -> None:
    """`_codecs.encode` is how old protocols write bytes; it could also unpack a bomb."""
    for arguments in (b"X\x01\x00\x00\x00aX\x04\x00\x00\x00zlib", b"X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13"):
        hostile = b"c_codecs\nencode\n(" + arguments + b"tR."
        assert [code.name for code, _, _ in pickletools.genops(hostile)][-1] == "STOP"  # well-formed
        with pytest.raises(ValueError, match="encodes something other than bytes"):
            load_plain(hostile, name="x.pkl")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.pkl is refused"),
        (b"not a pickle", "x.pkl is refused"),
        (pickle.dumps(PLAIN)[:-5], "x.pkl is refused"),
        (b"cbuiltins\nset\n.", "it holds a type"),  # the class itself, not a set
        (b"P1\n.", "refers to an object outside"),
        (b"\x82\x01.", "x.pkl is refused"),  # an extension that is not registered
        (b"cbuiltins\nset\n)R}(X\x01\x00\x00\x00aK\x01ub.", "x.pkl is refused"),  # attributes set on a set
    ],
    ids=["empty", "text", "cut", "class", "persistent", "extension", "state"],
)
def test_broken_and_odd_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_plain(data, name="x.pkl")


def test_values_that_hold_each_other_without_end_are_looked_at_once() -> None:
    layer: Any = ["lol"]
    for _ in range(200):  # 2 ** 200 if every path were walked
        layer = [layer, layer]
    layer.append(layer)
    assert len(load_plain(pickle.dumps(layer), name="x.pkl")) == 3


def test_files_that_are_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfds_builders.unpickle.MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"more than 10\. It is refused"):
        load_plain(pickle.dumps(PLAIN), name="x.pkl")
