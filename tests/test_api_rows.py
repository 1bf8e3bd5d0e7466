"""Rows in memory are typed, and what could mean two things is refused."""

from typing import Any

import numpy as np
import pytest

import radvqa_jax
from radvqa_jax.api_rows import rows_of_table
from radvqa_jax.decoding import answer_logprobs

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
ROW: dict[str, Any] = {"image": IMAGE, "question": "Is there a mass?", "answer": "left"}
CHOICES = {"choices": ["left", "right"]}


def made(**fields: Any) -> dict[str, Any]:
    return next(iter(rows_of_table([ROW | fields]).texts()))


def test_a_row_without_a_language_is_chinese_if_its_text_is() -> None:
    row = made(question="图中有肿块吗", answer="是")
    assert (row["language"], row["yes_no"], row["answer_type"]) == ("zh", True, "closed")
    assert (made()["language"], made()["answer_type"]) == ("en", "open")


def test_gaps_of_a_data_frame_are_absent_and_its_index_is_an_id() -> None:
    row = made(image_id=None, question_id=5, organ=float("nan"), answer_index=-1)
    assert row["question_id"] == "5" and row["organ"] == "" and row["image_id"].startswith("image ")


def test_rows_with_the_same_pixels_are_about_one_image() -> None:
    rows = list(rows_of_table([ROW, ROW | {"image": IMAGE.copy()}, ROW | {"image": 255 - IMAGE}]).texts())
    assert rows[0]["image_id"] == rows[1]["image_id"] != rows[2]["image_id"]
    with pytest.raises(ValueError, match="Rows 1 and 2 have image_id 'x' and different images"):
        rows_of_table([ROW | {"image_id": "x"}, ROW | {"image_id": "x", "image": 255 - IMAGE}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (CHOICES | {"answer_index": 1}, "answer_index=1 is 'right', and answer is 'left'"),
        (CHOICES | {"answer_index": 2}, "answer_index=2 is not the place of one of 2 choices, from 0"),
        ({"answer_index": 0}, "answer_index=0 is not the place of one of 0 choices"),
        (CHOICES | {"answer_index": "0"}, "answer_index must be an integer; got '0'"),
        ({"choices": "left"}, "choices must be a list of texts; got 'left'"),
        ({"choices": [1, 2]}, "choices must be a list of texts"),
        ({"choices": 5}, "choices must be a list of texts; got 5"),
        ({"choices": {"left", "right"}}, "choices must be a list of texts"),  # its order differs between runs
        ({"choices": np.array("left")}, "choices must be a list of texts"),
        ({"yes_no": "yes"}, "yes_no must be True or False; got 'yes'"),
        ({"organ": 3}, "organ must be text; got 3"),
        ({"image_id": True}, "image_id must be text; got True"),
    ],
)
def test_fields_that_contradict_or_have_another_type_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Row 1: {message}"):
        made(**fields)


def test_many_answers_go_through_the_model_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = radvqa_jax.load("embedded")
    answers = [f"word {number}" for number in range(11)]
    sizes: list[int] = []
    real = answer_logprobs.answer_logprobs

    def counted(model: Any, params: Any, batch: Any) -> Any:
        sizes.append(len(batch.mask_example))
        return real(model, params, batch)

    monkeypatch.setattr(answer_logprobs, "answer_logprobs", counted)
    whole = model.logprobs(IMAGE, "Is there a mass?", answers).logprobs
    alone = model.logprobs(IMAGE, "Is there a mass?", answers[10:]).logprobs
    assert sizes == [8, 8, 1] and list(whole) == answers
    assert whole[answers[10]] == pytest.approx(alone[answers[10]], abs=1e-4)
