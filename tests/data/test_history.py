"""Questions about one image in a row: the turns in a prompt, those left out, and that no answer leaks."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from radvqa_jax.config import DataConfig
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.data.history import Conversations, earlier_numbers, with_references
from radvqa_jax.data.loader import make_train_loader
from radvqa_jax.data.packing import pack
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer

from .conftest import fake_rows

PROMPT = "{history} answer en {question}"
DATA = DataConfig(prompt=PROMPT, history="references", seq_len=160)
ALONE = dataclasses.replace(DATA, history="none")
IMAGES = ["a", "b", "a", "a", "b", "", "", "a"]
QUESTIONS = ["one", "two", "three", "four", "five", "six", "seven", "ONE?"]
ANSWERS = ["axial", "left", "liver", "lung", "right", "brain", "knee", "coronal"]


def conversations(order: list[int] | None = None, **changed: Any) -> RowSource:
    order = list(range(len(IMAGES))) if order is None else order
    fields = {"image_id": IMAGES, "question": QUESTIONS, "answer": ANSWERS, "question_id": QUESTIONS} | changed
    chosen: Any = {name: [values[number] for number in order] for name, values in fields.items()}
    return fake_rows(len(order), **chosen)


def prompts(rows: RowSource, data: DataConfig = DATA) -> dict[str, str]:
    return {row["question_id"]: rows.text(row, template=data.prompt)[0] for row in rows.texts()}


def test_a_prompt_holds_the_earlier_questions_of_its_image_and_their_answers(tokenizer: Tokenizer) -> None:
    rows = with_references(conversations(), data=DATA, tokenizer=tokenizer)
    assert prompts(rows)["four"] == "one axial. three liver. answer en four"
    assert prompts(rows)["five"] == "two left. answer en five"
    assert prompts(rows)["six"] == "answer en six" and prompts(rows)["seven"] == "answer en seven"  # no image
    assert rows[3]["_history"] == list(rows.texts())[3]["_history"]


def test_no_prompt_holds_the_answer_to_its_own_question(tokenizer: Tokenizer) -> None:
    """Not even if the question was asked before: the last one of image a repeats the first."""
    rows = with_references(conversations(), data=DATA, tokenizer=tokenizer)
    for row in rows.texts():
        prefix, answer = rows.text(row, template=PROMPT)
        assert answer not in prefix, prefix
    assert prompts(rows)["ONE?"] == "three liver. four lung. answer en ONE?"
    assert rows.fingerprint["history"] == {"questions": 8, "turns": 7, "shown": 6, "repeated": 1, "too_long": 0}


@pytest.mark.parametrize("order", [[1, 4, 0, 2, 3, 7, 5, 6], [0, 2, 1, 6, 3, 4, 7, 5]])
def test_other_images_in_between_change_nothing(tokenizer: Tokenizer, order: list[int]) -> None:
    one = with_references(conversations(), data=DATA, tokenizer=tokenizer)
    other = with_references(conversations(order), data=DATA, tokenizer=tokenizer)
    assert prompts(one) == prompts(other)


@pytest.mark.parametrize("answers", [False, True])
def test_the_oldest_turns_are_left_out_and_counted(tokenizer: Tokenizer, answers: bool) -> None:
    whole = with_references(conversations(), data=DATA, tokenizer=tokenizer)
    (longest,) = (row for row in whole.texts() if row["question_id"] == "ONE?")
    prefix, suffix = whole.text(longest, template=PROMPT)
    row = pack(tokenizer, prefix, suffix=suffix, seq_len=160)
    needed = int(row["mask_input"].sum()) - 1 if answers else int((row["mask_input"] * (1 - row["mask_ar"])).sum())
    for seq_len, shown in ((needed, "three liver. four lung. "), (needed - 1, "four lung. ")):
        data = dataclasses.replace(DATA, seq_len=seq_len)
        rows = with_references(conversations(), data=data, tokenizer=tokenizer, answers=answers)
        assert prompts(rows)["ONE?"] == f"{shown}answer en ONE?"
        assert rows.fingerprint["history"]["too_long"] == (0 if shown.startswith("three") else 1)


def test_a_question_asked_alone_is_unchanged_by_the_setting(tokenizer: Tokenizer) -> None:
    """The same tokens and images as from a template that knows no history, in evaluation and training."""
    plain = dataclasses.replace(ALONE, prompt="answer en {question}")
    rows = conversations()
    assert with_references(rows, data=ALONE, tokenizer=tokenizer) is rows
    for name in ("evaluation", "training"):
        made = []
        for data in (ALONE, plain):
            if name == "evaluation":
                made += [next(eval_batches(rows, data=data, tokenizer=tokenizer, resolution=4, batch_size=8))[0]]
            else:
                made += [next(loader(rows, data, tokenizer))]
        for one, other in zip(*made, strict=True):
            np.testing.assert_array_equal(one, other)


def loader(rows: RowSource, data: DataConfig, tokenizer: Tokenizer) -> Any:
    return make_train_loader(
        [rows], data=data, tokenizer=tokenizer, resolution=4, batch_size=8, seed=0, total_batches=lambda rows: 1
    )


def test_training_reads_the_history_and_learns_only_the_answer(tokenizer: Tokenizer) -> None:
    batch = next(loader(conversations(), DATA, tokenizer))
    told = with_references(conversations(), data=DATA, tokenizer=tokenizer, answers=True)
    want = {(prefix, suffix) for prefix, suffix in (told.text(row, template=PROMPT) for row in told.texts())}
    found = set()
    for tokens, target, real in zip(batch.tokens, batch.mask_loss, batch.mask_input, strict=True):
        prefix = tokenizer.decode(tokens[(real == 1) & (target == 0)].tolist())
        found.add((prefix.strip(), tokenizer.decode(tokens[target == 1].tolist()).strip()))
    assert {(" ".join(prefix.split()), suffix) for prefix, suffix in found} == want


def test_own_history_is_never_shown_in_training(tokenizer: Tokenizer) -> None:
    """In training, `own` means the references, because there is no answer yet."""
    own = next(loader(conversations(), dataclasses.replace(DATA, history="own"), tokenizer))
    for one, other in zip(own, next(loader(conversations(), DATA, tokenizer)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_captions_have_no_history(tokenizer: Tokenizer) -> None:
    rows = fake_rows(2, task="caption", image_id=["a", "a"], caption=["x", "y"])
    assert with_references(rows, data=DATA, tokenizer=tokenizer) is rows


def test_turns_are_numbered_by_image(tokenizer: Tokenizer) -> None:
    found = Conversations(conversations(), data=DATA, tokenizer=tokenizer).turns()
    assert found == [[0, 1, 5, 6], [2, 4], [3], [7]]
    assert earlier_numbers(IMAGES)[7] == [0, 2, 3]


def test_a_selection_keeps_the_turns_and_another_number_of_them_is_refused(tokenizer: Tokenizer) -> None:
    rows = with_references(conversations(), data=DATA, tokenizer=tokenizer)
    assert prompts(rows.select([7, 4])) == {name: prompts(rows)[name] for name in ("ONE?", "five")}
    assert prompts(rows.with_image(b"", image_id="blank")) == prompts(rows)
    with pytest.raises(ValueError, match="8 rows, 1 histories"):
        rows.with_history([()])
