"""Requests to a chat endpoint: connections that are kept, retries with pauses, proxies and certificates (urllib3)."""

import os
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, TimeoutError

# What passes: the server is busy, or restarts.
_PASSES = frozenset({408, 409, 429, *range(500, 600)})
_LONGEST_PAUSE = 60  # seconds, whatever the server asks for


class NoResponse(OSError):
    """No response came, after all retries. `timeout`: the server did not answer in time."""

    def __init__(self, message: str, *, timeout: bool) -> None:
        super().__init__(message)
        self.timeout = timeout


class Response(NamedTuple):
    """What a server answered."""

    status: int
    text: str


class _Retry(urllib3.Retry):
    """Retries of one request. `before` is called before each of them, after the pause."""

    before: Callable[[], None]

    def new(self, **changed: Any) -> "_Retry":
        again: Any = super().new(**changed)
        again.before = self.before
        return again

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Returns the pause in seconds that a server asks for; some give milliseconds in a header of their own."""
        milliseconds = response.headers.get("retry-after-ms", "")
        return float(milliseconds) / 1000 if milliseconds.isdecimal() else super().get_retry_after(response)

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        super().sleep(response)
        self.before()


def _connections(base_url: str, *, local: bool, most: int) -> urllib3.PoolManager:
    """Returns the connections to an address: through the environment's proxy, unless it is on this machine."""
    certificates = os.environ.get("SSL_CERT_FILE") or certifi.where()
    parts = urlsplit(base_url)
    proxies = {} if local or urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=most, ca_certs=certificates)
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
        before: Callable[[], None],
    ) -> None:
        """Connects to nothing yet.

        Args:
            base_url: of the endpoint.
            key: sent as a bearer token.
            local: whether the address is on this machine: then no proxy is asked.
            timeout: seconds to connect, and between two parts of a response.
            retries: of a request that failed: no connection, no response in time, status 408, 409, 429 or 5xx.
            concurrency: connections to keep.
            before: called before each request that is really sent, repeated ones included; what it raises is raised.
        """
        self._url = base_url.rstrip("/")
        self._before = before
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._pools = _connections(base_url, local=local, most=concurrency)
        self._retry = _Retry(
            total=retries,
            redirect=False,
            status_forcelist=_PASSES,
            allowed_methods=None,
            backoff_factor=0.5,
            backoff_max=8,
            backoff_jitter=0.5,
            raise_on_status=False,
            retry_after_max=_LONGEST_PAUSE,
        )
        self._retry.before = before

    def post(self, path: str, body: bytes) -> Response:
        """Returns the response to a JSON body, whatever its status.

        Raises:
            NoResponse: if none came.
        """
        self._before()
        try:
            response = self._pools.request(
                "POST",
                f"{self._url}{path}",
                body=body,
                headers=self._headers,
                retries=self._retry,
                timeout=self._timeout,
                redirect=False,
            )
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            late = isinstance(reason, TimeoutError) and not isinstance(reason, NewConnectionError)
            raise NoResponse(str(reason.__cause__ or reason), timeout=late) from None
        return Response(response.status, response.data.decode("utf-8", "replace"))

    def close(self) -> None:
        """Closes the connections."""
        self._pools.clear()
