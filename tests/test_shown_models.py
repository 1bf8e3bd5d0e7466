"""The models of mode=ask and mode=saliency: the last one is asked, and none takes the name of another."""

from pathlib import Path

import numpy as np
import pytest

from radvqa_jax import loaded_base
from radvqa_jax.config import LoraConfig, default_config, use_embedded_model
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.loaded_base import LoadedBase, shown_models
from radvqa_jax.training.stage import Base, Trained


@pytest.mark.parametrize("adapter", ["", "b/stage2"])
@pytest.mark.parametrize(
    "beside",
    [(), ("a/stage2",), ("base",), ("adapted",), ("x/a/stage2", "y/a/stage2"), ("base", "a/base", "c/a/base")],
)
def test_the_last_model_is_the_one_that_is_asked(
    adapter: str, beside: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_base, "load_trained", lambda path, *_: Trained({path: np.zeros(1)}, LoraConfig()))
    fields = default_config()
    use_embedded_model(fields)
    fields.update_from_flattened_dict(
        {"mode": "ask", "ask.image": "x.png", "ask.question": "Where?", "adapter": adapter, "saliency.beside": beside}
    )
    config = from_config_dict(fields)
    found = shown_models(LoadedBase(config, tmp_path, Tokenizer(config.model.tokenizer), Base({}, "", "")))
    leaves = [next(iter(trained.leaves), "nothing") for trained in found.values()]
    assert leaves == (["nothing", *beside, adapter] if adapter else [*beside, "nothing"])
    assert list(found)[-1] == ("adapted" if adapter else "base")
    assert all(Path(name).name == Path(path).name for name, path in zip(found, leaves, strict=True) if path in beside)
