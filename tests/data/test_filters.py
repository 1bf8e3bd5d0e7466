"""Filters by field."""

from typing import Any

import pytest

from radvqa_jax.config import DataConfig, FilterConfig, SourceConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows

from .conftest import fake_rows

ROWS = fake_rows(
    6,
    organ=["chest", "Chest", "head", "", "abdomen", "head"],
    answer=["yes", "no", "left lower lobe", "yes", "in the liver", "no"],
    image_id=list("aabbcd"),
)


def kept(rows: RowSource, **condition: Any) -> list[str]:
    return rows.where(FilterConfig(**condition)).column("question_id")


@pytest.mark.parametrize(
    ("condition", "want"),
    [
        ({"field": "organ", "values": ("chest", "head")}, "0125"),
        ({"field": "organ", "values": ("chest",), "exclude": True}, "2345"),
        ({"field": "organ", "min_count": 2}, "25"),
        ({"field": "organ", "most_common": 1}, "25"),
        ({"field": "organ", "min_count": 2, "count_by": "images"}, "25"),
        ({"field": "image_id", "min_count": 2}, "0123"),
        ({"field": "image_id", "min_count": 2, "values": ("b",)}, "23"),
        ({"field": "answer", "max_words": 1}, "0135"),
        ({"field": "answer", "min_words": 3, "max_words": 3}, "24"),
    ],
)
def test_rows_that_fulfil_the_condition_stay(condition: dict[str, Any], want: str) -> None:
    assert "".join(kept(ROWS, **condition)) == want


def test_counts_can_be_of_images() -> None:
    rows = fake_rows(4, organ=["head", "head", "chest", "chest"], image_id=list("aabc"))
    assert kept(rows, field="organ", min_count=2) == ["0", "1", "2", "3"]
    assert kept(rows, field="organ", min_count=2, count_by="images") == ["2", "3"]


def test_ties_between_common_values_are_broken_by_the_alphabet() -> None:
    rows = fake_rows(4, organ=["head", "chest", "head", "chest"])
    assert kept(rows, field="organ", most_common=1) == ["1", "3"]


def test_the_fingerprint_lists_the_filters() -> None:
    rows = ROWS.where(FilterConfig("organ", values=("head",))).where(FilterConfig("answer", max_words=1))
    assert rows.fingerprint["filters"] == [
        {"filter": "organ: values=('head',)", "before": 6, "after": 2},
        {"filter": "answer: max_words=1", "before": 2, "after": 1},
    ]
    assert rows.fingerprint["n"] == 1 and "filters" not in ROWS.fingerprint


def test_an_unknown_field_or_value_and_an_empty_result_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no text field 'orgam' to filter by\. Did you mean `organ`"):
        kept(ROWS, field="orgam", values=("head",))
    with pytest.raises(ValueError, match=r"no row has organ='haed'\. Did you mean `head`"):
        kept(ROWS, field="organ", values=("haed",))
    with pytest.raises(ValueError, match="leaves none of 6 rows"):
        kept(ROWS, field="answer", min_words=9)


def test_a_prepared_source_is_filtered_before_it_is_limited(dummy_dir: Any) -> None:
    source = SourceConfig(
        dataset="vqa_rad", builder_config="official", where=(FilterConfig("answer_type", values=("closed",)),), limit=2
    )
    rows = load_rows(source, DataConfig(data_dir=str(dummy_dir)))
    assert [row["answer_type"] for row in rows] == ["closed"] * 2
    assert rows.fingerprint["filters"][0]["before"] == 13
