"""The chat client with a real HTTP server: its requests, its cache, and its errors."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import chat_cache
from radvqa_jax.chat_client import EndpointError, NotCached
from radvqa_jax.chat_reply import read_completion, same_model
from radvqa_jax.chat_stop import Stop
from radvqa_jax.files import read_jsonl
from tests.chat.chat_case import MESSAGES, SOON, Make


def test_a_request_says_what_the_configuration_says(make: Make, chat_server: Any) -> None:
    reply = make(seed=7, max_tokens=9).ask(MESSAGES)
    assert (reply.text, reply.finish, reply.model, reply.tokens, reply.cached) == ("fine", "stop", "m", 15, False)
    want = {"model": "m", "messages": MESSAGES, "temperature": 0.0, "seed": 7, "max_tokens": 9}
    assert chat_server.requests == [want]


def test_the_schema_is_sent_where_the_endpoint_can_use_it(make: Make, chat_server: Any) -> None:
    for kind in ("text", "json_object", "json_schema"):
        make(response_format=kind).ask(MESSAGES, schema={"type": "object"})
    formats = [body.get("response_format") for body in chat_server.requests]
    assert formats[:2] == [None, {"type": "json_object"}]
    assert formats[2]["json_schema"]["schema"] == {"type": "object"}


def test_another_model_than_asked_for_is_an_error_unless_allowed(make: Make, chat_server: Any, tmp_path: Path) -> None:
    chat_server.behave = lambda body: chat_server.say("fine", model="other-7b")
    for _ in range(2):  # from the endpoint, and from the cache
        with pytest.raises(EndpointError, match=r"answered as 'other-7b', but judge.model='m'") as caught:
            make().ask(MESSAGES)
        assert caught.value.final and caught.value.kind == "another model"
    assert make(allow_other_model=True).ask(MESSAGES).model == "other-7b"
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("m", "", True),
        ("m", "M", True),
        ("llama3.1", "llama3.1:latest", True),
        ("llama3.1:latest", "llama3.1", True),
        ("llama3.1:8b", "llama3.1:70b", False),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("/models/a", "/models/a@main", True),
    ],
)
def test_names_of_the_same_model_are_recognised(asked: str, served: str, same: bool) -> None:
    assert same_model(asked, served) is same


def test_an_edited_cache_is_named(make: Make, chat_server: Any, tmp_path: Path) -> None:
    make().ask(MESSAGES)
    path = tmp_path / "cache.jsonl"
    good = path.read_text()
    row = json.loads(good)
    for changed, message in (
        ({"tokens": "15"}, "`tokens` must be an integer; got"),
        ({"tokens": True}, "`tokens`"),
        ({"text": None}, "`text` must be text"),
        ({"colour": "red"}, "`colour` is unknown"),
    ):
        path.write_text(good + json.dumps(row | changed) + "\n")
        with pytest.raises(ValueError, match=rf"cache.jsonl, line 2: field {message}"):
            make()
    path.write_text(f"{good}not JSON\n{good}")
    with pytest.raises(ValueError, match=r"cache.jsonl, line 2: not valid JSON"):
        make()
    path.write_text(good.replace('"estimated": false, "id": "x", ', ""))  # as earlier releases wrote it
    assert make().ask(MESSAGES).text == "fine" and len(chat_server.requests) == 1


def test_two_processes_may_share_a_cache(make: Make, chat_server: Any, tmp_path: Path) -> None:
    chat_server.behave = lambda body: chat_server.say(body["messages"][0]["content"])
    first, second = make(), make()
    for number in range(6):
        (first, second)[number % 2].ask([{"role": "user", "content": str(number)}])
    for client in (first, second, make(offline=True)):
        said = [client.ask([{"role": "user", "content": str(number)}]).text for number in range(6)]
        assert said == list("012345")
    assert len(chat_server.requests) == 6 + 6  # the other's new replies are seen only by the next run


def test_replies_wait_for_the_disk_together(
    make: Make, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process loses none, because each is written at once; one sync serves many."""
    synced: list[int] = []  # lines of the file each time
    path = tmp_path / "cache.jsonl"
    wait = os.fsync
    monkeypatch.setattr(chat_cache, "SYNC_EVERY", 3600.0)
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(len(path.read_text().splitlines())), wait(file)))
    client = make()
    for number in range(5):
        client.ask([{"role": "user", "content": str(number)}])
        assert len(read_jsonl(path)) == number + 1
    assert synced[-1] < 5
    client.sync()
    assert synced[-1] == 5
    before = len(synced)
    client.sync()
    assert len(synced) == before  # nothing is new
    client.ask([{"role": "user", "content": "last"}])
    client.close()
    assert synced[before:] == [6]
    monkeypatch.setattr(chat_cache, "SYNC_EVERY", 0.0)
    make().ask(MESSAGES)
    assert synced[-1] == 7


def test_a_request_is_not_sent_twice(make: Make, chat_server: Any) -> None:
    first, again = make().ask(MESSAGES), make().ask(MESSAGES)
    assert again == first._replace(cached=True) and len(chat_server.requests) == 1
    for other in ({"model": "n"}, {"seed": 1}, {"temperature": 0.5}, {"max_tokens": 3}):
        make(**other).ask(MESSAGES)
    make().ask(MESSAGES[::-1])
    assert len(chat_server.requests) == 6


def test_offline_needs_no_server_and_sends_nothing(make: Make, chat_server: Any, monkeypatch: Any) -> None:
    make().ask(MESSAGES)
    client = make(offline=True, base_url="")
    assert client.ask(MESSAGES).text == "fine"
    with pytest.raises(NotCached, match="no such request"):
        client.ask(MESSAGES[:1])
    assert len(chat_server.requests) == 1


def test_a_cut_cache_is_read_up_to_the_cut(make: Make, chat_server: Any, tmp_path: Path) -> None:
    make().ask(MESSAGES)
    make().ask(MESSAGES[:1])
    path = tmp_path / "cache.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    make().ask(MESSAGES)
    make().ask(MESSAGES[:1])
    assert len(chat_server.requests) == 3 and len(read_jsonl(path)) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_failure_is_retried(status: int, make: Make, chat_server: Any) -> None:
    def twice(body: dict[str, Any]) -> Any:
        return (status, "application/json", b"{}", SOON) if len(chat_server.requests) < 3 else chat_server.say("late")

    chat_server.behave = twice
    assert make(retries=2).ask(MESSAGES).text == "late"
    assert len(chat_server.requests) == 3


# Behaviour of the server -> (kind, whether other requests would fail, too, message, requests with 2 retries)
FAILURES: dict[str, tuple[tuple[int, str, bytes, dict[str, str]], str, bool, str, int]] = {
    "busy": ((429, "application/json", b'{"error": "slow down"}', SOON), "status 429", False, "slow down", 3),
    "broken": ((500, "text/plain", b"boom", SOON), "status 500", False, "answered 500.*boom", 3),
    "key": ((401, "application/json", b"{}", {}), "status 401", True, r"refuses the key in \$OPENAI_API_KEY", 1),
    "model": ((404, "application/json", b"{}", {}), "status 404", True, "no model 'm', or judge.base_url lacks", 1),
    "too long": ((400, "application/json", b'{"error": "context"}', {}), "status 400", False, "context", 1),
    "page": ((200, "text/html", b"<html>hi</html>", {}), "HTML instead of JSON", True, "web page: does base_url", 1),
    "cut JSON": ((200, "application/json", b'{"choices": [{"mess', {}), "no chat completion", False, "JSONDecode", 3),
    "other JSON": ((200, "application/json", b'{"error": 1}', {}), "no chat completion", False, "KeyError", 3),
    "an error of status 200": (
        (200, "application/json", b'{"error": {"message": "no credit", "code": 402}}', {}),
        "no chat completion",
        False,
        r"KeyError\)\. It said: 'no credit'",
        3,
    ),
    "no choice": ((200, "application/json", b'{"choices": []}', {}), "no chat completion", False, "IndexError", 3),
    "list": ((200, "application/json", b"[1]", {}), "no chat completion", False, "TypeError", 3),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_named_and_not_cached(name: str, make: Make, chat_server: Any, tmp_path: Path) -> None:
    behave, kind, final, says, requests = FAILURES[name]
    chat_server.behave = lambda body: behave
    with pytest.raises(EndpointError, match=says) as caught:
        make(retries=2).ask(MESSAGES)
    assert (caught.value.kind, caught.value.final) == (kind, final)
    assert len(chat_server.requests) == requests
    assert not (tmp_path / "cache.jsonl").exists()


def test_a_reply_in_parts_is_its_text_without_the_reasoning() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "it may be no"}]}
    parts = [thought, {"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]
    body = {"choices": [{"message": {"content": parts}}]}
    assert read_completion(json.dumps(body), url="http://x").text == "yes"


@pytest.mark.parametrize("header", ["retry-after-ms", "retry-after"])
@pytest.mark.parametrize("asked", ["99999999", "9" * 400])
def test_no_server_can_make_the_client_wait_for_longer_than_a_minute(
    asked: str, header: str, make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: waited.append(seconds))
    busy = (429, "application/json", b"{}", {header: asked})
    chat_server.behave = lambda body: busy if len(chat_server.requests) < 2 else chat_server.say("late")
    assert make(retries=1).ask(MESSAGES).text == "late"
    assert waited == [60]


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("1.5", 1.5),
        ("0.25", 0.25),
        ("9" * 400 + ".5", 60),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("1e3", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_pause_that_is_no_whole_number_does_not_end_the_run(
    asked: str, waits: float | None, make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: waited.append(seconds))
    busy = (429, "application/json", b"{}", {"retry-after": asked})
    chat_server.behave = lambda body: busy if len(chat_server.requests) < 2 else chat_server.say("late")
    assert make(retries=1).ask(MESSAGES).text == "late"
    assert waited == [waits] if waits else all(pause <= 8.5 for pause in waited)


def test_a_connection_that_ends_early_is_tried_again(make: Make, chat_server: Any) -> None:
    def cut(body: dict[str, Any]) -> Any:
        status, kind, reply, _ = chat_server.say("whole")
        return (status, kind, reply, {"Content-Length": str(len(reply) + 9), "Connection": "close"})

    chat_server.behave = lambda body: cut(body) if len(chat_server.requests) < 2 else chat_server.say("whole")
    assert make(retries=1).ask(MESSAGES).text == "whole"


def test_a_slow_server_is_not_waited_for_for_ever(make: Make, chat_server: Any) -> None:
    released = threading.Event()

    def wait(body: dict[str, Any]) -> Any:
        released.wait(10)
        return chat_server.say("too late")

    chat_server.behave = wait
    with pytest.raises(EndpointError, match=r"no reply in 0.1 s. Raise judge.timeout") as caught:
        make(retries=0, timeout=0.1).ask(MESSAGES)
    released.set()
    assert caught.value.kind == "timeout"


def test_an_unreachable_server_is_named_and_costs_no_budget(make: Make) -> None:
    client = make(base_url="http://127.0.0.1:9/v1", retries=1, max_calls=1)
    for _ in range(2):  # a request that was not sent costs no budget
        with pytest.raises(EndpointError, match=r"127.0.0.1:9/v1 cannot be reached .*Is the server running") as caught:
            client.ask(MESSAGES)
        assert caught.value.kind == "no server"
    assert (client.calls, client.tokens) == (0, 0)


def test_many_threads_share_a_client(make: Make, chat_server: Any, tmp_path: Path) -> None:
    client = make()
    chat_server.behave = lambda body: chat_server.say(body["messages"][0]["content"])
    said: dict[int, str] = {}

    def ask(number: int) -> None:
        said[number] = client.ask([{"role": "user", "content": str(number)}]).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: str(number) for number in range(16)}
    assert len(read_jsonl(tmp_path / "cache.jsonl")) == 16
    assert json.loads((tmp_path / "cache.jsonl").read_text().splitlines()[0]).keys() >= {"key", "text", "model"}
