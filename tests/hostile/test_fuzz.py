"""Readers of users' files get any bytes: the only result may be a value or an error of ours, in time.

Hypothesis makes small files of two kinds: random bytes, and good files with a few changed bytes or fields. What a
reader raises must be ValueError or FileNotFoundError (OSError for the file system's own refusals); a traceback of
anything else, more than five seconds, or an allocation far beyond the file is a failure.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radvqa_jax import files
from radvqa_jax.checkpoints.adapter import inspect_adapter, load_adapter, save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta, BaseUse, _hash_content, read_meta
from radvqa_jax.checkpoints.npz import NpzReader
from radvqa_jax.config import LoraConfig
from radvqa_jax.locks import read_holder
from radvqa_jax.training.hooks import read_losses

from .limits import survives

ANY = settings(
    max_examples=60,
    deadline=5000,  # milliseconds
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
META = AdapterMeta(
    "stage2",
    3,
    LoraConfig(rank=2),
    "base.npz",
    "ab" * 32,
    "cd" * 32,
    BaseUse("tiny", 28, "{question}", 20, "ef" * 32, "none", "float32", "float32"),
)


def only_ours(read: Callable[[], Any]) -> None:
    """Calls a reader; anything but its value or an error of ours, in time and memory, is a failure."""
    survives(read, errors=(ValueError, OSError))


def adapter(folder: Path) -> Path:
    leaves = {"img/head/bias": np.zeros(4, np.float32), "w/lora_a": np.ones((3, 2), np.float32)}
    return save_adapter(folder, leaves | {"w/lora_b": np.ones((2, 3), np.float32)}, META)


def change(data: bytes, edits: list[tuple[float, int]]) -> bytes:
    """The bytes with some of them replaced; places are shares of the length."""
    changed = bytearray(data)
    for place, value in edits:
        changed[min(int(place * len(changed)), len(changed) - 1)] = value
    return bytes(changed)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)


@ANY
@given(data=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"PK\x03\x04" + tail))
def test_bytes_as_npz(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.npz"
    path.write_bytes(data)
    only_ours(lambda: NpzReader(path, kind="a checkpoint", remedy="Give one.").close())


@ANY
@given(
    header=st.text(max_size=120)
    | st.builds(
        lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}),
        st.sampled_from(["<f4", "|O", "V2", "<f8", "|S99999999", "<U5", "f4,O", "", "x"]),
        st.booleans() | st.integers(),
        st.lists(st.integers(-2, 2**62) | st.booleans(), max_size=4).map(tuple),
    )
    | st.sampled_from(["-" * 9000 + "1", "[" * 5000, "(" * 190 + ")" * 190, "{'shape': 9**9**9}", "__import__('os')"]),
    version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x07"]),
    packed=st.booleans(),
)
def test_headers_of_npz_arrays(tmp_path: Path, header: str, version: bytes, packed: bool) -> None:
    text = header.encode("utf-8", "surrogatepass")
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    path = tmp_path / "any.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + version + size + text + bytes(64))

    def read() -> None:
        with NpzReader(path, kind="a checkpoint", remedy="Give one.") as reader:
            for name in reader.shapes:
                reader.read(name)

    only_ours(read)


@ANY
@given(edits=EDITS)
def test_an_adapter_with_changed_bytes(tmp_path: Path, edits: list[tuple[float, int]]) -> None:
    good = adapter(tmp_path / "good")
    path = tmp_path / "adapter.npz"
    path.write_bytes(change(good.read_bytes(), edits))
    path.with_suffix(".json").write_bytes(good.with_suffix(".json").read_bytes())
    only_ours(lambda: load_adapter(path))


@ANY
@given(edits=EDITS, drop=st.floats(0, 1))
def test_a_description_with_changed_bytes(tmp_path: Path, edits: list[tuple[float, int]], drop: float) -> None:
    good = adapter(tmp_path / "good")
    described = good.with_suffix(".json")
    text = described.read_bytes()
    described.write_bytes(change(text, edits)[: len(text) if drop < 0.7 else int(drop * len(text))])
    only_ours(lambda: load_adapter(good))


@ANY
@given(
    field=st.sampled_from(
        ["format", "stage", "step", "lora", "base_name", "base_sha256", "base_use", "leaves", "sha256"]
    ),
    inner=st.sampled_from(["", "rank", "alpha", "rslora", "dropout", "targets", "prompt", "seq_len", "img/head/bias"]),
    value=JSON,
)
def test_a_description_with_any_value(tmp_path: Path, field: str, inner: str, value: Any) -> None:
    good = adapter(tmp_path / "good")
    described = good.with_suffix(".json")
    row = json.loads(described.read_text())
    if inner and isinstance(row[field], dict):
        row[field][inner] = value
    else:
        row[field] = value
    try:
        row["content_sha256"] = _hash_content(row)
    except ValueError:  # NaN has no hash
        row["content_sha256"] = "0" * 64
    described.write_text(json.dumps(row))
    only_ours(lambda: inspect_adapter(good))


@ANY
@given(text=st.text(max_size=200) | JSON.map(json.dumps) | st.sampled_from(["[" * 10**5, "9" * 5000, '{"a":' * 5000]))
def test_any_text_as_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "adapter.json"
    data = text.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    (tmp_path / "losses.jsonl").write_bytes(data + b"\n")
    (tmp_path / ".lock.json").write_bytes(data)
    for read in (files.read_json, files.read_jsonl, read_meta):
        only_ours(lambda read=read: read(path))
    only_ours(lambda: read_losses(tmp_path))
    only_ours(lambda: read_holder(tmp_path))


@pytest.mark.parametrize("count", [20_001])
def test_an_archive_of_very_many_members(tmp_path: Path, count: int) -> None:
    member = io.BytesIO()
    np.save(member, np.zeros(1, np.float32))
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.npy", member.getvalue())
    with pytest.raises(ValueError, match=r"holds 20,001 files, and no model has more than 20,000"):
        NpzReader(path, kind="a checkpoint", remedy="Give one.")
    only_ours(lambda: NpzReader(path, kind="a checkpoint", remedy="Give one."))
