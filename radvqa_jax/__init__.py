"""PaliGemma adapted to radiological visual question answering, in JAX.

    import radvqa_jax

    model = radvqa_jax.load("paligemma-3b-mix-448", adapter="runs/s2/stage2")
    answer = model.answer("chest.png", "Is there a nodule?", samples=5)
    model.saliency(answer).show(word="nodule", method="rollout")
    model.export("peft", "out/")

Importing the package loads neither jax nor a model. The first use of a name below imports radvqa_jax/api.py.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radvqa_jax.api import Answer, Choice, MapQuality, Maps, Model, Picture, Scores, load, mask_of, read_rows

__version__ = "0.1.0"
__all__ = ["Answer", "Choice", "MapQuality", "Maps", "Model", "Picture", "Scores", "load", "mask_of", "read_rows"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("radvqa_jax.api"), name)
    raise AttributeError(f"module 'radvqa_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
