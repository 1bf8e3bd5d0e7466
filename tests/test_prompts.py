"""One wording for every use."""

import pytest

from radvqa_jax.prompts import SEPARATOR, row_text, vqa_prefix

ROW = {"question": " Is there\na  mass?", "answer": " yes,\n left ", "caption": "a \n chest", "language": ""}


def test_a_question_becomes_one_line_in_the_template() -> None:
    assert vqa_prefix(ROW["question"]) == "answer en Is there a mass?"
    assert vqa_prefix("is {this} a {question}?", template="ask {question}") == "ask is {this} a {question}?"
    assert SEPARATOR not in vqa_prefix(ROW["question"])


def test_a_template_without_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.prompt='answer en' must contain \{question\}"):
        vqa_prefix("why?", template="answer en")


def test_a_row_becomes_prefix_and_suffix() -> None:
    assert row_text(ROW, task="vqa", template="Q {question}") == ("Q Is there a mass?", "yes, left")
    assert row_text(ROW, task="caption", template="") == ("caption en", "a chest")
    assert row_text(ROW | {"language": "de"}, task="caption", template="") == ("caption de", "a chest")


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task='ocr' is unknown\. Give `vqa` or `caption`"):
        row_text(ROW, task="ocr", template="")
