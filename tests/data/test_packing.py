"""Prefix and suffix -> rows and masks, equal to the reference, and what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax.data.packing import Rejected, describe_tokens, pack, pack_prompt, reference_rows
from radvqa_jax.data.tokenizer import Tokenizer

LONG = "axial MRI shows left lung nodule, 12 mm in diameter."


def test_rows_equal_the_reference(tokenizer: Tokenizer, golden: Path) -> None:
    cases = json.loads((golden / "tokenizer.json").read_text())["packed"]
    assert len(cases) == 3
    for case in cases:
        have = reference_rows(tokenizer, case["prefix"], suffix=case["suffix"], seq_len=case["seq_len"])
        assert have == {"train": case["train"], "eval": case["eval"]}


@pytest.mark.parametrize("policy", ["error", "reject", "cut"])
def test_rows_that_fit_are_the_reference_under_every_policy(tokenizer: Tokenizer, policy: str) -> None:
    have = pack(tokenizer, "caption en", suffix=LONG, seq_len=24, overlong=policy)  # pyright: ignore[reportArgumentType]
    want = pack(tokenizer, "caption en", suffix=LONG, seq_len=24, overlong="reference")
    for name in want:
        np.testing.assert_array_equal(have[name], want[name], err_msg=name)


def test_a_row_has_its_parts_in_order(tokenizer: Tokenizer) -> None:
    row = pack(tokenizer, "answer en Is it?", suffix="yes", seq_len=31)
    prompt = tokenizer.encode("answer en Is it?", bos=True) + tokenizer.encode("\n")
    answer = tokenizer.encode("yes", eos=True)
    assert all(value.dtype == np.int32 and value.shape == (32,) for value in row.values())
    assert row["tokens"].tolist() == prompt + answer + [tokenizer.pad] * (32 - len(prompt) - len(answer))
    assert row["tokens"][row["mask_loss"] == 1].tolist() == answer
    assert row["tokens"][row["mask_ar"] == 0].tolist() == prompt
    assert row["tokens"][row["mask_input"] == 1].tolist() == prompt + answer


def exact_length(tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode("caption en", bos=True)) + 1 + len(tokenizer.encode(LONG, eos=True))


def test_an_answer_may_fill_the_row(tokenizer: Tokenizer) -> None:
    row = pack(tokenizer, "caption en", suffix=LONG, seq_len=exact_length(tokenizer) - 1, overlong="error")
    assert row["tokens"][-1] == tokenizer.eos
    assert row["mask_loss"][-1] == 1


def test_one_token_too_many_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"The answer 'axial MRI.*takes 16 tokens with EOS.*room for 15"):
        pack(tokenizer, "caption en", suffix=LONG, seq_len=exact_length(tokenizer) - 2, overlong="error")


def test_one_token_too_many_is_rejected_with_its_reason(tokenizer: Tokenizer) -> None:
    with pytest.raises(Rejected) as caught:
        pack(tokenizer, "caption en", suffix=LONG, seq_len=exact_length(tokenizer) - 2, overlong="reject")
    assert caught.value.reason == "overlong_answer"
    assert "data.overlong" not in str(caught.value)


@pytest.mark.parametrize("seq_len", [8, 12, 18])
def test_a_cut_answer_keeps_its_eos(tokenizer: Tokenizer, seq_len: int) -> None:
    row = pack(tokenizer, "caption en", suffix=LONG, seq_len=seq_len, overlong="cut")
    answer = row["tokens"][row["mask_loss"] == 1]
    assert answer[-1] == tokenizer.eos
    assert row["tokens"].tolist().count(tokenizer.eos) == 1
    assert answer[:-1].tolist() == tokenizer.encode(LONG)[: len(answer) - 1]
    assert row["mask_input"].all()


@pytest.mark.parametrize("policy", ["error", "reject", "cut"])
def test_an_overlong_prefix_is_an_error_under_every_policy(tokenizer: Tokenizer, policy: str) -> None:
    with pytest.raises(Rejected, match="A question is never cut") as caught:
        pack(tokenizer, LONG, suffix="no", seq_len=10, overlong=policy)  # pyright: ignore[reportArgumentType]
    assert caught.value.reason == "overlong_question"


def test_a_prompt_may_fill_the_row_and_no_more(tokenizer: Tokenizer) -> None:
    length = len(tokenizer.encode(LONG, bos=True)) + 1
    row = pack_prompt(tokenizer, LONG, seq_len=length)
    assert row["mask_input"].all() and not row["mask_ar"].any()
    with pytest.raises(ValueError, match=f"takes {length} tokens.*room for {length - 1}"):
        pack_prompt(tokenizer, LONG, seq_len=length - 1)


def test_a_prompt_is_the_beginning_of_its_training_row(tokenizer: Tokenizer) -> None:
    prompt = pack_prompt(tokenizer, "caption en", seq_len=24)
    row = pack(tokenizer, "caption en", suffix=LONG, seq_len=24)
    real = prompt["mask_input"] == 1
    np.testing.assert_array_equal(prompt["tokens"][real], row["tokens"][:-1][real])
    np.testing.assert_array_equal(prompt["mask_ar"], row["mask_ar"][:-1])
    assert not prompt["mask_loss"].any()


def test_a_row_is_described_token_by_token(tokenizer: Tokenizer) -> None:
    row = pack(tokenizer, "caption en", suffix="no", seq_len=15)
    head, *lines, last = describe_tokens(tokenizer, row).splitlines()
    pieces = [line.split()[3] for line in lines]
    masks = [tuple(map(int, line.split()[1:3])) for line in lines]
    prompt, answer = tokenizer.encode("caption en", bos=True), tokenizer.encode("no", eos=True)
    assert head.split() == ["#", "ar", "loss", "token"]
    assert pieces == [*map(tokenizer.piece, prompt), "\\n", *map(tokenizer.piece, answer)]
    assert pieces[0] == "<s>" and pieces[-1] == "</s>"
    assert masks == [(0, 0)] * (len(prompt) + 1) + [(1, 1)] * len(answer)
    assert last.startswith(f"then {16 - len(lines)} of padding")
