"""Rows that cannot be scored are found before anything is trained or asked."""

import pytest

from radvqa_jax.evaluation.scorable import scorable
from tests.data.conftest import fake_rows


def test_rows_without_question_or_answer_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = fake_rows(5, question=["Is it?", "?", "Where?", "Where?", "What?"], answer=["no", "", "-", " ? ", "无"])
    found = scorable(rows)
    assert found.column("question_id") == ["0", "4"]
    assert found.fingerprint["left_out"] == {"empty_question": 1, "empty_answer": 2} and found.fingerprint["n"] == 2
    assert "left_out" not in rows.fingerprint
    said = capsys.readouterr().out
    assert "3 of 5 questions of fake:train cannot be scored (empty_question: 1, empty_answer: 2)" in said
    assert "left out of every score: 1, 2, 3. Complete them" in said
    assert scorable(found) is found


def test_a_caption_needs_no_question() -> None:
    rows = fake_rows(3, task="caption", question=["", "", ""], answer=["", "", ""], caption=["A chest.", ".", "x"])
    found = scorable(rows)
    assert found.column("question_id") == ["0", "2"] and found.fingerprint["left_out"] == {"empty_answer": 1}


def test_an_evaluation_without_a_row_that_can_be_scored_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"fake:train: no row can be scored \(empty_answer: 2 of 2\)"):
        scorable(fake_rows(2, answer=["-", ""]))


def test_a_reference_that_is_not_among_the_choices_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'1': the reference 'MRI' is not among the choices"):
        scorable(fake_rows(2, answer=["CT", "MRI"], choices=[["CT", "US"], ["CT", "US"]]))
