"""Servers that never end their reply: each request has a deadline as a whole, and a reply has a size limit."""

import base64
import contextlib
import gzip
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from radvqa_jax import chat_http
from radvqa_jax.chat_client import ChatClient, EndpointError
from radvqa_jax.chat_proxy import find_proxy, read_proxy
from radvqa_jax.chat_stop import Stopped
from radvqa_jax.config import ChatConfig

Write = Callable[[bytes], Any]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def server(speak: Callable[[Write], None]) -> Iterator[Any]:
    """Yields a TCP server that answers each request by `speak`, which gets a function that sends bytes."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            if not (first := self.rfile.readline()):
                return  # a connection without a request
            self.server.first_lines.append(first)  # type: ignore[attr-defined]
            while (line := self.rfile.readline()).strip():
                self.server.headers.append(line)  # type: ignore[attr-defined]
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            self.server.requests += 1  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):  # the client has hung up
                speak(self.write)

        def write(self, part: bytes) -> None:
            self.wfile.write(part)
            self.server.sent += len(part)  # type: ignore[attr-defined]

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close = True, False
        sent = requests = 0

    with Server(("127.0.0.1", 0), Handler) as running:
        running.first_lines, running.headers = [], []  # type: ignore[attr-defined]
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield running
        finally:
            running.shutdown()


def ask(running: Any, cache: Path, **fields: Any) -> Any:
    url = f"http://127.0.0.1:{running.server_address[1]}/v1"
    config = ChatConfig(**{"base_url": url, "model": "m", "retries": 1, "timeout": 0.4} | fields)
    client = ChatClient(config, cache=cache)
    try:
        return client.ask([{"role": "user", "content": "Is it?"}])
    finally:
        client.close()


def dripped(write: Write, part: bytes, *, first: bytes = b"") -> None:
    """Sends a part every 50 ms, so that no pause is as long as the timeout."""
    write(first)
    for _ in range(200):
        write(part)
        time.sleep(0.05)


DRIPS: dict[str, Callable[[Write], None]] = {
    "status line": lambda write: dripped(write, b"H"),
    "headers": lambda write: dripped(write, b"X: a\r\n", first=HEAD),
    "chunks": lambda write: dripped(write, b"1\r\n \r\n", first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "body": lambda write: dripped(write, b" ", first=HEAD + b"Content-Length: 9999\r\n\r\n"),
    # If it is cut, this body looks complete: it ends with the connection.
    "body of no length": lambda write: dripped(write, b"{", first=HEAD + b"Connection: close\r\n\r\n"),
    "busy": lambda write: dripped(write, b" ", first=b"HTTP/1.1 503 Busy\r\nContent-Length: 9999\r\n\r\n"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_drips_is_cut_at_the_deadline(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with server(DRIPS[name]) as running, pytest.raises(EndpointError, match=r"no reply in 0\.4 s\.") as caught:
        ask(running, tmp_path / "cache.jsonl")
    assert caught.value.kind == "timeout" and running.requests == 2  # a slow reply is retried like a missing one
    assert time.monotonic() - started < 5
    assert not (tmp_path / "cache.jsonl").exists()


def poured(write: Write, part: bytes, *, first: bytes) -> None:
    write(first)
    while True:
        write(part)


FLOODS: dict[str, Callable[[Write], None]] = {
    "chunks": lambda write: poured(
        write, b"10000\r\n" + b"x" * 65536 + b"\r\n", first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "body of no length": lambda write: poured(write, b"x" * 65536, first=HEAD + b"Connection: close\r\n\r\n"),
    "busy": lambda write: poured(write, b"x" * 65536, first=b"HTTP/1.1 429 Busy\r\nConnection: close\r\n\r\n"),
    "length of a chunk": lambda write: poured(write, b"1" * 65536, first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "header": lambda write: poured(write, b"x" * 65536, first=HEAD + b"X: "),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_server_that_never_stops_is_cut_at_the_limit(name: str, tmp_path: Path) -> None:
    with server(FLOODS[name]) as running, pytest.raises(EndpointError) as caught:
        ask(running, tmp_path / "cache.jsonl", timeout=60.0, retries=0)
    assert caught.value.kind in ("too long", "no server"), caught.value
    assert running.sent < 32 * 2**20  # including data in buffers of the sockets


def test_a_reply_is_measured_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(b" " * (64 * 2**20))
    assert len(packed) < 2**20
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with (
        server(lambda write: write(head + packed)) as running,
        pytest.raises(EndpointError, match=r"goes on after 4,194,304 bytes; it was cut") as caught,
    ):
        ask(running, tmp_path / "cache.jsonl", timeout=60.0)
    assert caught.value.kind == "too long" and running.requests == 1


@pytest.mark.parametrize(
    ("scheme", "line"),
    [
        ("http", b"POST http://models.example.org/v1/chat/completions "),
        ("https", b"CONNECT models.example.org:443 "),
    ],
)
def test_a_proxy_is_asked_for_the_endpoint(
    scheme: str, line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without encryption the proxy sees the whole address; with it, only the host."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A_KEY", "s3cret")
    with server(lambda write: write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")) as running:
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.setenv(name, f"http://me:p%40ss@127.0.0.1:{running.server_address[1]}")
        where = {"base_url": f"{scheme}://models.example.org/v1/", "allow_remote": True, "key_variable": "A_KEY"}
        with pytest.raises(EndpointError) as caught:
            ask(running, tmp_path / "cache.jsonl", retries=0, timeout=5.0, **where)
    assert caught.value.kind == ("status 403" if scheme == "http" else "no server")
    (said,) = running.first_lines
    assert said.startswith(line)
    if scheme == "http":
        assert b"Host: models.example.org\r\n" in running.headers
    assert any(b"s3cret" in each for each in running.headers) == (scheme == "http")
    sent = b"Basic " + base64.b64encode(b"me:p@ss")
    assert any(each.lower().startswith(b"proxy-authorization") and sent in each for each in running.headers)
    assert "p%40ss" not in str(caught.value) and "p@ss" not in str(caught.value)
    if scheme == "https":
        assert f"through the proxy http://127.0.0.1:{running.server_address[1]} of https_proxy" in str(caught.value)


def test_a_password_may_have_any_characters() -> None:
    sent = read_proxy("http://me:p%E2%82%AC@proxy:3128", variable="https_proxy").headers["proxy-authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == "me:p\u20ac".encode()


def test_a_request_that_connects_when_the_client_closes_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, begun, closed, failed = HTTPConnection.connect, threading.Event(), threading.Event(), list[Exception]()

    def slow(self: HTTPConnection) -> None:
        begun.set()
        closed.wait(5)
        connect(self)

    monkeypatch.setattr(HTTPConnection, "connect", slow)
    with server(lambda write: time.sleep(5)) as running:
        url = f"http://127.0.0.1:{running.server_address[1]}/v1"
        client = ChatClient(ChatConfig(base_url=url, model="m", timeout=60.0), cache=tmp_path / "cache.jsonl")

        def ask() -> None:
            try:
                client.ask([{"role": "user", "content": "Is it?"}])
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(3)
        client.stop()
        client.close()
        closed.set()
        thread.join(3)
        assert not thread.is_alive() and isinstance(failed[0], Stopped) and running.requests == 0


def test_an_address_that_never_connects_is_given_up_long_before_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that accepts nobody: once its queue is full, the system answers no further connection."""
    monkeypatch.setattr(chat_http, "_LONGEST_CONNECT", 0.2)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        config = ChatConfig(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", model="m", timeout=60.0, retries=0
        )
        client = ChatClient(config, cache=tmp_path / "cache.jsonl")
        start = time.monotonic()
        with pytest.raises(EndpointError, match=r"cannot be reached .*Is the server running") as caught:
            client.ask([{"role": "user", "content": "Is it?"}])
        assert time.monotonic() - start < 3 and caught.value.kind == "no server"
        assert (client.calls, client.tokens) == (0, 0)  # nothing was sent


def test_tls_may_take_as_long_as_the_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that connects, and never answers the handshake."""
    monkeypatch.setattr(chat_http, "_LONGEST_CONNECT", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        client = ChatClient(ChatConfig(base_url=url, model="m", timeout=1.0, retries=0), cache=tmp_path / "cache.jsonl")
        start = time.monotonic()
        with pytest.raises(EndpointError, match="no reply in 1 s"):
            client.ask([{"role": "user", "content": "Is it?"}])
        assert time.monotonic() - start > 0.8


@pytest.mark.parametrize(
    "value", ["socks5://proxy:1080", "http://me:pass@[::1", "http://:3128", "ftp://p", "http://p:port"]
)
def test_a_variable_that_is_no_http_proxy_is_named_without_its_password(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ValueError, match=r"variable https_proxy .* must be the address of an HTTP proxy") as caught:
        find_proxy("https://models.example.org/v1")
    assert "pass@" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "models.example.org")
    assert find_proxy("https://models.example.org/v1") is None
