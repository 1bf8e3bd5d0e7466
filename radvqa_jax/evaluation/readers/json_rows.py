"""Plain JSON: a list of objects, or a file with one object on each line, with our names of fields or given names.

`prediction` may replace a list of one in `predictions`. Identifiers may be numbers.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import spreadsheet, typed_json
from radvqa_jax.evaluation.readers.foreign_rows import Row, read_each, text_of
from radvqa_jax.schema import Record
from radvqa_jax.trees import nearest

NAME = "json"


def read(
    items: Iterator[tuple[int, Any]], *, place: str, renamed: Mapping[str, str], ignored: Collection[str]
) -> Iterator[Row]:
    """Yields a row for each numbered object; `renamed` has our name -> theirs."""
    back = {theirs: ours for ours, theirs in renamed.items()}
    known, seen = {*Record._fields, "prediction"}, set[str]()

    def take(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        seen.update(row)
        taken = [back.get(name, name) for name in row if name not in ignored]
        if twice := spreadsheet.repeated_of(taken):
            raise ValueError(f"two fields are our {twice[0]!r}: {twice[0]} and {renamed[twice[0]]}. Leave one out")
        fields = {back.get(name, name): value for name, value in row.items() if name not in ignored}
        if unknown := sorted(set(fields) - known):
            raise ValueError(
                f"unknown field {unknown[0]!r}.{nearest(unknown[0], known)} To leave it out, give --ignore "
                f"{unknown[0]}; if it is one of ours, say which: --column OURS={unknown[0]}"
            )
        if "prediction" in fields:
            if "predictions" in fields:
                raise ValueError("it has `prediction` and `predictions`. Leave one out: --ignore prediction")
            fields["predictions"] = [text_of(fields, "prediction")]
            del fields["prediction"]
        for name in ("question_id", "image_id"):
            if isinstance(fields.get(name), int | float):
                fields[name] = text_of(fields, name)
        return fields

    yield from read_each(items, take, place=place)
    if unseen := sorted({*back, *ignored} - seen):
        near = nearest(unseen[0], sorted(seen))
        raise ValueError(f"No {place} has a field {unseen[0]!r}, which --column or --ignore names.{near}")


def items_of(value: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Yields the numbered entries of a JSON list."""
    yield from enumerate(value, 1)


def items_of_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the numbered objects of a jsonl file; a line that is not JSON gives None."""
    for line in typed_json.iter_lines(path, Any):
        yield line.number, line.value if line.error is None else None
