"""The report of written questions: it counts every image about which there is no pair, whatever run asked."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import ChecksConfig, Config
from radvqa_jax.files import read_json
from radvqa_jax.runners.write_questions import write_questions_mode
from radvqa_jax.synthesis.ledger import read_ledger
from radvqa_jax.synthesis.writing import WritingStopped
from tests.chat.chat_case import SOON
from tests.synthesis.conftest import read_prompt
from tests.synthesis.writing_case import Configure


def report_of(folder: Path) -> dict[str, Any]:
    """questions.json without the figures of one run."""
    report = read_json(folder / "questions.json")
    cost = {name: value for name, value in report["cost"] if not name.endswith(" by this run")}
    return report | {"cost": cost, "settings": None}


def settings(configure: Configure, name: str, **chat: Any) -> Config:
    config = configure(writers=(("case", 1.0), ("templates", 1.0)), limit=6, attempts=2, chat={"concurrency": 1} | chat)
    checks = ChecksConfig(off=("entailment", "round_trip"))
    own = dataclasses.replace(config.synthesis, name=name, measure=0, checks=checks)
    return dataclasses.replace(config, synthesis=own)


def test_the_report_of_a_run_that_stopped_or_is_repeated_is_that_of_an_undisturbed_one(
    configure: Configure, chat_server: Any, honest: Any, phantoms: Path, tmp_path: Path
) -> None:
    """The stand-in gives no pair about some images, and no answer to the checks, which reject its pairs."""

    def behave(body: dict[str, Any]) -> Any:
        return honest(body) if len(read_prompt(body)[1]["caption"]) % 2 else chat_server.say("[1]")

    def make(**chat: Any) -> Config:
        return settings(configure, "stopped_questions", **chat)

    chat_server.behave = behave
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    write_questions_mode(make(), whole)
    sent = len(chat_server.requests)
    with pytest.raises(WritingStopped):
        write_questions_mode(make(max_calls=sent - 2), stopped)
    write_questions_mode(make(), stopped)
    report = report_of(whole)
    lines = read_ledger(whole / "written.jsonl")
    rejected = sum(line.state == "rejected" for line in lines)
    assert 0 < rejected < 6 and report["malformed"] == {"case: off schema: the whole": rejected}
    assert report["cost"]["writing.replies"] == str(sum(line.replies for line in lines)) == str(sent)
    assert report["cost"]["writing.tokens of replies"] == str(15 * sent)
    assert report_of(stopped) == report
    write_questions_mode(make(), whole)
    assert report_of(whole) == report and "off schema: the whole" in (whole / "questions.html").read_text()
    prepared = phantoms / "written" / "stopped_questions" / "1.0.0"
    assert report_of(prepared) == report


def test_images_whose_request_failed_are_counted_until_a_run_gets_their_replies(
    configure: Configure, chat_server: Any, honest: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_server.behave = lambda body: honest(body) if len(chat_server.requests) > 2 else (500, "text/plain", b"", SOON)
    config = settings(configure, "failed_questions", retries=1)
    write_questions_mode(config, tmp_path)
    assert "images without a reply: 1 (status 500). Run the same command again" in capsys.readouterr().out
    assert report_of(tmp_path)["malformed"] == {"no reply: status 500": 1}
    assert "no reply: status 500" in (tmp_path / "questions.html").read_text()
    pairs = len(read_ledger(tmp_path / "written.jsonl"))
    write_questions_mode(config, tmp_path)
    assert "without a reply" not in capsys.readouterr().out and report_of(tmp_path)["malformed"] == {}
    assert len(read_ledger(tmp_path / "written.jsonl")) == pairs + 1
