"""Text from a chat model behind any OpenAI-compatible endpoint: cached, paced, within a budget, nowhere by surprise.

Requests go through the official `openai` client (extra `judge`), which pauses and repeats what failed. Every reply is
appended to a jsonl cache under the hash of all that was asked (model, messages, sampling), so that a run which was
stopped continues, and a finished one can be done again without the endpoint.
"""

import hashlib
import ipaddress
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from radvqa_jax.config import ChatConfig
from radvqa_jax.files import append_jsonl, read_jsonl

Message = Mapping[str, str]  # role, content
NO_COMPLETION = "no chat completion"
_SHOWN = 200  # characters of an endpoint's own words in an error


class Reply(NamedTuple):
    """What the model said."""

    text: str
    finish: str  # stop, length, … as the endpoint says
    model: str  # as the endpoint calls itself
    tokens: int  # of prompt and reply, as the endpoint counts; 0 if it does not
    cached: bool


class EndpointError(OSError):
    """No reply came, after all retries. `final`: every other request would fail in the same way."""

    def __init__(self, message: str, *, kind: str, final: bool = False) -> None:
        super().__init__(message)
        self.kind = kind  # one or two words, without anything that was sent or received
        self.final = final


class BudgetSpent(ValueError):
    """The run has used the calls or tokens that it may use."""


class NotCached(LookupError):
    """The cache has no reply, and nothing may be sent."""


def is_local(base_url: str) -> bool:
    """Returns whether an address is on this machine.

    >>> is_local("http://127.0.0.1:8000/v1"), is_local("http://[::1]:80"), is_local("http://localhost.example.org/v1")
    (True, True, False)
    """
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_endpoint(config: ChatConfig, *, group: str = "judge") -> None:
    """Raises ValueError, with the way out, if the endpoint may not or cannot be asked; sends nothing."""
    if config.offline:
        return
    parts = urlsplit(config.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{group}.base_url={config.base_url!r} must be the address of an OpenAI-compatible endpoint, such as "
            f"http://127.0.0.1:8000/v1; or set {group}.offline=True to use the cache alone."
        )
    if parts.username or parts.password:
        raise ValueError(f"{group}.base_url holds a password. Put the key into ${config.key_variable} instead.")
    if is_local(config.base_url):
        return
    if not config.allow_remote:
        raise ValueError(
            f"{group}.base_url={config.base_url} is not on this machine: questions, references and answers would leave "
            f"it. If they may, set {group}.allow_remote=True; otherwise serve a model here."
        )
    if not os.environ.get(config.key_variable):
        raise ValueError(
            f"{config.base_url} needs a key, and the environment variable {config.key_variable} is empty. Set it, or "
            f"name another one as {group}.key_variable; a key is never read from a file or a flag."
        )


class Cache:
    """Replies by the hash of what was asked, in an append-only jsonl file. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = read_jsonl(path, allow_cut=True) if path.is_file() else []
        self._rows = {row["key"]: row for row in rows}
        self._lock = threading.Lock()

    def get(self, key: str) -> Reply | None:
        """Returns the reply under `key`, or None."""
        row = self._rows.get(key)
        return None if row is None else Reply(row["text"], row["finish"], row["model"], row["tokens"], cached=True)

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply; it is on the disk when this returns."""
        row = {"key": key} | reply._asdict()
        del row["cached"]
        with self._lock:
            append_jsonl(self.path, [row])
            self._rows[key] = row


class _Budget:
    """Counts calls and tokens, and spaces requests evenly over time."""

    def __init__(self, config: ChatConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._next = 0.0
        self.calls = 0
        self.tokens = 0

    def take(self) -> None:
        """Waits for its turn; raises BudgetSpent instead if nothing is left."""
        config = self._config
        with self._lock:
            for what, used, limit in (
                ("max_calls", self.calls, config.max_calls),
                ("max_total_tokens", self.tokens, config.max_total_tokens),
            ):
                if limit and used >= limit:
                    raise BudgetSpent(f"The budget is spent: {what}={limit}. Raise it and start again to continue.")
            self.calls += 1
            now = time.monotonic()
            start = max(now, self._next)
            if config.requests_per_minute:
                self._next = start + 60 / config.requests_per_minute
        time.sleep(start - now)

    def add(self, tokens: int) -> None:
        """Counts the tokens of a reply."""
        with self._lock:
            self.tokens += tokens


def _make_openai(config: ChatConfig) -> Any:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise ValueError("A chat model needs the extra `judge`: pip install -e '.[judge]'.") from error
    local = is_local(config.base_url)
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.key_variable) or "none",
        timeout=config.timeout,
        max_retries=config.retries,
        # A redirect could lead off this machine, and so could a proxy between this machine and itself.
        http_client=openai.DefaultHttpx2Client(follow_redirects=False, trust_env=not local),
    )


class ChatClient:
    """Asks one model. `calls`, `tokens`: what this run used. Several threads may ask at a time."""

    def __init__(self, config: ChatConfig, *, cache: Path, group: str = "judge") -> None:
        """Sends nothing yet.

        Args:
            config: endpoint, sampling, limits.
            cache: its jsonl file; made with the first reply.
            group: how the configuration calls these fields, for errors.

        Raises:
            ValueError: if the endpoint may not be asked.
        """
        check_endpoint(config, group=group)
        self.config = config
        self._group = group
        self._cache = Cache(cache)
        self._budget = _Budget(config)
        self._openai = None if config.offline else _make_openai(config)

    @property
    def calls(self) -> int:
        """Requests made, each counted once however often it was repeated."""
        return self._budget.calls

    @property
    def tokens(self) -> int:
        """Prompt and reply tokens used, as the endpoint counts them."""
        return self._budget.tokens

    def close(self) -> None:
        """Closes the connections."""
        if self._openai is not None:
            self._openai.close()

    def request(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the body of a request: what the cache key is the hash of."""
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [dict(message) for message in messages],
            "temperature": config.temperature,
            "seed": config.seed,
            "max_tokens": config.max_tokens,
        }
        if config.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif config.response_format == "json_schema" and schema is not None:
            named = {"name": "reply", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def ask(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Reply:
        """Returns the reply to a conversation, from the cache if it was asked before.

        Raises:
            NotCached: offline, and it was not asked before.
            BudgetSpent: nothing was sent.
            EndpointError: no reply came, after all retries.
        """
        body = self.request(messages, schema)
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        if (found := self._cache.get(key)) is not None:
            return found
        if self._openai is None:
            raise NotCached(f"{self._cache.path.name} has no such request")
        for attempt in range(self.config.retries + 1):
            self._budget.take()
            try:
                reply = self._send(body)
            except EndpointError as error:  # the client repeats what failed, but not an answer that is none
                if error.kind != NO_COMPLETION or attempt == self.config.retries:
                    raise
                continue
            break
        self._budget.add(reply.tokens)
        self._cache.put(key, reply)
        return reply

    def _send(self, body: Mapping[str, Any]) -> Reply:
        import openai

        url, group = self.config.base_url, self._group
        assert self._openai is not None
        try:
            response = self._openai.chat.completions.with_raw_response.create(**body)
        except openai.APITimeoutError as error:
            hint = f"Raise {group}.timeout or lower {group}.concurrency."
            raise EndpointError(f"{url}: no reply in {self.config.timeout:g} s. {hint}", kind="timeout") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise EndpointError(
                f"{url} cannot be reached ({cause}). Is the server running?", kind="no server"
            ) from error
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.response.text) from error
        return read_completion(response.text, url=url)

    def _refused(self, status: int, words: str) -> EndpointError:
        url, config = self.config.base_url, self.config
        hint, final = "", True  # the next request would fail in the same way
        if status in (401, 403):
            hint = f" It refuses the key in ${config.key_variable}."
        elif status == 404:
            hint = f" It has no model {config.model!r}, or {self._group}.base_url lacks its /v1."
        elif 300 <= status < 400:
            hint = " It leads elsewhere; redirects are not followed. Give the address that answers."
        else:
            final = False
        said = " ".join(words.split())[:_SHOWN]
        return EndpointError(f"{url} answered {status}.{hint} It said: {said!r}", kind=f"status {status}", final=final)


def read_completion(text: str, *, url: str) -> Reply:
    """Returns the reply in the body of a response.

    Raises:
        EndpointError: if it is no chat completion: HTML, JSON that ends early, or other JSON.
    """
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        content, usage = choice["message"]["content"], body.get("usage") or {}
        tokens = sum(int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        if content is not None and not isinstance(content, str):
            raise TypeError(f"content is {type(content).__name__}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        start = text.lstrip()[:40]
        html = start.startswith("<")
        hint = " That is a web page: does base_url end in /v1?" if html else ""
        raise EndpointError(
            f"{url} sent no chat completion but {start!r} ({type(error).__name__}).{hint}",
            kind="HTML instead of JSON" if html else NO_COMPLETION,
            final=html,
        ) from error
    return Reply(content or "", str(choice.get("finish_reason") or ""), str(body.get("model") or ""), tokens, False)
