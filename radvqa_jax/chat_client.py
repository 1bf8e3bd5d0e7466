"""A client for chat models behind an OpenAI-compatible endpoint, with a cache, a pace, a budget and allowed addresses.

Failed requests are repeated after a pause (chat_http.py). Every reply is appended to a jsonl cache under the hash of
the whole request (model, messages, sampling), so that a stopped run continues, and a finished run can be repeated
without the endpoint. The API key is never written to a file or a message.
"""

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from radvqa_jax.chat_budget import Budget, BudgetSpent, estimate_prompt, estimate_tokens
from radvqa_jax.chat_cache import Cache
from radvqa_jax.chat_http import Http, NoResponse, ReplyTooLong
from radvqa_jax.chat_reply import NO_COMPLETION, EndpointError, Reply, read_completion, same_model
from radvqa_jax.chat_stop import Stop, Stopped
from radvqa_jax.config import ChatConfig
from radvqa_jax.folder_in_use import FolderGone

__all__ = ["BudgetSpent", "ChatClient", "EndpointError", "NotCached", "Reply", "check_endpoint", "is_local"]

Message = Mapping[str, str]  # role, content
_SHOWN = 200  # characters of an endpoint's own words in an error
_LEAST_KEY, _LEAST_WORD = 4, 16  # characters of a key that is a secret, and of one of letters alone


class NotCached(LookupError):
    """The cache has no reply, and the client is offline."""


def is_local(base_url: str) -> bool:
    """Whether an address is on this machine.

    >>> is_local("http://127.0.0.1:8000/v1"), is_local("http://[::1]:80"), is_local("http://localhost.example.org/v1")
    (True, True, False)
    """
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(base_url: str, *, group: str) -> SplitResult:
    """The parts of an address; raises ValueError if its host or port cannot be read."""
    try:
        parts = urlsplit(base_url)
        parts.port  # noqa: B018  # raises for a port outside 0 to 65535
    except ValueError as error:
        problem = str(error)
    else:
        if base_url.isascii() and base_url.isprintable() and " " not in base_url and parts.port != 0:
            return parts
        problem = "a space, a character outside ASCII or port 0"
    raise ValueError(
        f"{group}.base_url={base_url!r} is not an address ({problem}). Give one like http://127.0.0.1:8000/v1."
    )


def check_endpoint(config: ChatConfig, *, group: str = "judge") -> None:
    """Raises ValueError, with the way out, if the endpoint may not or cannot be used. Sends nothing."""
    if config.offline:
        return
    if set("@?#") & set(config.base_url):  # checked first, so that no other message shows a password
        raise ValueError(
            f"{group}.base_url contains a password, a query or a fragment. Put the key into ${config.key_variable} "
            "instead, and give the address alone."
        )
    parts = _parts(config.base_url, group=group)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{group}.base_url={config.base_url!r} must be the address of an OpenAI-compatible endpoint, such as "
            f"http://127.0.0.1:8000/v1; or set {group}.offline=True to use the cache alone."
        )
    if is_local(config.base_url):
        return
    if not config.allow_remote:
        raise ValueError(
            f"{group}.base_url={config.base_url} is not on this machine: questions, references and answers would leave "
            f"it. If that is allowed, set {group}.allow_remote=True; otherwise serve a model on this machine."
        )
    if not os.environ.get(config.key_variable):
        raise ValueError(
            f"{config.base_url} needs a key, and the environment variable {config.key_variable} is empty. Set it, or "
            f"name another variable in {group}.key_variable; a key is never read from a file or a flag."
        )


def _read_key(config: ChatConfig) -> str:
    """The key; empty if there is none."""
    key = os.environ.get(config.key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"The environment variable {config.key_variable} holds characters that no key has. Set it again."
        )
    return key


class ChatClient:
    """Asks one model. `calls` and `tokens` count this client's use. Several threads may ask at the same time."""

    def __init__(
        self, config: ChatConfig, *, cache: Path, group: str = "judge", used: tuple[int, int] = (0, 0)
    ) -> None:
        """Sends nothing yet.

        Args:
            config: endpoint, sampling, limits.
            cache: the jsonl file of the cache; the first reply creates it.
            group: the name of the fields' group in the configuration, for errors.
            used: calls and tokens of an earlier client of this run, which also count for the limits.

        Raises:
            ValueError: if the endpoint may not be used, or the file is not a cache.
        """
        check_endpoint(config, group=group)
        self.config = config
        self._group = group
        self._key = "" if config.offline else _read_key(config)
        self._secret = _pattern(self._key)
        self._cache = Cache(cache)
        self._stop = Stop()
        self._ended_by: OSError | FolderGone | None = None
        self._used = used
        self._budget = Budget(config, self._stop, used=used)
        self._http = None if config.offline else self._connect()
        self.estimated = False  # whether `tokens` includes estimates, because the endpoint does not count

    @property
    def calls(self) -> int:
        """Requests sent, repeated ones included."""
        return self._budget.calls - self._used[0]

    @property
    def tokens(self) -> int:
        """Prompt and reply tokens used, as the endpoint counts them; estimated if it does not, or if it failed."""
        return self._budget.tokens - self._used[1]

    def sync(self) -> None:
        """Waits until every reply so far is on the disk. A crash of the machine may lose later ones."""
        self._cache.sync()

    def threads(self) -> AbstractContextManager[ThreadPoolExecutor]:
        """As many threads as requests may be in flight. If the block ends by an error or Ctrl-C, the client stops."""
        return self._stop.threads(self.config.concurrency)

    def stop(self) -> int:
        """Sends no further request, repeated ones included. Returns the number of those in flight."""
        return self._stop.now()

    def close(self) -> None:
        """Closes the connections, of requests in flight too, and the cache."""
        if self._http is not None:
            self._http.close()
        self._cache.close()

    def request(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, *, seed: int | None = None
    ) -> dict[str, Any]:
        """The body of a request; its hash is the key of the cache."""
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [dict(message) for message in messages],
            "temperature": config.temperature,
            "seed": config.seed if seed is None else seed,
            "max_tokens": config.max_tokens,
        }
        if config.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif config.response_format == "json_schema" and schema is not None:
            named = {"name": "reply", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def is_cached(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> bool:
        """Whether the cache has the reply, so that `ask` would send nothing."""
        return _hash(self.request(messages, schema, seed=seed)) in self._cache

    def ask(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> Reply:
        """The reply to a conversation, from the cache if the same was asked before.

        Args:
            messages: the conversation.
            schema: JSON schema of the reply; sent if `response_format` is json_schema.
            seed: a seed instead of the configured one; another seed is another request.

        Raises:
            NotCached: if the client is offline and the same was not asked before.
            BudgetSpent: if the budget does not allow the request; nothing was sent.
            EndpointError: if no reply came after all retries, or another model answered than the requested one.
            OSError, FolderGone: if the reply cannot be kept, as on a full disk.
            Stopped: if the client was stopped before the request was sent. A final EndpointError and a reply that
                cannot be kept also stop it; then that error is raised again.
        """
        try:
            return self._ask(self.request(messages, schema, seed=seed))
        except (OSError, FolderGone) as error:
            if not isinstance(error, EndpointError) or error.final:
                self._ended_by = error
                self.stop()  # in this thread, which would take the next question before the others know
            raise
        except Stopped:
            if self._ended_by is None:
                raise
            raise self._ended_by from None  # so that the caller gets the reason, whichever thread it hears first

    def _ask(self, body: Mapping[str, Any]) -> Reply:
        key = _hash(body)
        reply = self._cache.get(key)
        if reply is None:
            if self._http is None:
                raise NotCached(f"{self._cache.path.name} has no such request")
            reply = self._ask_endpoint(body)._replace(key=key)
            self._cache.put(reply)  # kept even if another model answered: it is paid for
        self.estimated |= reply.estimated and not reply.cached
        if not (self.config.allow_other_model or same_model(self.config.model, reply.model)):
            group, asked = self._group, self.config.model
            raise EndpointError(
                f"{self.config.base_url} answered as {reply.model!r}, but {group}.model={asked!r} was requested. Give "
                f"the name under which it answers, or set {group}.allow_other_model=True.",
                kind="another model",
                final=True,
            )
        return reply

    def _ask_endpoint(self, body: Mapping[str, Any]) -> Reply:
        prompt = estimate_prompt(body["messages"])
        with self._budget.asking(prompt):
            for attempt in range(self.config.retries + 1):
                try:
                    reply = self._send(body)
                except EndpointError as error:
                    # Http repeats failed requests, but not a response without a completion.
                    if error.kind != NO_COMPLETION or attempt == self.config.retries:
                        raise
                    continue
                break
            if not reply.tokens:
                reply = reply._replace(tokens=prompt + estimate_tokens(reply.text), estimated=True)
            self._budget.replied(reply.tokens)
        return reply

    def _connect(self) -> Http:
        config = self.config
        return Http(
            config.base_url,
            key=self._key or "none",
            local=is_local(config.base_url),
            timeout=config.timeout,
            retries=config.retries,
            concurrency=config.concurrency,
            stop=self._stop,
            before=self._budget.count,
            unsent=self._budget.take_back,
        )

    def _send(self, body: Mapping[str, Any]) -> Reply:
        url, group = self.config.base_url, self._group
        assert self._http is not None
        try:
            status, text = self._http.post("/chat/completions", json.dumps(body).encode())
        except NoResponse as error:
            if error.timeout:
                hint = f"Raise {group}.timeout or lower {group}.concurrency."
                message = f"{url}: no reply in {self.config.timeout:g} s. {hint}"
                raise EndpointError(message, kind="timeout") from None
            through = f" through the proxy {proxy.address} of {proxy.variable}" if (proxy := self._http.proxy) else ""
            message = f"{url} cannot be reached{through} ({self._hide(str(error))}). Is the server running?"
            raise EndpointError(message, kind="no server") from None
        except ReplyTooLong as error:
            raise EndpointError(f"{url}: {error}; it was cut. Is this a chat model?", kind="too long") from None
        if not 200 <= status < 300:
            raise self._refused(status, text)
        # The endpoint knows the key and may repeat it in its reply, which is cached and shown.
        return read_completion(self._hide(text), url=url)

    def _hide(self, text: str) -> str:
        """A text with the key replaced, also where JSON in the text escapes it."""
        return self._secret.sub("[key]", text) if self._secret else text

    def _refused(self, status: int, words: str) -> EndpointError:
        url, config = self.config.base_url, self.config
        hint, final = "", True  # the next request would fail in the same way
        if status in (401, 403):
            hint = f" It refuses the key in ${config.key_variable}."
        elif status == 407:
            hint = " The proxy wants a user and a password: http://USER:PASSWORD@HOST:PORT in its variable."
        elif status == 404:
            hint = f" It has no model {config.model!r}, or {self._group}.base_url lacks its /v1."
        elif 300 <= status < 400:
            hint = " It redirects, and redirects are not followed. Give the final address."
        else:
            final = False
        said = " ".join(self._hide(words).split())[:_SHOWN]
        return EndpointError(f"{url} answered {status}.{hint} It said: {said!r}", kind=f"status {status}", final=final)


def _pattern(key: str) -> re.Pattern[str] | None:
    """Finds a key in a text, with its characters as they are or escaped (`\\/`, `\\u002f`); None if it is no secret.

    Servers on this machine take any key: `none`, `local`, `EMPTY`. Such a word is no secret, and occurs in answers.
    JSON within JSON has several backslashes.
    """
    if len(key) < (_LEAST_WORD if key.isalpha() else _LEAST_KEY):
        return None

    def forms(one: str) -> str:
        plain = re.escape(one)
        escaped = rf"\\{{1,7}}u(?i:{ord(one):04x})"
        return rf"(?:{plain}|\\{{1,7}}{plain}|{escaped})" if one in '"\\/' else f"(?:{plain}|{escaped})"

    return re.compile("".join(map(forms, key)))


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
