"""Users' files are read by their types: errors are named, and nothing is guessed."""

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.schema import Record


@dataclasses.dataclass(frozen=True)
class Meta:
    __pydantic_config__ = typed_json.STRICT
    rank: Annotated[int, Field(ge=1)]
    alpha: float
    targets: list[str]
    kind: Literal["lora", "dora"] = "lora"


class Line(NamedTuple):
    name: str
    meta: Meta | None = None


META = {"rank": 8, "alpha": 16, "targets": ["q"]}
LEAST = {"question_id": "q", "image_id": "i", "question": "?", "reference": "r", "predictions": ["a"]}


def test_values_are_read_by_type() -> None:
    assert typed_json.check(META, Meta, where="x") == Meta(8, 16.0, ["q"])
    assert typed_json.check({"name": "n", "meta": META}, Line, where="x") == Line("n", Meta(8, 16.0, ["q"]))
    assert typed_json.check([1, 2], list[int], where="x") == [1, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": 0}, r"^f, line 3: field `rank` must be greater than or equal to 1; got 0\.$"),
        ({"rank": 16.5}, "`rank` must be an integer; got 16.5"),
        ({"rank": True}, "`rank` must be an integer; got true"),
        ({"rank": "8"}, "`rank` must be an integer; got \"8\""),
        ({"alpha": float("nan")}, "`alpha` must be a finite number; got NaN"),
        ({"alpha": float("inf")}, "`alpha` must be a finite number; got Infinity"),
        ({"targets": "q"}, "`targets` must be a list; got \"q\""),
        ({"targets": ["q", None]}, r"`targets\[1\]` must be text; got null"),
        ({"targets": ["\ud800"]}, r"`targets\[0\]` contains a lone surrogate"),
        ({"kind": "lorra"}, "`kind` must be 'lora' or 'dora'; got \"lorra\""),
        ({"rang": 3}, r"`rang` is unknown\. Did you mean `rank`\? Known: rank, alpha, targets, kind"),
        ({"alpha": None, "targets": 1}, "`alpha` must be a number; got null and 1 more"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(typed_json.JsonError, match=message):
        typed_json.parse(json.dumps(META | changed), Meta, where="f, line 3")


def test_a_missing_field_and_another_value_are_named() -> None:
    with pytest.raises(ValueError, match=r"^f: field `alpha` is missing and 1 more\.$"):
        typed_json.parse('{"rank": 1}', Meta, where="f")
    with pytest.raises(ValueError, match=r"^f: field `meta.rank` must be an integer; got null\.$"):
        typed_json.check({"name": "n", "meta": META | {"rank": None}}, Line, where="f")
    for text in ("[1]", "null", '"x"', "3"):
        with pytest.raises(ValueError, match=r"^f: "):
            typed_json.parse(text, Meta, where="f")
    twice = json.dumps(META).replace("}", ', "rank": 4}')
    with pytest.raises(ValueError, match=r"^f: the field 'rank' occurs twice in one object; keep one of the two\.$"):
        typed_json.parse(twice, Meta, where="f")
    with pytest.raises(ValueError, match=r"^f: not valid JSON \(EOF while parsing"):
        typed_json.parse('{"rank": 1', Meta, where="f")


def test_a_type_without_the_strict_rules_is_refused() -> None:
    loose = dataclasses.make_dataclass("Loose", [("a", int)])
    with pytest.raises(TypeError, match=r"Loose.* needs `__pydantic_config__ = STRICT`"):
        typed_json.check({"a": 1}, loose, where="f")


def test_lines_are_read_one_at_a_time_and_bad_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps(LEAST).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b'\r\n\n\xff\n[]\n{"question_id": 1}\n' + good)
    lines = list(typed_json.iter_lines(path, Record))
    assert [(line.number, line.error is None) for line in lines] == [
        (1, True),
        (3, False),
        (4, False),
        (5, False),
        (6, True),
    ]
    assert lines[0].value == lines[-1].value == Record("q", "i", "?", "r", ["a"])
    assert lines[3].error is not None and lines[3].error.field == "question_id"
    assert lines[1].text == b"\xff\n"
    with pytest.raises(ValueError, match=r"p\.jsonl, line 3: not valid JSON"):
        typed_json.read_lines(path, Record)


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_json, "MAX_LINE", 100_000)
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"x": "' + b"y" * 5_000_000 + b'"}\n' + json.dumps(LEAST).encode())
    tracemalloc.start()
    lines = list(typed_json.iter_lines(path, Record))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line.number for line in lines] == [1, 2] and "longer than 100000 bytes" in str(lines[0].error)
    assert lines[1].value is not None and peak < 2_000_000


def test_deep_and_long_values_end_in_an_error(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "9" * 5000, '{"rank": 1e999}'):
        with pytest.raises(ValueError) as caught:
            typed_json.parse(text, Meta, where="f")
        assert len(str(caught.value)) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from(Record._fields))
def test_any_value_is_a_record_or_a_named_error(value: Any, field: str) -> None:
    for row in (value, LEAST | {field: value}):
        try:
            found = typed_json.check(row, Record, where="f")
        except typed_json.JsonError as error:
            assert str(error).startswith("f: ") and str(error).isprintable()
        else:
            json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False).encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_named_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    for line in typed_json.iter_lines(path, Record):
        assert (line.value is None) == (line.error is not None)
