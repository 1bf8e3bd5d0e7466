"""The stand-in of official files, and ways to read and damage a data set."""

import os
from pathlib import Path

import tfds_builders.vqa_rad
from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.sources import load_rows

STAND_IN = Path(tfds_builders.vqa_rad.__path__[0]) / "dummy_data"


def answers(config: DataConfig) -> list[str]:
    return load_rows(SourceConfig(dataset="vqa_rad"), config).column("answer")


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how in ("absent", "pipe"):
        path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how != "absent":
        path.write_bytes({"cut": data[: len(data) // 2], "zeros": bytes(len(data)), "list": b"[]"}[how])


TABLE = "VQA_RAD Dataset Public.json"
