"""Texts without images: the index in the folder of a prepared split."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data import text_index
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows

SOURCE = SourceConfig(dataset="vqa_rad", builder_config="official")


@pytest.fixture
def data_dir(dummy_dir: Path, tmp_path: Path) -> Path:
    """A copy of the prepared stand-in, without the files kept with it."""
    copy = tmp_path / "tfds"
    shutil.copytree(dummy_dir, copy)
    for path in copy.rglob("*.parquet"):
        path.unlink()
    return copy


def load(data_dir: Path, **fields: Any) -> RowSource:
    return load_rows(SourceConfig(**(vars(SOURCE) | fields)), DataConfig(data_dir=str(data_dir)))


def test_texts_are_those_of_the_rows(data_dir: Path) -> None:
    rows = load(data_dir).select([3, 0, 5])
    whole = [{key: value for key, value in row.items() if key != "image"} for row in rows]
    assert list(rows.texts()) == whole
    assert rows.column("question") == [row["question"] for row in whole]
    assert rows.column("choices") == [[], [], []]
    assert set(rows.text_fields()) == {key for key, value in whole[0].items() if isinstance(value, str)}


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("records are read")


def test_records_are_read_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = load(data_dir).column("question")
    assert len(list(data_dir.rglob("text_index-train.parquet"))) == 1
    monkeypatch.setattr(text_index, "make_index", refuse)
    assert load(data_dir).column("question") == want


def test_an_index_of_other_data_is_made_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = load(data_dir).column("question")
    (path,) = data_dir.rglob("text_index-train.parquet")
    files = list(path.parent.glob("*.array_record*"))
    for file in files:
        shutil.copyfile(file, file.with_suffix(".copy"))
        file.with_suffix(".copy").replace(file)  # as if prepared again: the same bytes, another time
    made: list[int] = []
    real = text_index.make_index
    monkeypatch.setattr(text_index, "make_index", lambda *a: made.append(1) or real(*a))
    assert load(data_dir).column("question") == want and made == [1]
    path.write_bytes(path.read_bytes()[:100])  # cut
    assert load(data_dir).column("question") == want and made == [1, 1]


def test_in_a_read_only_folder_the_index_is_kept_in_memory(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deny(*_: Any, **__: Any) -> Any:
        raise PermissionError("denied")

    monkeypatch.setattr(text_index, "atomic_write", deny)
    assert len(load(data_dir).column("question")) == 13
    assert "cannot be written" in capsys.readouterr().out
    assert not list(data_dir.rglob("*.parquet"))


def test_captions_and_filters_read_no_image(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(data_dir).column("question")  # makes the index
    real, read = RowSource.__getitem__, []
    monkeypatch.setattr(RowSource, "__getitem__", lambda self, index: read.append(index) or real(self, index))
    with pytest.raises(ValueError, match="has no rows for task='caption'"):
        load(data_dir, task="caption")
    assert len(read) <= 1  # the check of types looks at one record; there are 13


def test_no_flipped_bit_gives_other_texts(data_dir: Path) -> None:
    load(data_dir).column("question")
    (path,) = data_dir.rglob("text_index-train.parquet")
    whole = path.read_bytes()
    key = pq.read_schema(path).metadata[b"radvqa_jax"].decode()
    want = text_index.read_sidecar(path, key=key)
    assert want is not None
    rng = np.random.default_rng(0)
    for position, bit in zip(rng.integers(0, len(whole), 300), rng.integers(0, 8, 300), strict=True):
        held = bytearray(whole)
        held[position] ^= 1 << bit
        path.write_bytes(held)
        assert text_index.read_sidecar(path, key=key) is None
    path.write_bytes(whole)
    assert text_index.read_sidecar(path, key=key) == want
