"""A Hugging Face folder with another image processor is refused: its pixels would have other values here."""

import json
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.checkpoints.hf_images import check_images
from radvqa_jax.config import Config, ModelConfig
from radvqa_jax.resolve import resolve_model

RELEASED = {"do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True, "resample": 3}
RELEASED |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"image_mean": 0.5, "do_rescale": None},
        {"image_mean": [0.48, 0.46, 0.41]},
        {"image_std": [0.5, 0.5]},
        {"image_std": "0.5"},
        {"rescale_factor": 1.0},
        {"rescale_factor": True},
        {"do_normalize": False},
        {"do_rescale": 1},
    ],
)
def test_other_values_of_pixels_are_refused(change: dict[str, Any], nested: bool, tmp_path: Path) -> None:
    config = RELEASED | change
    name, text = (
        ("processor_config.json", {"image_processor": config}) if nested else ("preprocessor_config.json", config)
    )
    (tmp_path / name).write_text(json.dumps(text))
    if len(change) in (0, 2):
        check_images(tmp_path)
        return
    with pytest.raises(ValueError, match=rf"{name}: {next(iter(change))}=.* is not how this project prepares images"):
        check_images(tmp_path)


def test_a_folder_without_a_processor_is_not_judged(tmp_path: Path) -> None:
    check_images(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"image_seq_length": 256}')
    check_images(tmp_path)


def test_a_folder_that_is_given_as_checkpoint_is_judged(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.48, 0.46, 0.41]}')
    config = Config(model=ModelConfig(checkpoint=str(tmp_path)))
    with pytest.raises(ValueError, match=r"image_mean=.* is not how this project prepares images"):
        resolve_model(config)
