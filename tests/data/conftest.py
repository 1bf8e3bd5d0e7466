"""Rows without a prepared data set, and VQA-RAD's small stand-in, prepared once."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from tests.data.preparing_case import STAND_IN
from tfds_builders.features import common_row


def png(value: int, *, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of one grey level."""
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def fake_rows(n: int, *, first: int = 0, weight: float = 1.0, task: str = "vqa", **fields: Any) -> RowSource:
    """n rows; row i has the image of grey level first + i, and question and answer `{first + i}`."""
    rows = [
        common_row(
            png(first + i),
            image_id=f"image-{first + i}",
            case_id=f"case-{first + i}",
            question_id=str(first + i),
            question=str(first + i),
            answer=str(first + i),
        )
        | {key: value[i] for key, value in fields.items()}
        for i in range(n)
    ]
    source = SourceConfig(dataset="fake", weight=weight, task=task)  # pyright: ignore[reportArgumentType]
    return RowSource(rows, indices=range(n), source=source, fingerprint={"dataset": "fake", "builder_config": ""})


@pytest.fixture(scope="session")
def tokenizer(golden: Path) -> Tokenizer:
    """The tokenizer of the golden values."""
    return Tokenizer(golden / "tiny_tokenizer.model")


@pytest.fixture(scope="session")
def dummy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with the stand-in for VQA-RAD, prepared."""
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare("vqa_rad", data=DataConfig(data_dir=str(data_dir), manual_dir=str(STAND_IN), allow_count_mismatch=True))
    return data_dir


@pytest.fixture(scope="session")
def vqa_rad_dir(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with the real VQA-RAD, prepared; skips the test where its files are absent."""
    if not (shared_data / "vqa_rad").is_dir():
        pytest.skip("the official files of VQA-RAD are absent")
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare("vqa_rad", data=DataConfig(data_dir=str(data_dir), manual_dir=str(shared_data / "vqa_rad")))
    return data_dir


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the official files' stand-in, to be changed."""
    return Path(shutil.copytree(STAND_IN, tmp_path / "files"))


@pytest.fixture
def config(files: Path, tmp_path: Path) -> Callable[..., DataConfig]:
    """A function that makes the configuration for these files, with some fields changed."""

    def make(**fields: Any) -> DataConfig:
        usual = {"data_dir": str(tmp_path / "data"), "manual_dir": str(files), "allow_count_mismatch": True}
        return DataConfig(**(usual | fields))

    return make
