"""Text that a chat model sees and must not obey, and its replies in JSON.

Answers, captions and cases come from anywhere. Each goes into a prompt as JSON on a line of its own, between marks that
it does not contain; what cannot be seen is written out. A reply repeats the mark, so that no text can plant a reply.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from radvqa_jax.chat_reply import whole_text

MARK_LENGTH = 10
# What models put between their reasoning and their reply; the opening mark may stand in the prompt's template.
_THINKING_ENDS = re.compile(r"</think(?:ing)?>|</reasoning>|\[/THINK\]|<\|channel\|>final<\|message\|>")
_FENCED = re.compile(r"```[a-zA-Z]*\s*(.*?)\s*```", re.DOTALL)


class NoJson(ValueError):
    """A reply that is not one JSON value; says why, without quoting it."""


def visible(text: str) -> str:
    r"""Text in which what cannot be seen is written out, so that a judge reads what a person would.

    >>> visible("no\u202e mass\x00")
    'no\\u202e mass\\u0000'
    """

    if text.isprintable():  # most are, and are done in no time
        return text

    def show(character: str) -> str:
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs") and character not in "\n\t":
            return f"\\u{ord(character):04x}"
        return character

    return "".join(map(show, text))


def _cut(text: str, *, max_chars: int) -> str:
    """A visible text; what is too long is cut in the middle, for an end may be what matters."""
    text = visible(text)
    if len(text) > max_chars:
        half = max_chars // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters cut ...] {text[-half:]}"
    return text


def field(value: str | list[str], *, max_chars: int) -> str:
    """A field as one line of JSON; a long text is cut in the middle, for an end may be what matters."""
    if isinstance(value, str):
        return json.dumps(_cut(value, max_chars=max_chars), ensure_ascii=False)
    return json.dumps([_cut(text, max_chars=max_chars) for text in value], ensure_ascii=False)


def make_mark(fields: Mapping[str, str | list[str]]) -> str:
    """The mark around these fields: a hash of them, so that the same item is asked in the same words.

    It is in none of the fields.
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
        raise NoJson("a field stands twice")
    return found


def _bodies(text: str) -> Iterator[str]:
    """Yields what in a reply may be the JSON object, in the order in which it is tried.

    The whole; what follows the reasoning; the content of the only fence of backquotes of either.
    """
    whole = text.strip()
    yield whole  # most replies are no more than the object
    *_, reply = _THINKING_ENDS.split(whole)
    yield reply.strip()
    for body in (whole, reply):
        fenced = _FENCED.findall(body)
        if len(fenced) == 1:
            yield fenced[0]


def read_reply(text: str) -> Any:
    """The JSON value that a reply is.

    Reasoning before it, a fence of backquotes around it with words outside and raw newlines within its strings do no
    harm. Nothing is searched for in prose.

    Raises:
        NoJson: for anything else, and for an object in which a field stands twice.
    """
    for body in _bodies(text):
        try:
            return whole_text(json.loads(body, object_pairs_hook=_no_repeats, strict=False))
        except NoJson:
            raise
        except (ValueError, RecursionError):
            continue
    raise NoJson("not one JSON object")
