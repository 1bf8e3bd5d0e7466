"""Fixtures of the tests of evaluation: a judge with a server, and a small model that answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import Config, JudgeConfig
from radvqa_jax.evaluation import predict as module
from radvqa_jax.evaluation.judge import judge
from radvqa_jax.evaluation.judge_file import JudgeFile
from radvqa_jax.files import write_jsonl
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat
from tests.evaluation.judge_case import RECORDS, honest
from tests.evaluation.predict_case import Predictor


@pytest.fixture
def ask(chat_server: Any, tmp_path: Path) -> Callable[..., JudgeFile]:
    """A function that judges records with the server."""
    chat_server.behave = honest(chat_server)
    path = tmp_path / "answers.jsonl"

    def run(records: list[Record] = RECORDS, **fields: Any) -> JudgeFile:
        given: dict[str, Any] = {"base_url": chat_server.url, "model": "m", "attacks": 0, "retries": 1, "timeout": 5.0}
        write_jsonl(path, [r.to_json() for r in records])
        config = JudgeConfig(**(given | fields))
        return judge(records, predictions=path, config=config, cache=tmp_path / "cache.jsonl")

    return run


@pytest.fixture
def predictor(micro_config: Callable[..., Config]) -> Predictor:
    return Predictor(micro_config())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of real rows of each batch that is decoded."""
    seen: list[int] = []
    real = module.decode

    def counted(model: PaliGemma, params: Flat, batch: Any, key: Any, **others: Any) -> Any:
        seen.append(int(batch.mask_example.sum()))
        return real(model, params, batch, key, **others)

    monkeypatch.setattr(module, "decode", counted)
    return seen
