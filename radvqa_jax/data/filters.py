"""Selects rows of a source by the values of their fields. Images are not read."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from radvqa_jax.config import FilterConfig
from radvqa_jax.trees import nearest


@runtime_checkable
class Columns(Protocol):
    """The part of RowSource that filters need."""

    @property
    def name(self) -> str: ...

    def text_fields(self) -> list[str]: ...

    def column(self, name: str) -> list[str]: ...


def _texts(rows: Columns, field: str) -> list[str]:
    """A field of every row; raises ValueError, with the nearest name, if it is not a text field."""
    fields = rows.text_fields()
    if field not in fields:
        raise ValueError(
            f"{rows.name} has no text field {field!r} to filter by.{nearest(field, fields)} "
            f"It has: {', '.join(sorted(fields))}."
        )
    return rows.column(field)


def _frequent(rows: Columns, values: Sequence[str], condition: FilterConfig) -> set[str]:
    """The values that are frequent enough; an absent value does not count."""
    if condition.count_by == "rows":
        counted = Counter(values)
    else:
        ids = rows.column({"images": "image_id", "cases": "case_id"}[condition.count_by])
        counted = Counter(value for value, _ in dict.fromkeys(zip(values, ids, strict=True)))
    counted.pop("", None)
    enough = [value for value, n in counted.items() if n >= condition.min_count]
    # Ties are broken alphabetically, so that the choice does not depend on the order of rows.
    enough.sort(key=lambda value: (-counted[value], value))
    return set(enough[: condition.most_common or None])


def _wanted(rows: Columns, values: Sequence[str], condition: FilterConfig) -> set[str]:
    """The wanted values, ignoring case; raises ValueError for a value that no row has, as it may be a typing error."""
    there = {value.casefold() for value in values}
    for value in condition.values:
        if value.casefold() not in there:
            known = sorted(set(values))
            shown = ", ".join(map(repr, known[:20])) + (", …" if len(known) > 20 else "")
            raise ValueError(
                f"{rows.name}: no row has {condition.field}={value!r}.{nearest(value, known)} There are: {shown}."
            )
    return {value.casefold() for value in condition.values}


def matching(rows: Columns, condition: FilterConfig) -> list[int]:
    """The numbers of the rows that fulfil one condition.

    Raises:
        ValueError: if there is no such field or value, or no row is left.
    """
    values = _texts(rows, condition.field)
    kept = [True] * len(values)
    if condition.values:
        wanted = _wanted(rows, values, condition)
        kept = [(value.casefold() in wanted) != condition.exclude for value in values]
    if condition.min_count or condition.most_common:
        frequent = _frequent(rows, values, condition)
        kept = [keep and value in frequent for keep, value in zip(kept, values, strict=True)]
    if condition.min_words or condition.max_words:
        most = condition.max_words or float("inf")
        words = [len(value.split()) for value in values]
        kept = [keep and condition.min_words <= n <= most for keep, n in zip(kept, words, strict=True)]
    numbers = [index for index, keep in enumerate(kept) if keep]
    if not numbers:
        raise ValueError(
            f"{rows.name}: the filter {describe_condition(condition)!r} leaves none of {len(values)} rows."
        )
    return numbers


def describe_condition(condition: FilterConfig) -> str:
    """A condition in words: only what differs from the default.

    >>> describe_condition(FilterConfig(field="location", min_count=100))
    'location: min_count=100'
    """
    default = FilterConfig(field=condition.field)
    given = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)}
    parts = [f"{name}={value}" for name, value in given.items() if value != getattr(default, name)]
    return f"{condition.field}: {', '.join(parts)}"
