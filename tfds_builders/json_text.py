"""JSON of the authors' files, which other programs wrote: NaN is accepted, a field that occurs twice is not."""

import json
from typing import Any


class NotJson(ValueError):
    """The error for a text that is not JSON, is nested too deep, or has a field twice in one object."""


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The dict of a JSON object; an `object_pairs_hook` for json.loads.

    Raises:
        ValueError: if a field occurs twice, because readers differ in which of the two they take.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} occurs twice in one object; keep one of the two")
    return found


def load_json(text: str) -> Any:
    """A JSON value; NaN and infinity, which some programs write for missing values, become None.

    >>> load_json('{"a": NaN}')
    {'a': None}

    Raises:
        NotJson: saying why.
    """
    try:
        # A raw control character in a text is harmless.
        return json.loads(text, strict=False, parse_constant=lambda _: None, object_pairs_hook=no_repeats)
    except RecursionError as error:
        raise NotJson("lists or objects are nested too deep") from error
    except ValueError as error:
        raise NotJson(str(error)) from error
