"""The environment's proxy for a chat endpoint: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in any capitals."""

import base64
import urllib.request
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Proxy(NamedTuple):
    """An HTTP proxy."""

    address: str  # without user and password
    headers: dict[str, str]  # with user and password, if the variable has them
    variable: str


def find_proxy(base_url: str) -> Proxy | None:
    """The proxy for an address; None if there is none.

    Raises:
        ValueError: naming the variable, and showing no password, if its value is not the address of an HTTP proxy.
    """
    parts = urlsplit(base_url)
    proxies = {} if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), "")
    return read_proxy(proxies[kind], variable=f"{kind}_proxy") if kind else None


def read_proxy(value: str, *, variable: str) -> Proxy:
    """The proxy in a variable.

    >>> read_proxy("proxy.example.org:3128", variable="https_proxy").address
    'http://proxy.example.org:3128'
    >>> read_proxy("http://me:p%40ss@[::1]:3128/", variable="https_proxy")
    Proxy(address='http://[::1]:3128', headers={'proxy-authorization': 'Basic bWU6cEBzcw=='}, variable='https_proxy')
    """
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port, scheme = parts.hostname or "", parts.port, parts.scheme
    except ValueError:
        host, port, scheme = "", None, ""
    if scheme not in ("http", "https") or not host:
        raise ValueError(
            f"The environment variable {variable} (or {variable.upper()}) must be the address of an HTTP proxy, "
            "such as http://proxy.example.org:3128 or http://USER:PASSWORD@proxy.example.org:3128. Other proxies, such "
            "as socks5, are not supported. Correct it, or name the endpoint's host in no_proxy."
        )
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    headers: dict[str, str] = {}
    if parts.username is not None:
        named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"proxy-authorization": f"Basic {base64.b64encode(named.encode()).decode()}"}
    return Proxy(address, headers, variable)
