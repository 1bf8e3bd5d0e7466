"""Values that the parts exchange keep their form."""

from typing import Any

import jax
import numpy as np
import pytest

from radvqa_jax.schema import Batch, Record

RECORD = Record("q1", "i1", "what?", "lung", ["lung", "heart"], [-0.5, -2.0], answer_type="open", run="stage1")
RECORD = RECORD._replace(token_ids=[[7, 1], [8, 9]], ended=[True, False])


@pytest.mark.parametrize("seed", range(5))
def test_a_fake_batch_is_well_formed_and_has_the_spec(seed: int) -> None:
    batch, spec = Batch.fake(6, 8, 9, seed=seed), Batch.spec(6, 8, 9)
    for name, array, shape in zip(Batch._fields, batch, spec, strict=True):
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype), name
    assert np.abs(batch.image).max() <= 1
    assert ((np.diff(batch.mask_input, axis=1) <= 0) & (batch.mask_input[:, :1] == 1)).all()  # padding on the right
    assert (np.diff(batch.mask_ar, axis=1) >= 0).all()  # a prefix, then causal to the end
    assert (batch.mask_ar[:, :2] == 0).all()
    np.testing.assert_array_equal(batch.mask_loss, batch.mask_ar * batch.mask_input)
    assert (batch.mask_loss.sum(axis=1) >= 1).all()
    assert not batch.tokens[batch.mask_input == 0].any()
    assert batch.tokens[batch.mask_input == 1].min() >= 4
    assert batch.mask_example.all()


def test_a_batch_is_a_tree_of_its_arrays() -> None:
    doubled = jax.tree.map(lambda x: np.concatenate([x, x]), Batch.fake(2, 8, 9))
    assert isinstance(doubled, Batch)
    assert doubled.tokens.shape == (4, 10)


def test_a_record_is_read_back() -> None:
    assert Record.from_json(RECORD.to_json()) == RECORD
    least = {"question_id": "q", "image_id": "i", "question": "?", "reference": "r", "predictions": ["a"]}
    assert Record.from_json(least) == Record("q", "i", "?", "r", ["a"], [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"verdict": "correct"}, "field `verdict` is unknown"),
        ({"predictions": "yes"}, 'field `predictions` must be a list; got "yes"'),
        ({"predictions": [None]}, r"field `predictions\[0\]` must be text; got null"),
        ({"logprobs": [float("nan")]}, r"field `logprobs\[0\]` must be a finite number; got NaN"),
        ({"logprobs": [0.5]}, r"field `logprobs\[0\]` must be less than or equal to 0; got 0.5"),
        ({"reference": 3}, "field `reference` must be text; got 3"),
        ({"choices": "A|B"}, "field `choices` must be a list"),
    ],
)
def test_an_invalid_field_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^p.jsonl, line 7: {message}"):
        Record.from_json(RECORD.to_json() | changed, where="p.jsonl, line 7")


def test_a_missing_field_is_named() -> None:
    row = RECORD.to_json()
    del row["reference"]
    with pytest.raises(ValueError, match="field `reference` is missing"):
        Record.from_json(row)


@pytest.mark.parametrize(("given", "read"), [("CLOSED ", "closed"), ("Open", "open"), ("", ""), (" ", "")])
def test_an_answer_type_may_be_in_capitals(given: str, read: str) -> None:
    assert Record.from_json(RECORD.to_json() | {"answer_type": given}).answer_type == read


def test_an_answer_type_that_is_neither_closed_nor_open_is_refused() -> None:
    with pytest.raises(ValueError, match='field `answer_type` must be closed, open or empty; got "close"'):
        Record.from_json(RECORD.to_json() | {"answer_type": "close"})
