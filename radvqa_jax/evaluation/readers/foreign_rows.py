"""The rows that every reader of a foreign file yields, and functions that take values from the file."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

MOST_EXACT = 1e15  # a spreadsheet keeps 15 digits of a number


class Row(NamedTuple):
    """One row of a foreign file: fields of `schema.Record`, or the reason why there are none."""

    number: int  # line, row or entry, as `place` counts
    place: str  # "line 3", "row 3", "entry 3"
    fields: dict[str, Any]
    problem: str  # empty if the row could be read


class Formatted(NamedTuple):
    """A cell of a spreadsheet that is shown differently from what it holds: 0.5 as 50%."""

    value: Any
    place: str  # "C2"
    code: str  # its number format, "0%"

    def __str__(self) -> str:
        return str(self.value)


def text_of(row: Mapping[str, Any], *names: str, what: str = "") -> str:
    """The first of the given fields that the row has, as text; numbers are written out (a spreadsheet's 3.0 is 3).

    Raises:
        ValueError: if the row has none of them, or the value is neither text nor a number, or a spreadsheet shows
            another text than it holds.
    """
    for name in names:
        value = row.get(name)
        if _is_absent(value):
            continue
        if isinstance(value, Formatted):
            raise ValueError(
                f"{name} must be text; cell {value.place} holds {str(value)[:60]!r} and shows it with the format "
                f"{value.code[:60]!r}. Format the column as text and write there what is meant"
            )
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{name} must be text; got {str(value)[:60]!r} ({type(value).__name__})")
        if isinstance(value, float) and abs(value) >= MOST_EXACT:
            raise ValueError(
                f"{name} must be text; got the number {value}, which may have lost digits. Write it as text"
            )
        return value if isinstance(value, str) else in_text(value)
    raise ValueError(f"{what or names[0]} is missing or empty")


def in_text(number: float) -> str:
    """A number as text; one without decimals as a whole number."""
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def optional(row: Mapping[str, Any], *names: str) -> str:
    """The first of the given fields that the row has, as text; an empty string without one.

    Raises:
        ValueError: as `text_of`, if the value is neither text nor a number: it is not the same as an empty one.
    """
    there = any(not _is_absent(row.get(name)) for name in names)
    return text_of(row, *names) if there else ""


def answer_type(row: Mapping[str, Any]) -> str:
    """`closed` or `open` of a row, or empty: other tools also have types such as `number`, which say neither."""
    given = optional(row, "answer_type").strip().lower()
    return given if given in ("closed", "open") else ""


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_each(
    items: Iterable[tuple[int, Any]], take: Callable[[int, Mapping[str, Any]], dict[str, Any]], *, place: str
) -> Iterator[Row]:
    """Yields a row for each numbered item; a row that `take` refuses holds the reason."""
    for number, item in items:
        where = f"{place} {number}"
        if not isinstance(item, Mapping):
            yield Row(number, where, {}, f"is {type(item).__name__}, not an object with fields")
            continue
        try:
            yield Row(number, where, take(number, item), "")
        except ValueError as error:
            yield Row(number, where, {}, str(error))
