"""Prompts have one wording for every use."""

from typing import Any

import pytest

from radvqa_jax.data.tokenizer import SEPARATOR
from radvqa_jax.prompts import row_text, vqa_prefix

ROW: dict[str, Any] = {
    "question": " Is there\na  mass?",
    "answer": " yes,\n left ",
    "caption": "a \n chest",
    "language": "",
}


def test_a_question_becomes_one_line_in_the_template() -> None:
    assert vqa_prefix(ROW["question"]) == "answer en Is there a mass?"
    assert vqa_prefix("is {this} a {question}?", template="ask {question}") == "ask is {this} a {question}?"
    assert SEPARATOR not in vqa_prefix(ROW["question"])


def test_options_are_in_the_prompt_where_the_template_has_them() -> None:
    template = "answer en {question} {choices}"
    row = ROW | {"choices": ["a lung", "{question}"]}
    assert row_text(row, task="vqa", template=template)[0] == "answer en Is there a mass? A) a lung B) {question}"
    assert row_text(ROW, task="vqa", template=template)[0] == "answer en Is there a mass?"
    assert row_text(row, task="vqa", template="Q {question}")[0] == "Q Is there a mass?"
    assert vqa_prefix("what is {choices}?", template=template, choices=["x"]) == "answer en what is {choices}? A) x"


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


def test_a_caption_is_asked_for_with_the_wording_of_its_source() -> None:
    asked, _ = row_text(ROW, task="caption", template="", caption_prompt="Describe\n it. ")
    assert asked == "Describe it."
    assert row_text(ROW, task="vqa", template="Q {question}", caption_prompt="Describe it.")[0] == "Q Is there a mass?"
