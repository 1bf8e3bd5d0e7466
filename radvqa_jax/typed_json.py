"""Checks JSON files against types. An error names file, line, field, rule and value.

Use it for every JSON file. A type is a NamedTuple, a dataclass or TypedDict with `__pydantic_config__ = STRICT`, or a
list or dict of them; ranges are pydantic's `Annotated[float, Field(le=0)]`. The rules are strict: text does not become
a number, 1 is not a bool, and NaN and infinity are not floats. Unknown, missing and repeated fields are errors, and so
is text that is not Unicode (a lone surrogate).

    meta = typed_json.read(path, AdapterMeta)  # one JSON value
    for line in typed_json.iter_lines(path, Record):  # a jsonl file of any size, in flat memory
        line.value or line.error

`check` does the same for a value that is already parsed.
"""

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, Generic, TypeVar, get_type_hints, is_typeddict

from pydantic import ConfigDict, TypeAdapter, ValidationError

from radvqa_jax.files import no_repeats, open_regular
from radvqa_jax.trees import nearest

T = TypeVar("T")
STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
BOM = b"\xef\xbb\xbf"
MAX_LINE = 16 * 2**20  # bytes of one line of a jsonl file
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_SHOWN = 80  # characters of a value in an error
_MUST = {
    "string_type": "must be text",
    "string_unicode": "must be Unicode text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a JSON object",
    "dataclass_type": "must be a JSON object",
    "named_tuple_type": "must be a JSON object",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "none_required": "must be null",
    "finite_number": "must be a finite number",
}


class JsonError(ValueError):
    """A JSON text that does not have the expected form. `field` is empty if the error is about no field."""

    def __init__(self, where: str, field: str, problem: str, way_out: str = ""):
        self.where, self.field, self.problem = where, field, problem
        named = f"field `{field}` " if field else ""
        super().__init__(f"{where}: {named}{problem}.{way_out}")


@dataclass(frozen=True, slots=True)
class Line(Generic[T]):
    """One line of a jsonl file: its number from 1, and either its value or its error."""

    number: int
    value: T | None
    error: JsonError | None
    text: bytes  # as in the file; only the beginning of a line longer than MAX_LINE


@functools.cache
def _adapter(kind: Any) -> Any:  # a TypeAdapter
    if not (is_dataclass(kind) or is_typeddict(kind)):
        return TypeAdapter(kind, config=STRICT)
    if getattr(kind, "__pydantic_config__", None) is not STRICT:
        raise TypeError(f"{kind} needs `__pydantic_config__ = STRICT` to be read by typed_json.")
    own: Any = kind
    return TypeAdapter(own)


def _path(parts: tuple[int | str, ...]) -> str:
    """The place of a value as text: `predictions[0]`, `settings.rank`."""
    text = ""
    for part in parts:
        name = str(part) if str(part).isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)  # ASCII, so that surrogates and control characters are escaped in a log
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _surrogate(value: Any, path: tuple[int | str, ...] = ()) -> tuple[int | str, ...] | None:
    """The place of text with a lone surrogate, or None."""
    if isinstance(value, str):
        return path if any("\ud800" <= character <= "\udfff" for character in value) else None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if (found := _surrogate(item, (*path, key))) is not None:
            return found
    return None


def _not_json(text: str | bytes, message: str, where: str) -> JsonError:
    """The error of a text that pydantic's parser refuses; Python's own parser finds lone surrogates."""
    try:
        path = _surrogate(json.loads(text))
    except (ValueError, RecursionError):
        path = None
    if path is not None:
        return JsonError(where, _path(path), "contains a lone surrogate, which is not Unicode", " Write it again.")
    return JsonError(where, "", f"not valid JSON ({message.removeprefix('Invalid JSON: ')})")


def _error(error: ValidationError, text: str | bytes, kind: Any, where: str) -> JsonError:
    """The error of the first problem, with the number of the others."""
    # An unknown field comes first: it is often a missing field, misspelt.
    found = sorted(error.errors(include_url=False, include_context=False), key=lambda e: e["type"] not in _UNKNOWN)
    first = found[0]
    if first["type"] == "json_invalid":
        return _not_json(text, first["msg"], where)
    parts = tuple(first["loc"])
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    if not parts and first["type"] in _MUST:
        return JsonError(where, "", f"{_MUST[first['type']]}; got {_shown(first['input'])}")
    if first["type"].startswith("missing"):
        return JsonError(where, _path(parts), f"is missing{more}")
    if first["type"] in _UNKNOWN:
        known = get_type_hints(kind) if len(parts) == 1 and isinstance(kind, type) else {}
        hint = nearest(str(parts[-1]), known) + (f" Known: {', '.join(known)}." if known else "")
        return JsonError(where, _path(parts), f"is unknown{more}", hint)
    rule = _MUST.get(first["type"]) or re.sub(r"^(Input|String|List|Dictionary) should", "must", first["msg"])
    rule = rule.removeprefix("Value error, ")  # pydantic's words before those of a check of ours
    return JsonError(where, _path(parts), f"{rule}; got {_shown(first['input'])}{more}")


def parse(text: str | bytes, kind: type[T] | Any, *, where: str) -> T:
    """The value of a JSON text as `kind`.

    Args:
        text: one JSON value, as text or as UTF-8.
        kind: the expected type.
        where: the name of the text in errors, such as `predictions.jsonl, line 3`.

    Raises:
        JsonError: a ValueError that names the first wrong field, its rule and its value.
    """
    try:
        value = _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise _error(error, text, kind, where) from None
    try:
        json.loads(text, object_pairs_hook=no_repeats)  # of a repeated field, pydantic takes the last without an error
    except ValueError as error:
        raise JsonError(where, "", str(error)) from None
    return value


def check(value: Any, kind: type[T] | Any, *, where: str) -> T:
    """A parsed JSON value as `kind`; errors are those of `parse`."""
    return parse(json.dumps(value), kind, where=where)


def check_part(value: Any, kind: type[T] | Any, *, where: str) -> T:
    """A parsed JSON object as the NamedTuple `kind`; fields that the NamedTuple does not have are ignored."""
    known, fields = check(value, dict[str, Any], where=where), get_type_hints(kind)
    return check({name: known[name] for name in fields if name in known}, kind, where=where)


def read(path: str | os.PathLike[str], kind: type[T] | Any) -> T:
    """The JSON value in a file as `kind`; errors are those of `parse`."""
    with open_regular(path) as file:
        return parse(file.read().removeprefix(BOM), kind, where=str(path))


def raw_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yields the number from 1 and the bytes of every line that is not blank, without a byte order mark.

    Of a line longer than MAX_LINE, only the first MAX_LINE + 1 bytes are kept and yielded.
    """
    with open_regular(path) as file:
        number = 0
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE and not text.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
            text = text.removeprefix(BOM) if number == 1 else text
            if text.strip():
                yield number, text


def parse_line(number: int, text: bytes, kind: type[T] | Any, *, path: str | os.PathLike[str]) -> Line[T]:
    """A line of `raw_lines`, with its value as `kind` or its error."""
    where = f"{path}, line {number}"
    if len(text) > MAX_LINE:
        return Line(number, None, JsonError(where, "", f"longer than {MAX_LINE} bytes"), text[:1000])
    try:
        return Line(number, parse(text, kind, where=where), None, text)
    except JsonError as error:
        return Line(number, None, error, text)


def iter_lines(path: str | os.PathLike[str], kind: type[T] | Any) -> Iterator[Line[T]]:
    """Yields every line that is not blank, one at a time, each with its value or its error."""
    for number, text in raw_lines(path):
        yield parse_line(number, text, kind, path=path)


def read_lines(path: str | os.PathLike[str], kind: type[T] | Any) -> list[T]:
    """The values of all lines of a jsonl file.

    Raises:
        JsonError: for the first wrong line.
    """
    values = []
    for line in iter_lines(path, kind):
        if line.error is not None:
            raise line.error
        values.append(line.value)
    return values
