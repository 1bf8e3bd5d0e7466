"""The judge with a server that fails, answers badly or costs too much: nothing is lost or paid for twice."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation.judge import JudgingStopped
from radvqa_jax.evaluation.judge_file import judge_path
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.files import read_jsonl
from tests.chat.chat_case import Interrupted
from tests.evaluation.judge_case import RECORDS, SOON, Ask, read_request, record


def test_a_bad_reply_is_asked_again_and_then_given_up(ask: Ask, chat_server: Any) -> None:
    good = chat_server.behave
    chat_server.behave = lambda body: good(body) if len(chat_server.requests) > 1 else chat_server.say("Score: 1")
    judged = ask(RECORDS[:1])
    (line,) = judged.answers.values()
    assert (line.state, line.score, line.attempts) == ("judged", 0, 2)
    assert "was not the JSON object" in chat_server.requests[1]["messages"][-1]["content"]

    chat_server.behave = lambda body: chat_server.say('{"mark": "', finish="length")
    judged = ask(RECORDS[1:3], attempts=2)
    assert {line.why for line in judged.answers.values()} == {
        "no verdict: not one JSON object (cut at judge.max_tokens)"
    }
    assert len(chat_server.requests) == 6
    # It is neither right nor wrong, and is not asked again without end.
    assert [judged.correct(judged.find(r)) for r in RECORDS[1:3]] == [None, None]
    ask(RECORDS[1:3], attempts=2)
    assert len(chat_server.requests) == 6
    scores = score_judge(judged, RECORDS[1:3], resamples=50, seed=0)
    assert scores["overall"] == {"accuracy": None, "score": None, "unjudged": 2}


def test_requests_that_failed_are_sent_again_in_a_later_run(ask: Ask, chat_server: Any) -> None:
    good = chat_server.behave

    def sometimes(body: dict[str, Any]) -> Any:
        _, fields = read_request(body)
        return (500, "text/plain", b"", SOON) if fields["question"] == "Question 2?" else good(body)

    chat_server.behave = sometimes
    judged = ask(concurrency=1)
    missing = judged.find(RECORDS[2])
    assert missing is not None and (missing.state, missing.why) == ("unjudged", "endpoint: status 500")
    assert len(judged.answers) == 6
    chat_server.behave = good
    before = len(chat_server.requests)
    assert ask().correct(ask().find(RECORDS[2])) is False
    assert len(chat_server.requests) == before + 1


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ((500, "text/plain", b"", SOON), r"failed 3 times in a row \(endpoint: status 500\)"),
        ((429, "text/plain", b"", SOON), r"failed 3 times in a row \(endpoint: status 429\)"),
        ((200, "application/json", b'{"choi', {}), r"failed 3 times in a row \(endpoint: no chat completion\)"),
        ((200, "text/html", b"<html>", {}), r"web page"),
        ((401, "application/json", b"{}", {}), r"refuses the key"),
    ],
)
def test_a_broken_endpoint_stops_the_run_and_what_came_before_is_kept(
    behave: Any, message: str, ask: Ask, chat_server: Any, tmp_path: Path
) -> None:
    good = chat_server.behave
    chat_server.behave = lambda body: good(body) if len(chat_server.requests) <= 2 else behave
    with pytest.raises(
        JudgingStopped, match=rf"{message}.* 2 of 6 are judged and kept in answers.judge-medm-.*start again"
    ):
        ask(concurrency=1, max_failures=3)
    chat_server.behave = good
    before = len(chat_server.requests)
    judged = ask(concurrency=1)
    assert [judged.correct(judged.find(r)) for r in RECORDS] == [False, True] * 3
    assert len(chat_server.requests) == before + 4


def test_an_absent_server_stops_the_run(ask: Ask) -> None:
    with pytest.raises(JudgingStopped, match=r"failed 2 times in a row \(endpoint: no server\).* 0 of 6 are judged"):
        ask(base_url="http://127.0.0.1:9/v1", retries=0, max_failures=2)


def test_few_requests_follow_the_last_failure_that_is_allowed(ask: Ask, chat_server: Any) -> None:
    chat_server.behave = lambda body: (500, "text/plain", b"", {})
    with pytest.raises(JudgingStopped, match="failed 2 times in a row"):
        ask(retries=0, max_failures=2, concurrency=1)
    assert 2 <= len(chat_server.requests) <= 4


def test_a_spent_budget_stops_the_run_and_the_next_continues(ask: Ask, chat_server: Any) -> None:
    with pytest.raises(JudgingStopped, match=r"max_calls=4.* 4 of 6 are judged"):
        ask(max_calls=4, concurrency=1)
    ask(max_calls=2, concurrency=1)
    assert len(chat_server.requests) == 6


def test_verdicts_in_flight_when_the_budget_is_spent_are_kept(ask: Ask, chat_server: Any) -> None:
    good = chat_server.behave

    def slowly(body: Any) -> Any:
        time.sleep(0.3)
        return good(body)

    chat_server.behave = slowly
    with pytest.raises(JudgingStopped, match=r"max_calls=3.* 3 of 6 are judged"):
        ask(max_calls=3, concurrency=4)  # the fourth finds the budget spent while three wait for their replies


def test_nothing_is_sent_after_an_error_that_ends_the_run(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    """One reply is awaited and kept; a failed request is not repeated."""
    good = chat_server.behave
    refused = threading.Event()

    def behave(body: Any) -> Any:
        number = len(chat_server.requests)
        if number == 1:
            time.sleep(0.2)  # until the others are sent
            refused.set()
            return 401, "text/plain", b"", {}
        refused.wait(3)
        time.sleep(0.5)
        return good(body) if number == 2 else (500, "text/plain", b"", {"retry-after-ms": "1"})

    chat_server.behave = behave
    with pytest.raises(JudgingStopped, match=r"answered 401.* 1 of 6 are judged"):
        ask(concurrency=3, retries=4)
    assert len(chat_server.requests) == 3 and len(read_jsonl(tmp_path / "cache.jsonl")) == 1


def test_a_judged_file_is_made_again_from_the_cache_alone(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    judged = ask()
    for path in tmp_path.glob("answers.judge-*"):
        path.unlink()
    again = ask(offline=True, base_url="")
    assert dict(again.answers) == dict(judged.answers) and len(chat_server.requests) == 6
    more = [*RECORDS, record(9, "brain", "brain")]
    judged = ask(more, offline=True, base_url="")
    line = judged.find(more[-1])
    assert line is not None and line.why == "endpoint: offline, and not in the cache"
    judged = ask(more)  # the endpoint is back
    assert judged.correct(judged.find(more[-1])) is True


def test_a_cut_line_loses_no_reply(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    judged = ask(concurrency=1)
    path = judge_path(tmp_path / "answers.jsonl", judged.name)
    path.write_bytes(path.read_bytes()[:-30])
    assert dict(ask().answers) == dict(judged.answers)
    assert len(chat_server.requests) == 6  # the reply was in the cache
    assert len(read_jsonl(path)) == 6


def test_ctrl_c_says_what_it_waits_for_and_sends_nothing_more(
    ask: Ask, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Interrupted(chat_server, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ask(concurrency=2, retries=4)
    waits = "waiting for the replies of 2 requests that are paid for"
    assert interrupted.said == [f"{waits}; press Ctrl-C to end the run now"]
    assert len(chat_server.requests) == 2 and len(read_jsonl(tmp_path / "cache.jsonl")) == 1


def test_a_second_ctrl_c_waits_for_no_reply(ask: Ask, chat_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Interrupted(chat_server, monkeypatch, again=True)
    before, start = set(threading.enumerate()), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(concurrency=2, retries=4, timeout=60.0)
    # The end of the process waits for threads that ask.
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(3)
    assert time.monotonic() - start < 3 and len(chat_server.requests) == 2
