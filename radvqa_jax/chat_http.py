"""Requests to a chat endpoint: kept connections, retries with pauses, proxies and certificates (urllib3).

The endpoint is not trusted: it may send a byte now and then for ever, or never stop sending. Each request therefore has
a deadline for the whole reply, and a reply has a limit on its bytes.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, ProtocolError, TimeoutError

from radvqa_jax import progress
from radvqa_jax.chat_proxy import Proxy, find_proxy
from radvqa_jax.chat_stop import Stop, Stopped

# Temporary states: the server is busy, or restarts.
_PASSES = frozenset({408, 409, 429, *range(500, 600)})
_LONGEST_PAUSE = 60  # seconds, whatever the server asks for
_LONG_PAUSE = 10  # seconds; the run says why it waits
_MOST_DIGITS = 9  # of a pause in milliseconds; even when it is cut, a longer number is above the longest pause
_LONGEST_CONNECT = 10.0  # seconds; a socket that connects cannot be shut down, and would delay the end of a stopped run
_LONGEST_REPLY = 4 * 2**20  # bytes, decompressed; far more than the text of the longest reply
_CHECKED_EVERY = 0.1  # seconds between two checks of the deadlines


class NoResponse(OSError):
    """No response came, after all retries. `timeout`: the server did not answer in time."""

    def __init__(self, message: str, *, timeout: bool) -> None:
        super().__init__(message)
        self.timeout = timeout


class ReplyTooLong(OSError):
    """A response exceeded the limit on bytes, and was cut."""


class Response(NamedTuple):
    """The answer of a server."""

    status: int
    text: str


class _Retry(urllib3.Retry):
    """urllib3's rules for retries and pauses; also for `retry-after-ms`, parts of seconds, and what is no time."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """The seconds that the server asks for; None if it does not ask, or for what nobody can wait."""
        milliseconds = response.headers.get("retry-after-ms", "")
        if milliseconds.isdecimal():
            return min(float(milliseconds[:_MOST_DIGITS]) / 1000, _LONGEST_PAUSE)
        asked = response.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]+[.][0-9]*", asked, re.ASCII):
            return min(float(asked), _LONGEST_PAUSE)
        try:
            return super().get_retry_after(response)
        except (HTTPError, ValueError, OverflowError):  # not a number of seconds, not a date, or a date of no calendar
            return None


_ONCE = urllib3.Retry(False, redirect=False)  # what `retries=False` means, made once; `Http.post` repeats requests


class _Request:
    """A request in flight: its deadline, and whether it was cut there."""

    def __init__(self, end: float, connection: HTTPConnection) -> None:
        self.end = end
        self.connection = connection
        self.socket: socket.socket | None = None  # the connection's; it drops its own for a reply without a length
        self.was_cut = False

    def cut(self) -> None:
        """Shuts the socket down, so that the request's thread reads the end of the stream."""
        self.was_cut = True
        if (sock := self.socket or self.connection.sock) is None:
            return
        with contextlib.suppress(OSError):  # it may have ended by itself
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of the socket below TLS: a TLS shutdown would wait


class _Deadlines:
    """Cuts each connection whose request takes longer than `seconds`.

    A socket's own timeout restarts with each byte, so it never ends a reply that comes byte by byte.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._requests: dict[int, _Request] = {}  # by thread
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="chat deadlines", daemon=True).start()

    def begin(self, connection: HTTPConnection) -> None:
        """Starts the deadline of this thread's request, unless it has one already."""
        with self._lock:
            end = time.monotonic() + self.seconds
            self._requests.setdefault(threading.get_ident(), _Request(end, connection))

    def connected(self) -> None:
        """Raises ProtocolError if this thread's request was cut while it connected; then nothing is sent."""
        with self._lock:
            if self._requests[threading.get_ident()].was_cut:
                raise ProtocolError("cut before it was sent")

    def sent(self, connection: HTTPConnection) -> None:
        """Remembers the socket of this thread's reply."""
        with self._lock:
            request = self._requests[threading.get_ident()]
            request.socket = connection.sock
            if self._closed.is_set():  # nobody watches any more
                request.cut()

    def finish(self) -> bool:
        """Ends the deadline of this thread's request. Returns whether the request was cut."""
        with self._lock:
            request = self._requests.pop(threading.get_ident(), None)
        return request is not None and request.was_cut

    def close(self) -> None:
        """Cuts the requests in flight, and stops watching."""
        self._closed.set()
        with self._lock:
            for request in self._requests.values():
                request.cut()

    def _watch(self) -> None:
        while not self._closed.wait(_CHECKED_EVERY):
            with self._lock:  # so that a connection that is cut still belongs to its request
                for request in self._requests.values():
                    if time.monotonic() > request.end:
                        request.cut()


def _watched_pools(deadlines: _Deadlines) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, with connections that report to `deadlines` when they connect and send."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connected = super()._new_conn()
            connected.settimeout(deadlines.seconds)  # TLS and a proxy may take as long as the reply
            return connected

        def connect(self) -> None:
            deadlines.begin(self)
            super().connect()
            deadlines.connected()

        def request(self, *args: Any, **kwargs: Any) -> None:
            deadlines.begin(self)
            super().request(*args, **kwargs)
            deadlines.sent(self)

    class Encrypted(Plain, HTTPSConnection):  # method order: Plain, HTTPSConnection, HTTPConnection
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls: Any = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls: Any = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _connections(proxy: Proxy | None, *, most: int) -> urllib3.PoolManager:
    """The connections to an address, through its proxy."""
    certificates = os.environ.get("SSL_CERT_FILE") or certifi.where()
    if proxy:
        return urllib3.ProxyManager(proxy.address, maxsize=most, ca_certs=certificates, proxy_headers=proxy.headers)
    return urllib3.PoolManager(maxsize=most, ca_certs=certificates)


class Http:
    """Posts JSON to one address. Several threads may post at a time; redirects are not followed."""

    def __init__(
        self,
        base_url: str,
        *,
        key: str,
        local: bool,
        timeout: float,
        retries: int,
        concurrency: int,
        stop: Stop,
        before: Callable[[], None],
        unsent: Callable[[], None],
    ) -> None:
        """Connects to nothing yet.

        Args:
            base_url: the endpoint's address.
            key: sent as a bearer token.
            local: whether the address is on this machine; then no proxy is used.
            timeout: seconds from a request's first byte to its reply's last; to connect at most 10 of them.
            retries: of a failed request: no connection, no response in time, status 408, 409, 429 or 5xx.
            concurrency: connections to keep.
            stop: once it stops, no request is sent, and no pause lasts.
            before: called before each request, repeated ones included; its errors are passed on.
            unsent: called if a request was not sent: no connection could be made, or the run stops.
        """
        self._url = base_url.rstrip("/")
        parts = urlsplit(self._url)
        self._stop, self._before, self._unsent = stop, before, unsent
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._deadlines = _Deadlines(timeout)
        self._quiet_until = 0.0
        self._timeout = urllib3.Timeout(
            connect=min(timeout, _LONGEST_CONNECT), read=None
        )  # reading ends at the deadline
        self.proxy = None if local else find_proxy(base_url)
        pools = _connections(self.proxy, most=concurrency)
        pools.pool_classes_by_scheme = _watched_pools(self._deadlines)
        self._pool = pools.connection_from_url(self._url)  # once: the manager would look the address up each time
        # An HTTP proxy needs the whole address; for TLS it only forwards bytes.
        self._target = self._url if self._pool.proxy and parts.scheme == "http" else parts.path
        self._retry = _Retry(
            total=retries,
            redirect=False,
            status_forcelist=_PASSES,
            allowed_methods=None,
            backoff_factor=0.5,
            backoff_max=8,
            backoff_jitter=0.5,
            retry_after_max=_LONGEST_PAUSE,
        )

    def post(self, path: str, body: bytes) -> Response:
        """The response to a JSON body, whatever its status.

        Raises:
            NoResponse: if none came after all retries.
            ReplyTooLong: if it exceeds the limit on bytes.
            Stopped: if the run stops before the request or a repetition is sent.
        """
        url, retry = f"{self._url}{path}", self._retry
        while True:
            self._before()
            try:
                with self._stop.sending():
                    response, text, failed, late = self._send(f"{self._target}{path}", body)
            except Stopped:
                self._unsent()
                raise
            if isinstance(failed, ConnectTimeoutError):  # also the class of a refused connection
                self._unsent()
            if response and not retry.is_retry("POST", response.status):
                return Response(response.status, text)
            try:
                retry = retry.increment("POST", url, response, failed)
            except MaxRetryError:
                if response:
                    return Response(response.status, text)
                raise NoResponse(str((failed and failed.__cause__) or failed), timeout=late) from None
            pause = (response and retry.get_retry_after(response)) or retry.get_backoff_time()
            self._tell(pause, f"answered {response.status}" if response else "did not answer")
            self._stop.pause(pause)

    def _tell(self, pause: float, why: str) -> None:
        """Says, at most once a minute, that a request waits for long before it is repeated."""
        now = time.monotonic()
        if pause >= _LONG_PAUSE and now >= self._quiet_until:
            self._quiet_until = now + 60
            progress.say(f"{self._url} {why}; the request is repeated in {pause:.0f} s")

    def _send(self, target: str, body: bytes) -> tuple[urllib3.BaseHTTPResponse | None, str, HTTPError | None, bool]:
        """(response, its text, failure, whether the failure is a timeout); either response or failure is None."""
        try:
            response = self._pool.urlopen(
                "POST",
                target,
                body=body,
                headers=self._headers,
                retries=_ONCE,
                timeout=self._timeout,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            text = _read(response).decode("utf-8", "replace")
            failed = None
        except HTTPError as error:
            response, text, failed = None, "", error
        except ValueError as error:  # http.client raises it for a chunk of negative length
            response, text, failed = None, "", ProtocolError(str(error))
        finally:
            cut = self._deadlines.finish()
        if cut:  # a cut reply without a given length looks complete
            return None, "", failed or ProtocolError("cut at the deadline"), True
        late = isinstance(failed, TimeoutError) and not isinstance(failed, ConnectTimeoutError)
        return response, text, failed, late

    def close(self) -> None:
        """Closes the connections, and ends the requests in flight."""
        self._pool.close()
        self._deadlines.close()


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """The bytes of a whole response, whose connection can then be used again. On an error the connection is closed."""
    try:
        # Not `stream`, which reads the length of a chunk without a limit.
        content = response.read(_LONGEST_REPLY + 1, decode_content=True)
        if len(content) > _LONGEST_REPLY:
            raise ReplyTooLong(f"a reply of status {response.status} goes on after {_LONGEST_REPLY:,} bytes")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return content
