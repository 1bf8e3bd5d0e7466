"""Ctrl-C while questions are written."""

from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.files import read_jsonl
from radvqa_jax.runners.write_questions import write_candidates
from tests.chat.chat_case import Interrupted
from tests.synthesis.writing_case import Configure


def test_ctrl_c_says_what_it_waits_for_and_sends_nothing_more(
    configure: Configure, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Interrupted(chat_server, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        write_candidates(configure(chat={"concurrency": 2, "retries": 4}), tmp_path)
    assert [line.partition(" of ")[2].split()[0] for line in interrupted.said] == ["2"]
    assert len(chat_server.requests) == 2 and len(read_jsonl(tmp_path / "chat_cache.jsonl")) == 1
