"""Untrusted text for a chat model, which must not obey it, and the model's replies in JSON.

Answers, captions and cases may come from anyone. Each goes into a prompt as JSON on its own line, between marks that it
does not contain, with invisible characters escaped. A reply must repeat the mark, so that no text can plant a reply.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from radvqa_jax.chat_reply import whole_text

MARK_LENGTH = 10
# Ends of a model's reasoning, before its reply. The beginning may be in the prompt's template.
_THINKING_ENDS = re.compile(r"</think(?:ing)?>|</reasoning>|\[/THINK\]|<\|channel\|>final<\|message\|>")
_FENCED = re.compile(r"```[a-zA-Z]*\s*(.*?)\s*```", re.DOTALL)


class NoJson(ValueError):
    """A reply that is not one JSON value. The message gives the reason without quoting the reply."""


def visible(text: str) -> str:
    r"""Text with its invisible characters escaped, so that a judge reads the same as a person.

    >>> visible("no\u202e mass\x00")
    'no\\u202e mass\\u0000'
    """

    if text.isprintable():  # fast, and true of most texts
        return text

    def show(character: str) -> str:
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs") and character not in "\n\t":
            return f"\\u{ord(character):04x}"
        return character

    return "".join(map(show, text))


def _cut(text: str, *, max_chars: int) -> str:
    """A visible text. One that is too long is cut in the middle, because its end may matter."""
    text = visible(text)
    if len(text) > max_chars:
        half = max_chars // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters cut ...] {text[-half:]}"
    return text


def field(value: str | list[str], *, max_chars: int) -> str:
    """A field as one line of JSON. A text of more than `max_chars` characters is cut in the middle."""
    if isinstance(value, str):
        return json.dumps(_cut(value, max_chars=max_chars), ensure_ascii=False)
    return json.dumps([_cut(text, max_chars=max_chars) for text in value], ensure_ascii=False)


def make_mark(fields: Mapping[str, str | list[str]]) -> str:
    """The mark around these fields, which none of them contains.

    It is a hash of the fields, so that the same item always gives the same prompt.
    """
    content = json.dumps(fields, sort_keys=True)
    lower = content.lower()
    for number in range(1000):
        mark = hashlib.sha256(f"{number} {content}".encode()).hexdigest()[:MARK_LENGTH]
        if mark not in lower:
            return mark
    raise AssertionError("a text cannot hold the hashes of itself with a thousand numbers")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NoJson("a field occurs twice")
    return found


def _bodies(text: str) -> Iterator[str]:
    """Yields the parts of a reply that may be the JSON object, in the order to try them.

    These are: the whole; the text after the reasoning; and the content of a single code fence in either.
    """
    whole = text.strip()
    yield whole  # most replies are only the object
    *_, reply = _THINKING_ENDS.split(whole)
    yield reply.strip()
    for body in (whole, reply):
        fenced = _FENCED.findall(body)
        if len(fenced) == 1:
            yield fenced[0]


def read_reply(text: str) -> Any:
    """The JSON value of a reply.

    Reasoning before the value, a code fence around it with words outside, and raw newlines in its strings are
    accepted. JSON within prose is not searched for.

    Raises:
        NoJson: for anything else, and for an object in which a field occurs twice.
    """
    for body in _bodies(text):
        try:
            return whole_text(json.loads(body, object_pairs_hook=_no_repeats, strict=False))
        except NoJson:
            raise
        except (ValueError, RecursionError):
            continue
    raise NoJson("not one JSON object")
