"""The limits of a chat client: its budget, the repetition of requests, their number at once and their distance."""

import json
import threading
from typing import Any

import pytest

from radvqa_jax.chat_client import BudgetSpent
from radvqa_jax.chat_stop import Stop
from tests.chat.chat_case import MESSAGES, SOON, Make


def test_the_budget_is_kept(make: Make, chat_server: Any) -> None:
    client = make(max_calls=2)
    for number in range(2):
        client.ask([{"role": "user", "content": str(number)}])
    client.ask([{"role": "user", "content": "0"}])  # cached: costs nothing
    with pytest.raises(BudgetSpent, match="max_calls=2"):
        client.ask([{"role": "user", "content": "2"}])
    assert len(chat_server.requests) == 2 and (client.calls, client.tokens) == (2, 30)
    client = make(max_total_tokens=20, seed=1)
    for number in range(2):
        client.ask([{"role": "user", "content": str(number)}])
    with pytest.raises(BudgetSpent, match="max_total_tokens=20"):
        client.ask(MESSAGES)


def test_what_an_earlier_part_of_the_run_used_counts_for_the_limits_alone(make: Make, chat_server: Any) -> None:
    client = make(max_calls=5, used=(4, 100))
    client.ask(MESSAGES)
    with pytest.raises(BudgetSpent, match="max_calls=5"):
        client.ask([{"role": "user", "content": "1"}])
    assert (client.calls, client.tokens, len(chat_server.requests)) == (1, 15, 1)
    with pytest.raises(BudgetSpent, match="max_total_tokens=120; 115 are used"):
        make(max_total_tokens=120, used=(4, 115), seed=1).ask(MESSAGES)


def test_repeated_requests_are_counted_and_bounded(make: Make, chat_server: Any) -> None:
    chat_server.behave = lambda body: (500, "text/plain", b"", SOON)
    client = make(retries=5, max_calls=3)
    with pytest.raises(BudgetSpent, match="max_calls=3"):
        client.ask(MESSAGES)
    assert len(chat_server.requests) == client.calls == 3
    chat_server.behave = lambda body: (200, "application/json", b'{"choi', {})  # an invalid answer counts, too
    client = make(retries=5, max_calls=2, seed=1)
    with pytest.raises(BudgetSpent, match="max_calls=2"):
        client.ask(MESSAGES)
    assert len(chat_server.requests) == 5
    # A failed request has used its prompt.
    chat_server.behave = lambda body: (500, "text/plain", b"", SOON)
    long = [{"role": "user", "content": "word " * 600}]  # about 1,000 tokens
    client = make(retries=9, max_total_tokens=3500)
    with pytest.raises(BudgetSpent, match=r"max_total_tokens=3500; 3012 are used, and the next prompt has about 1004"):
        client.ask(long)
    assert len(chat_server.requests) == 5 + 3 and client.tokens == 3012


def without_usage(server: Any, text: str, **usage: Any) -> Any:
    status, kind, reply, headers = server.say(text)
    body = json.loads(reply) | {"usage": usage or None}
    return status, kind, json.dumps(body).encode(), headers


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 0}, {"prompt_tokens": -500}, {"total_tokens": None}])
def test_tokens_are_estimated_where_the_endpoint_does_not_count(usage: Any, make: Make, chat_server: Any) -> None:
    chat_server.behave = lambda body: without_usage(chat_server, "fine " * 90, **usage)  # 450 bytes: about 150 tokens
    client = make(max_total_tokens=400)
    reply = client.ask([{"role": "user", "content": "0"}])
    assert reply.estimated and reply.tokens == 155 == client.tokens and client.estimated
    client.ask([{"role": "user", "content": "1"}])
    client.ask([{"role": "user", "content": "2"}])
    with pytest.raises(BudgetSpent, match="max_total_tokens=400"):
        client.ask([{"role": "user", "content": "3"}])
    assert len(chat_server.requests) == 3
    again = make(offline=True).ask([{"role": "user", "content": "0"}])
    assert again == reply._replace(cached=True)


def test_requests_in_flight_do_not_pass_the_limit_together(make: Make, chat_server: Any) -> None:
    """Sixteen threads at once, each reply as long as it may be: all but the last one fit."""

    def whole(body: dict[str, Any]) -> Any:
        status, kind, reply, headers = chat_server.say("x")
        body = json.loads(reply) | {"usage": {"prompt_tokens": 5, "completion_tokens": 100}}
        return status, kind, json.dumps(body).encode(), headers

    chat_server.behave = whole
    client = make(max_total_tokens=500, max_tokens=100)
    spent: list[BudgetSpent] = []

    def ask(number: int) -> None:
        try:
            client.ask([{"role": "user", "content": str(number)}])
        except BudgetSpent as error:
            spent.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert len(chat_server.requests) == 5 and client.tokens == 525 and len(spent) == 11


def test_requests_are_spaced(make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: waited.append(seconds))
    monkeypatch.setattr("radvqa_jax.chat_budget.time.monotonic", lambda: 100.0)
    client = make(requests_per_minute=30)
    for number in range(3):
        client.ask([{"role": "user", "content": str(number)}])
    assert waited == [2.0, 4.0]
