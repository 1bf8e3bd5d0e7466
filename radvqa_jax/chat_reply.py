"""The result of a chat request: a reply, or an error with the reason."""

import json
import re
from typing import Any, NamedTuple

NO_COMPLETION = "no chat completion"
_SHOWN = 200  # characters of an endpoint's own words in an error
# Additions of servers to the requested name: a tag, a revision, the date of a release.
_SUFFIX = re.compile(r"(:latest|@main|-\d{8}|-\d{4}-\d{2}-\d{2})$")


class Reply(NamedTuple):
    """The text of the model's reply, with its facts."""

    text: str
    finish: str  # the endpoint's reason for the end: stop, length, …
    model: str  # the name under which the endpoint answers
    tokens: int  # of prompt and reply
    cached: bool  # whether it comes from the cache
    estimated: bool = False  # whether `tokens` is an estimate, because the endpoint does not count
    id: str = ""  # the endpoint's id of the reply
    key: str = ""  # its key in the cache


class EndpointError(OSError):
    """No usable reply came. `final`: every other request would fail in the same way."""

    def __init__(self, message: str, *, kind: str, final: bool = False) -> None:
        super().__init__(message)
        self.kind = kind  # one or two words, without anything that was sent or received
        self.final = final


def same_model(asked: str, served: str) -> bool:
    """Whether an endpoint answered as the requested model; True if it gives no name.

    >>> same_model("llama3.1", "llama3.1:latest"), same_model("gpt-4o", "gpt-4o-2024-08-06"), same_model("a", "b")
    (True, True, False)
    """
    names = {served.casefold(), _SUFFIX.sub("", served.casefold())}
    return not served or bool(names & {asked.casefold(), asked.casefold().removesuffix(":latest")})


def whole_text(value: Any) -> Any:
    """A JSON value with its lone surrogates replaced, which JSON can contain but UTF-8 cannot.

    >>> whole_text(["fine", {"a": chr(0xD83D)}])
    ['fine', {'a': '�'}]
    """
    if isinstance(value, str):
        return value if value.isascii() else re.sub(r"[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(name): whole_text(item) for name, item in value.items()}
    return value


def _text_of(content: Any) -> str:
    """The text of a message, which some servers send in parts; parts of reasoning are left out."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] in ("text", "output_text"))
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    return content or ""


def _reason(text: str) -> str:
    """A sentence with the endpoint's words, if it sent an error although the status was one of success."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    words = error.get("message") if isinstance(error, dict) else error
    return f" It said: {' '.join(str(words).split())[:_SHOWN]!r}" if words else ""


def read_completion(text: str, *, url: str) -> Reply:
    """The reply in the body of a response.

    Raises:
        EndpointError: if it is not a chat completion: HTML, JSON that ends early, or other JSON.
    """
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        content, usage = choice["message"]["content"], body.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
        tokens = max(sum(counts[:2]), counts[2], 0)  # 0: not counted
        content = _text_of(content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        start = text.lstrip()[:40]
        html = start.startswith("<")
        hint = " That is a web page: does base_url end in /v1?" if html else ""
        raise EndpointError(
            f"{url} sent no chat completion but {start!r} ({type(error).__name__}).{hint}{_reason(text)}",
            kind="HTML instead of JSON" if html else NO_COMPLETION,
            final=html,
        ) from error
    said = (content, choice.get("finish_reason"), body.get("model"), body.get("id"))
    words, finish, model, name = (whole_text(str(value or "")) for value in said)
    return Reply(words, finish, model, tokens, cached=False, id=name)
