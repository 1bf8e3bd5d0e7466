"""A stop while requests are in flight: their replies are awaited and kept, and nothing else is sent."""

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import progress
from radvqa_jax.chat_cache import Cache
from radvqa_jax.chat_client import ChatClient, EndpointError
from radvqa_jax.chat_stop import Stop, Stopped
from radvqa_jax.files import read_jsonl
from tests.chat.chat_case import MESSAGES, Make


@contextmanager
def asking(client: ChatClient, server: Any, *, begun: int = 1) -> Iterator[list[BaseException | None]]:
    """Asks in another thread; the block begins once this many requests have come, and may take 3 s until the end."""
    ended: list[BaseException | None] = []

    def ask() -> None:
        try:
            client.ask(MESSAGES)
            ended.append(None)
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: len(server.requests) >= begun)
    yield ended
    thread.join(3)
    assert not thread.is_alive()


def until(true: Any) -> None:
    end = time.monotonic() + 3
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        ((500, "text/plain", b"", {"retry-after-ms": "1"}), {}),  # a retry
        ((429, "text/plain", b"", {"retry-after": "50"}), {}),
        ((200, "application/json", b'{"choi', {}), {}),  # a repetition for a reply that is no completion
        (None, {"timeout": 0.3}),  # a reply that does not come
    ],
)
def test_a_request_that_fails_after_the_stop_is_not_repeated(
    reply: Any, fields: dict[str, Any], make: Make, chat_server: Any
) -> None:
    released = threading.Event()

    def behave(body: dict[str, Any]) -> Any:
        released.wait(3)
        return reply or chat_server.say("too late")

    chat_server.behave = behave
    client = make(retries=4, **fields)
    with asking(client, chat_server) as ended:
        assert client.stop() == 1
        if reply:
            released.set()
        else:
            until(lambda: ended)
            released.set()
    assert isinstance(ended[0], Stopped) and len(chat_server.requests) == client.calls == 1
    with pytest.raises(Stopped):
        client.ask(MESSAGES[:1])
    assert len(chat_server.requests) == client.calls == 1


def test_a_stop_ends_the_pause_before_a_repetition(
    make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    pause = Stop.pause
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: (pauses.append(seconds), pause(self, seconds)))
    chat_server.behave = lambda body: (429, "text/plain", b"", {"retry-after": "50"})
    client = make()
    with asking(client, chat_server) as ended:
        until(lambda: pauses)  # the reply has come, and the client pauses
        assert client.stop() == 0
    assert isinstance(ended[0], Stopped) and len(chat_server.requests) == client.calls == 1


def test_a_long_pause_is_told_with_its_reason(make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: None)
    chat_server.behave = lambda body: (429, "text/plain", b"", {"retry-after": "50"})
    with pytest.raises(EndpointError):
        make(retries=3).ask(MESSAGES)
    assert len(said) == 1 and said[0].endswith("/v1 answered 429; the request is repeated in 50 s")


def test_a_stop_ends_the_wait_for_the_pace(make: Make, chat_server: Any) -> None:
    client = make(requests_per_minute=1)
    client.ask(MESSAGES[:1])
    with asking(client, chat_server) as ended:
        until(lambda: client.calls == 2)
        assert client.stop() == 0
    assert isinstance(ended[0], Stopped) and len(chat_server.requests) == client.calls == 1


def test_a_reply_that_is_in_flight_at_the_stop_is_kept(make: Make, chat_server: Any, tmp_path: Path) -> None:
    released = threading.Event()

    def behave(body: dict[str, Any]) -> Any:
        released.wait(3)
        return chat_server.say("fine")

    chat_server.behave = behave
    client = make()
    with asking(client, chat_server) as ended:
        assert client.stop() == 1
        released.set()
    assert ended == [None] and len(read_jsonl(tmp_path / "cache.jsonl")) == 1


@pytest.mark.parametrize("status", [200, 401])
def test_an_error_that_ends_the_run_is_the_reason_for_every_later_question(
    status: int, make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Cache, reply: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Cache, "put", full)
    chat_server.behave = lambda body: chat_server.say("fine") if status == 200 else (401, "text/plain", b"", {})
    client, reasons = make(), list[OSError]()
    for _ in range(2):
        with pytest.raises(OSError, match=r"No space left|answered 401") as reason:
            client.ask(MESSAGES)
        reasons.append(reason.value)
    assert reasons[0] is reasons[1] and len(chat_server.requests) == client.calls == 1


def test_closing_ends_the_requests_in_flight(make: Make, chat_server: Any) -> None:
    released = threading.Event()

    def behave(body: dict[str, Any]) -> Any:
        released.wait(5)
        return chat_server.say("too late")

    chat_server.behave = behave
    client = make(timeout=60.0)
    with asking(client, chat_server) as ended:
        client.stop()
        client.close()
        until(lambda: ended)
        released.set()
    assert isinstance(ended[0], Stopped)
