"""A small model that answers questions, for tests of predictions."""

from pathlib import Path
from typing import Any

from radvqa_jax.backbones import abstract_params, make_model
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.evaluation.predict import predict
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import get_variant
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat

# A batch of four: ten rows are two whole batches and a half. Drawn, so that each answer depends on its batch's number.
DRAWN = DecodeConfig(max_new_tokens=4, batch_size=4, temperature=1.0, samples=2)
FINGERPRINT = {"decode": {"temperature": 1.0, "targets": (("a", "b"),)}, "seed": 3}


class Predictor:
    """A model with rows to answer."""

    def __init__(self, config: Config) -> None:
        variant = get_variant(config.model.variant)
        self.config = config
        self.tokenizer = Tokenizer(config.model.tokenizer)
        self.model: PaliGemma = make_model(config.model)
        self.params: Flat = big_vision.load(config.model.checkpoint, abstract_params(variant))[0]
        self.rows: RowSource = load_rows(config.eval.source, config.data)

    @staticmethod
    def compiled() -> int:
        """The number of shapes and settings for which decoding was compiled."""
        return decode._cache_size()  # pyright: ignore[reportFunctionMemberAccess]

    def predict(self, folder: Path, *, rows: RowSource | None = None, **changed: Any) -> list[Record]:
        arguments = {"config": DRAWN, "seed": 3, "run": "base", "fingerprint": FINGERPRINT} | changed
        return predict(
            self.model,
            self.params,
            self.rows if rows is None else rows,
            tokenizer=self.tokenizer,
            data=self.config.data,
            path=folder / "base.jsonl",
            **arguments,
        )
