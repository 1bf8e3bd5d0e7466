"""A chat client never shows or keeps a key, and sends nothing where it must not."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.chat_client import ChatClient, EndpointError, check_endpoint, is_local
from radvqa_jax.config import ChatConfig
from tests.chat.chat_case import MESSAGES, SOON, Make


def test_the_key_comes_from_the_environment_alone(
    make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOSPITAL_KEY", "s3cret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://198.51.100.1/v1")  # of another program; ours is configured
    make(key_variable="HOSPITAL_KEY").ask(MESSAGES)
    monkeypatch.delenv("HOSPITAL_KEY")
    make(key_variable="HOSPITAL_KEY", seed=1).ask(MESSAGES)
    assert [headers["Authorization"] for headers in chat_server.headers] == ["Bearer s3cret", "Bearer none"]
    assert "s3cret" not in (tmp_path / "cache.jsonl").read_text()


SECRET = "sk-live-0123456789abcdef"


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 307])
def test_a_key_that_the_endpoint_repeats_is_not_kept_or_shown(
    status: int,
    make: Make,
    chat_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(0)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")

    def repeat(body: dict[str, Any]) -> Any:
        header = chat_server.headers[-1]["Authorization"]
        if status == 200:
            return chat_server.say(f"You sent {header}", model=header)
        return status, "application/json", json.dumps({"error": f"bad {header}"}).encode(), SOON

    chat_server.behave = repeat
    client, shown = make(retries=0, allow_other_model=True), ""
    try:
        shown = client.ask(MESSAGES).text
    except EndpointError as error:
        shown = "".join(traceback.format_exception(error))  # as --debug shows it
    assert f"Bearer {'[key]'}" in shown or status == 307
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    everything = shown + kept + caplog.text + "".join(capfd.readouterr()) + repr(client.config)
    assert SECRET not in everything and chat_server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert "OpenAI-Organization" not in chat_server.headers[0]  # an account elsewhere is nothing to a server here


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("style", ["slashes", "codes"])
@pytest.mark.parametrize("status", [200, 401])
def test_a_key_that_json_escapes_is_not_kept_or_shown(
    status: int, style: str, levels: int, make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PHP writes `/` as `\\/`, and any character may be written by its code; a reply is often JSON within JSON."""
    key = "abc/def+ghi123/XYZ"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    escaped = key.replace("/", r"\/") if style == "slashes" else "".join(rf"\u{ord(one):04X}" for one in key)
    words = "KEY is wrong" if levels == 1 else json.dumps({"reason": "KEY is wrong"}).replace("KEY", escaped)

    def repeat(body: dict[str, Any]) -> Any:
        text = chat_server.say(words)[2] if status == 200 else json.dumps({"error": words}).encode()
        return status, "application/json", text.replace(b"KEY", escaped.encode()), SOON

    chat_server.behave = repeat
    try:
        shown = make(retries=0).ask(MESSAGES).text
    except EndpointError as error:
        shown = str(error)
    assert "[key] is wrong" in shown
    kept = (tmp_path / "cache.jsonl").read_text() if status == 200 else ""
    assert not [part for part in ("XYZ", "0058", "\\/") if part in shown + kept]


@pytest.mark.parametrize("word", ["none", "left", "EMPTY", "nodule", "localhost"])
def test_a_word_that_servers_on_this_machine_take_as_key_stays_in_answers(
    word: str, make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", word)
    chat_server.behave = lambda body: chat_server.say(f'{{"answer": "{word}"}}, {word}ized')
    assert make().ask(MESSAGES).text == f'{{"answer": "{word}"}}, {word}ized'


@pytest.mark.parametrize("bad", ["sk-\u00e9t\u00e9", "sk-live\nX-Other: 1", "sk-\x00"])
def test_an_invalid_key_is_refused_without_showing_it(bad: str, tmp_path: Path, monkeypatch: Any) -> None:
    if "\0" not in bad:
        monkeypatch.setenv("OPENAI_API_KEY", bad)
    else:
        monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": bad})
    with pytest.raises(ValueError, match="variable OPENAI_API_KEY holds characters that no key has") as caught:
        ChatClient(ChatConfig(base_url="http://127.0.0.1:9/v1", model="m"), cache=tmp_path / "c.jsonl")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://u:{SECRET}@h",
        f"u:{SECRET}@h/v1",
        f"http://h/v1?key={SECRET}",
        f"http://h#{SECRET}",
        f"http://u:{SECRET}@h:99999",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="contains a password, a query or a fragment") as caught:
        check_endpoint(ChatConfig(base_url=url, model="m"))
    assert SECRET not in str(caught.value)


def test_a_proxy_is_not_asked_about_this_machine(make: Make, chat_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    assert make().ask(MESSAGES).text == "fine"


def test_a_redirect_is_not_followed(make: Make, chat_server: Any) -> None:
    chat_server.behave = lambda body: (307, "text/plain", b"", {"Location": f"{chat_server.url}/elsewhere"})
    with pytest.raises(EndpointError, match="redirects are not followed") as caught:
        make().ask(MESSAGES)
    assert len(chat_server.requests) == 1 and caught.value.final


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_url": ""}, r"judge.base_url='' must be the address .* or set judge.offline=True"),
        ({"base_url": "localhost:8000"}, "must be the address"),
        ({"base_url": "http://127.0.0.1:65536/v1"}, r"is not an address \(Port out of range 0-65535\)"),
        ({"base_url": "http://127.0.0.1:0/v1"}, "port 0"),
        ({"base_url": "http://[::1/v1"}, "is not an address .*Give one like http://127.0.0.1:8000/v1"),
        ({"base_url": "http://127.0.0.1:80/v1\n"}, "is not an address"),
        ({"base_url": "http://127.0.0.1 :80/v1"}, "a space"),
        ({"base_url": "https://judge.example.org/v1"}, r"not on this machine.*judge.allow_remote=True"),
        ({"base_url": "http://192.168.1.9/v1"}, "not on this machine"),
        ({"base_url": "http://127.0.0.1.example.org/v1"}, "not on this machine"),
        ({"base_url": "http://u:p@127.0.0.1/v1"}, r"contains a password, .*Put the key into \$OPENAI_API_KEY"),
        ({"base_url": "https://judge.example.org", "allow_remote": True}, "variable OPENAI_API_KEY is empty"),
    ],
)
def test_an_endpoint_that_must_not_be_asked_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=message):
        ChatClient(ChatConfig(**({"model": "m"} | fields)), cache=tmp_path / "c.jsonl")


def test_addresses_of_this_machine_are_local() -> None:
    local = ["http://localhost:1/v1", "http://127.9.9.9/v1", "http://[::1]:8/v1"]
    assert all(map(is_local, local))
    assert not any(map(is_local, ["http://0.0.0.0/v1", "http://10.0.0.1", "http://localhost.evil.org", "file:///x"]))
    check_endpoint(ChatConfig(offline=True))
