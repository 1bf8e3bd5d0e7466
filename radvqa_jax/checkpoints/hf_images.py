"""Refuses Hugging Face folders whose images are prepared otherwise than here: as [-1, 1], in RGB."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import typed_json

# The image processor is a file of its own, or, from transformers 5 on, a part of the processor's.
FILES = (("preprocessor_config.json", ""), ("processor_config.json", "image_processor"))
_HALF = (0.5, 0.5, 0.5)
# Field -> the value that data/image.py corresponds to; an absent field has it.
EXPECTED: dict[str, Any] = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _HALF,
    "image_std": _HALF,
}


def check_images(folder: Path) -> None:
    """Raises ValueError, naming file and field, if a folder's image processor computes other pixel values."""
    for name, part in FILES:
        if not (folder / name).is_file():
            continue
        found = typed_json.read(folder / name, dict[str, Any])
        found = found.get(part) or {} if part else found
        for field, expected in EXPECTED.items():
            value = found.get(field) if isinstance(found, Mapping) else None
            if value is not None and not _same(value, expected):
                raise ValueError(
                    f"{folder / name}: {field}={value!r:.100} is not how this project prepares images ({expected}), so "
                    "that the model would see others than it was trained on. If the file is wrong, correct it there."
                )


def _same(value: Any, expected: Any) -> bool:
    values = list(value) if isinstance(value, list) else [value] * (len(_HALF) if isinstance(expected, tuple) else 1)
    wanted = list(expected) if isinstance(expected, tuple) else [expected]
    if len(values) != len(wanted) or any(isinstance(one, bool) != isinstance(wanted[0], bool) for one in values):
        return False
    return all(
        isinstance(x, int | float) and math.isclose(x, y, rel_tol=1e-5) for x, y in zip(values, wanted, strict=True)
    )
