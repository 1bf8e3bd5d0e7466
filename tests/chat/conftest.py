"""Fixtures of the tests of the chat client."""

from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.chat_client import ChatClient
from radvqa_jax.config import ChatConfig


@pytest.fixture
def make(chat_server: Any, tmp_path: Path) -> Any:
    """A function that makes a client of the server, with some fields of its configuration changed."""
    made: list[ChatClient] = []

    def client(*, used: tuple[int, int] = (0, 0), **fields: Any) -> ChatClient:
        given: dict[str, Any] = {"base_url": chat_server.url, "model": "m", "retries": 2, "timeout": 5.0} | fields
        made.append(ChatClient(ChatConfig(**given), cache=tmp_path / "cache.jsonl", used=used))
        return made[-1]

    yield client
    for each in made:
        each.close()
